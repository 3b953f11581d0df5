"""Cache-Control for this cache alone (RFC 9213), in the order Edge-Cache-Control, CDN-Cache-Control, Cache-Control."""

from __future__ import annotations

import pytest

from tests.rules.cases import parameters
from tests.rules.conftest import Outcome
from tests.rules.story import Ask, Case, says

NEW = says("new", "max-age=600")
EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"


def governed(title: str, kept: bool, control: str | None, /, rules: str = "9213-2.2", **fields: str | None) -> Case:
    second = Ask(asks=not kept, body="old" if kept else "new")
    return Case(f"targeted-{title}", rules, [says("old", control, **fields), NEW], [Ask(asks=True, body="old"), second])


CASES = [
    governed("cdn-before-cache-control", True, "no-store", CDN_Cache_Control="max-age=600"),
    governed("cdn-forbids", False, "max-age=600", CDN_Cache_Control="no-store"),
    governed("cdn-private", False, "max-age=600", CDN_Cache_Control="private"),
    governed("cdn-zero", False, "max-age=600", CDN_Cache_Control="max-age=0"),
    governed("edge-before-cdn", True, "no-store", Edge_Cache_Control="max-age=600", CDN_Cache_Control="no-store"),
    governed("edge-forbids-what-cdn-allows", False, None, Edge_Cache_Control="no-store", CDN_Cache_Control="max-age=9"),
    governed("before-expires", True, None, CDN_Cache_Control="max-age=600", Expires=EPOCH),
    governed("s-maxage", True, "no-store", CDN_Cache_Control="max-age=0, s-maxage=600"),
    governed("case-of-the-name", True, "no-store", rules="9213-2.2 9110-5.1", cdn_cache_control="max-age=600"),
    governed("parameters-are-ignored", True, "no-store", rules="9213-2.1", CDN_Cache_Control="max-age=600;x=1"),
    governed("unknown-directives", True, "no-store", rules="9213-2.1", CDN_Cache_Control="max-age=600, shiny=?0"),
    governed("no-dictionary-falls-back", True, "max-age=600", rules="9213-2.1", CDN_Cache_Control="no-store, ="),
    governed("broken-falls-back-to-no-store", False, "no-store", rules="9213-2.1", CDN_Cache_Control="max-age=600;;"),
    governed("capitals-are-no-key", False, "no-store", rules="9213-2.1", CDN_Cache_Control="MAX-AGE=600"),
    governed("empty-falls-back", True, "max-age=600", rules="9213-2.2", CDN_Cache_Control=""),
    governed("broken-edge-falls-to-cdn", True, "no-store", Edge_Cache_Control="=", CDN_Cache_Control="max-age=600"),
    governed("number-in-quotes-is-none", False, "max-age=600", rules="9213-2.1", CDN_Cache_Control='max-age="600"'),
    governed("decimal-is-none", False, "max-age=600", rules="9213-2.1", CDN_Cache_Control="max-age=600.5"),
    governed("of-others-is-nothing", False, "no-store", Other_Cache_Control="max-age=600"),
    governed("surrogate-control-is-no-target", False, "no-store", Surrogate_Control="no-store"),
    Case(
        "targeted-two-lines-are-one-dictionary",
        "9213-2.1 9110-5.3",
        [says("old", "no-store", CDN_Cache_Control="max-age=600, public"), NEW],
        [Ask(asks=True), Ask(asks=False, body="old")],
    ),
    Case(
        "targeted-downstream-sees-its-own",
        "9213-3.1 9111-5.2",
        [says("old", "max-age=5", CDN_Cache_Control="max-age=600")],
        [
            Ask(asks=True, has={"Cache-Control": "max-age=5", "CDN-Cache-Control": "max-age=600"}),
            Ask(asks=False, has={"Cache-Control": "max-age=5"}),
        ],
    ),
    Case(
        "targeted-stale-while-revalidate",
        "9213-2.2 5861-3",
        [
            says("old", "no-store", CDN_Cache_Control="max-age=1, stale-while-revalidate=60", ETag='"t"'),
            says("new", None, CDN_Cache_Control="max-age=600"),
        ],
        [
            Ask(asks=True, body="old"),
            Ask(wait_s=2.3, asks=False, behind=True, body="old"),
            Ask(asks=False, body="new"),
        ],
    ),
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_targeted(case: Case, outcome: Outcome) -> None:
    outcome(case)
