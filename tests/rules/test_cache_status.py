"""Cache-Status as an operator reads it (RFC 9211)."""

from __future__ import annotations

import re

import pytest

from tests.rules.cases import parameters
from tests.rules.conftest import Outcome
from tests.rules.story import LOST, Ask, Case, says, unchanged

FRESH, STALE, TAG = "max-age=600", "max-age=0", '"t"'
MISS = "edge; fwd=uri-miss; fwd-status=200; stored"

CASES = [
    Case(
        "status-miss-then-hit",
        "9211-2",
        [says("old", FRESH)],
        [Ask(cache=MISS), Ask(cache="edge; hit; ttl=600; detail=ram", asks=False)],
    ),
    Case(
        "status-ttl-counts-the-age",
        "9211-2.4",
        [says("old", FRESH, Age="100")],
        [Ask(), Ask(cache="edge; hit; ttl=500", asks=False)],
    ),
    Case(
        "status-not-stored",
        "9211-2.2 9211-2.5",
        [says("old", "no-store")],
        [Ask(cache="edge; fwd=uri-miss; fwd-status=200")],
    ),
    Case(
        "status-method",
        "9211-2.2",
        [says("done", None)],
        [Ask(method="POST", cache="edge; fwd=method; fwd-status=200")],
    ),
    Case(
        "status-method-unknown",
        "9211-2.2",
        [says("done", None)],
        [Ask(method="M-SEARCH", cache="edge; fwd=method; fwd-status=200")],
    ),
    Case(
        "status-request",
        "9211-2.2",
        [says("old", FRESH), says("new", FRESH)],
        [Ask(), Ask(lines=("Cache-Control: no-cache",), cache="edge; fwd=request; fwd-status=200; stored")],
    ),
    Case(
        "status-request-confirmed",
        "9211-2.2 9211-2.3",
        [says("old", FRESH, ETag=TAG), unchanged(FRESH, ETag=TAG)],
        [Ask(), Ask(lines=("Cache-Control: no-cache",), cache="edge; fwd=request; fwd-status=304")],
    ),
    Case(
        "status-stale-confirmed",
        "9211-2.2 9211-2.3",
        [says("old", STALE, ETag=TAG), unchanged(FRESH, ETag=TAG)],
        [Ask(), Ask(cache="edge; fwd=stale; fwd-status=304"), Ask(cache="edge; hit; ttl=600", asks=False)],
    ),
    Case(
        "status-stale-replaced",
        "9211-2.2 9211-2.3",
        [says("old", STALE, ETag=TAG), says("new", FRESH)],
        [Ask(), Ask(cache="edge; fwd=stale; fwd-status=200; stored")],
    ),
    Case(
        "status-stale-kept-on-error",
        "9211-2 5861-4",
        [says("old", "max-age=1, stale-if-error=60", ETag=TAG), says("", None, 503)],
        [Ask(), Ask(wait_s=2.3, body="old", cache="edge; fwd=stale; fwd-status=503")],
    ),
    Case(
        "status-vary-miss",
        "9211-2.2",
        [says("a", FRESH, Vary="X-One"), says("b", FRESH, Vary="X-One")],
        [
            Ask(lines=("X-One: a",), cache=MISS),
            Ask(lines=("X-One: b",), cache="edge; fwd=vary-miss; fwd-status=200; stored"),
        ],
    ),
    Case(
        "status-error-of-the-origin",
        "9211-2.3",
        [says("", None, 500)],
        [Ask(status=500, cache="edge; fwd=uri-miss; fwd-status=500")],
    ),
    Case(
        "status-negative-answer-is-stored",
        "9211-2.5",
        [says("none", FRESH, 404)],
        [
            Ask(status=404, cache="edge; fwd=uri-miss; fwd-status=404; stored"),
            Ask(status=404, cache="edge; hit; ttl=600", asks=False),
        ],
    ),
    Case(
        "status-no-answer-from-the-origin",
        "9211-2.2 9110-15.6.3",
        [LOST],
        [Ask(status=(502, 504), has={"Cache-Status": None})],  # not on what is generated here (9211-2)
    ),
    Case(
        "status-only-if-cached",
        "9211-2",
        [says("old", FRESH)],
        [Ask(lines=("Cache-Control: only-if-cached",), status=504, asks=False)],
    ),
    Case(
        "status-of-a-parent-stays-first",
        "9211-2",
        [says("old", FRESH, Cache_Status="Parent; hit; ttl=30")],
        [
            Ask(has={"Cache-Status": re.compile("Parent; hit; ttl=30, ?edge;.*")}, cache=MISS),
            Ask(has={"Cache-Status": re.compile("Parent; hit; ttl=30, ?edge; hit.*")}, asks=False),
        ],
    ),
    Case(
        "status-304-to-the-client",
        "9211-2",
        [says("old", FRESH, ETag=TAG)],
        [Ask(), Ask(lines=(f"If-None-Match: {TAG}",), status=304, cache="edge; hit; ttl=600", asks=False)],
    ),
    Case(
        "status-range-of-what-is-stored",
        "9211-2",
        [says("0123456789", FRESH, ETag=TAG)],
        [
            Ask(),
            Ask(lines=("Range: bytes=2-3",), status=206, body="23", cache="edge; hit; ttl=600", asks=False),
        ],
    ),
    Case(
        "status-head-hit",
        "9211-2",
        [says("old", FRESH)],
        [Ask(), Ask(method="HEAD", cache="edge; hit; ttl=600", asks=False)],
    ),
    Case(
        "status-authorization",
        "9211-2.2 9111-3.5",
        [says("old", FRESH)],
        [
            Ask(
                lines=("Authorization: a",),
                cache=None,
                has={"Cache-Status": re.compile("edge; fwd=[a-z-]+; fwd-status=200")},
            )
        ],
    ),
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_cache_status(case: Case, outcome: Outcome) -> None:
    outcome(case)
