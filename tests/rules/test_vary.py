"""Vary: what of a request selects among the stored answers (RFC 9111, 4.1)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from loadtest.answer import Request
from loadtest.faults import Step
from tests.rules.cases import parameters
from tests.rules.conftest import Outcome
from tests.rules.story import Ask, Case, Handler, says

FRESH = "max-age=600"


def by(*names: str, control: str = FRESH, vary: str | None = None) -> Handler:
    """An origin that answers with the fields it was sent, and varies by them."""

    def answer(request: Request) -> Step:
        values = [f"{name}={request.header(name)}" for name in names]
        return says("|".join(values), control, Vary=vary or ", ".join(names), ETag=f'"{"|".join(values)}"')

    return answer


def language(value: str, asks: bool, **more: Any) -> Ask:
    return Ask(lines=(f"Accept-Language: {value}",), asks=asks, **more)


def coding(value: str, asks: bool, **more: Any) -> Ask:
    return Ask(lines=(f"Accept-Encoding: {value}",), asks=asks, **more)


def alike(title: str, name: str, first: str, second: str, *, must: bool | None = True) -> Case:
    """Two spellings that mean the same. Where a cache need not know that (must=None), either is right."""
    asks = [
        Ask(lines=(f"{name}: {first}",), asks=True),
        Ask(lines=(f"{name}: {second}",), asks=None if must is None else False),
    ]
    return Case(title, "9111-4.1", [says("one", FRESH, Vary=name)], asks)


def apart(title: str, name: str, first: str | None, second: str | None) -> Case:
    """Two values that are not the same: the second must not get the first's answer."""
    lines = [(f"{name}: {value}",) if value is not None else () for value in (first, second)]
    asks = [
        Ask(lines=line, asks=True, body=f"{name}={value}") for line, value in zip(lines, (first, second), strict=True)
    ]
    return Case(title, "9111-4.1", by(name), asks)


def star(title: str, *values: str) -> Case:
    step = says("1", FRESH, Vary=values[0], ETag='"a"')
    more = tuple(("Vary", value) for value in values[1:])
    first = Step(status=200, body=b"1", headers=step.headers, add=more, ranges=False)
    second = Step(status=200, body=b"2", headers=step.headers, add=more, ranges=False)
    return Case(title, "9111-4.1 9110-12.5.5", [first, second], [Ask(asks=True, body="1"), Ask(asks=True, body="2")])


CASES = [
    Case(
        "vary-two-variants-side-by-side",
        "9111-4.1",
        by("Accept-Language"),
        [
            language("en", True, body="Accept-Language=en"),
            language("de", True, body="Accept-Language=de"),
            language("en", False, body="Accept-Language=en"),
            language("de", False, body="Accept-Language=de"),
        ],
    ),
    Case(
        "vary-miss-is-told",
        "9111-4.1 9211-2.2",
        by("Accept-Language"),
        [
            language("en", True, cache="edge; fwd=uri-miss; fwd-status=200; stored"),
            language("de", True, cache="edge; fwd=vary-miss; fwd-status=200; stored"),
            language("de", False, cache="edge; hit; ttl=600"),
        ],
    ),
    Case(
        "vary-the-origin-sees-the-selecting-field",
        "9111-4.1",
        by("X-Region"),
        [
            Ask(lines=("X-Region: north",), asks=True, sent={"X-Region": "north"}),
            Ask(lines=("X-Region: south",), asks=True, sent={"X-Region": "south"}, body="X-Region=south"),
        ],
    ),
    Case(
        "vary-is-sent-on-to-the-client",
        "9111-4.1 9110-12.5.5",
        by("Accept-Encoding"),
        [coding("gzip", True, has={"Vary": "Accept-Encoding"}), coding("gzip", False, has={"Vary": "Accept-Encoding"})],
    ),
    Case(
        "vary-two-fields-both-must-match",
        "9111-4.1",
        by("X-One", "X-Two"),
        [
            Ask(lines=("X-One: a", "X-Two: b"), asks=True, body="X-One=a|X-Two=b"),
            Ask(lines=("X-One: a", "X-Two: c"), asks=True, body="X-One=a|X-Two=c"),
            Ask(lines=("X-One: c", "X-Two: b"), asks=True, body="X-One=c|X-Two=b"),
            Ask(lines=("X-Two: b", "X-One: a"), asks=False, body="X-One=a|X-Two=b"),
            Ask(lines=("X-One: a", "X-Two: c"), asks=False, body="X-One=a|X-Two=c"),
        ],
    ),
    Case(
        "vary-values-do-not-run-together",
        "9111-4.1",
        by("X-One", "X-Two"),
        [
            Ask(lines=("X-One: a", "X-Two: bc"), asks=True, body="X-One=a|X-Two=bc"),
            Ask(lines=("X-One: ab", "X-Two: c"), asks=True, body="X-One=ab|X-Two=c"),
            Ask(lines=("X-One: a, X-Two=bc",), asks=True, body="X-One=a, X-Two=bc|X-Two=None"),
        ],
    ),
    Case(
        "vary-on-two-lines",
        "9111-4.1 9110-5.2",
        lambda request: Step(
            status=200,
            body=f"{request.header('X-One')}{request.header('X-Two')}".encode(),
            headers={"Cache-Control": FRESH, "Vary": "X-One", "ETag": None, "Last-Modified": None},
            add=(("Vary", "X-Two"),),
            ranges=False,
        ),
        [
            Ask(lines=("X-One: a", "X-Two: b"), asks=True, body="ab"),
            Ask(lines=("X-One: a", "X-Two: c"), asks=True, body="ac"),
            Ask(lines=("X-One: a", "X-Two: b"), asks=False, body="ab"),
        ],
    ),
    Case(
        "vary-names-in-any-case",
        "9111-4.1 9110-5.1",
        by("X-One", vary="x-oNE"),
        [
            Ask(lines=("X-One: a",), asks=True),
            Ask(lines=("x-one: a",), asks=False),
            Ask(lines=("X-ONE: b",), asks=True, body="X-One=b"),
        ],
    ),
    Case(
        "vary-the-latest-answer-says-by-what",
        "9111-4.1",
        [
            says("plain", "max-age=1"),
            says("a", FRESH, Vary="X-One"),
            says("b", FRESH, Vary="X-One"),
        ],
        [
            Ask(lines=("X-One: a",), asks=True, body="plain"),
            Ask(lines=("X-One: a",), asks=True, body="a", wait_s=2.2),
            Ask(lines=("X-One: b",), asks=True, body="b"),
            Ask(lines=("X-One: a",), asks=False, body="a"),
        ],
    ),
    Case(
        "vary-each-variant-is-validated-by-itself",
        "9111-4.1 9111-4.3.1",
        by("Accept-Language", control="max-age=0"),
        [
            language("en", True),
            language("de", True),
            language(
                "en", True, sent={"If-None-Match": re.compile('.*"Accept-Language=en".*'), "Accept-Language": "en"}
            ),
        ],
    ),
    Case(
        "vary-a-variant-is-revalidated-with-its-own-fields",
        "9111-4.1 9111-4.3.4",
        lambda request: (
            says("", FRESH, 304, Vary="X-One", ETag='"t"')
            if request.header("If-None-Match")
            else says(f"{request.header('X-One')}", "max-age=0", Vary="X-One", ETag='"t"')
        ),
        [
            Ask(lines=("X-One: a",), asks=True, body="a"),
            Ask(lines=("X-One: a",), asks=True, body="a"),
            Ask(lines=("X-One: a",), asks=False, body="a"),
        ],
    ),
    Case(
        "vary-post-invalidates-every-variant",
        "9111-4.4 9111-4.1",
        by("X-One"),
        [
            Ask(lines=("X-One: a",), asks=True),
            Ask(lines=("X-One: b",), asks=True),
            Ask(lines=("X-One: a",), asks=False),
            Ask(method="POST", asks=True),
            Ask(lines=("X-One: a",), asks=True),
            Ask(lines=("X-One: b",), asks=True),
        ],
    ),
    Case(
        "vary-a-head-hit-of-its-variant",
        "9111-4.1 9110-9.3.2",
        by("X-One"),
        [
            Ask(lines=("X-One: a",), asks=True),
            Ask(lines=("X-One: bb",), asks=True),
            Ask(method="HEAD", lines=("X-One: bb",), asks=False, has={"Content-Length": str(len("X-One=bb"))}),
        ],
    ),
    Case(
        "vary-many-values-do-no-harm",
        "9111-4.1",
        by("X-One"),
        [
            *(Ask(lines=(f"X-One: {number}",), asks=True, body=f"X-One={number}") for number in range(70)),
            Ask(lines=("X-One: 69",), body="X-One=69"),
            Ask(lines=("X-One: 0",), body="X-One=0"),
        ],
    ),
    star("vary-star", "*"),
    star("vary-star-among-names", "Accept-Encoding, *"),
    star("vary-star-first", "*, Accept-Encoding"),
    star("vary-star-spaced", " , * ,"),
    star("vary-star-on-a-second-line", "Accept-Encoding", "*"),
    star("vary-star-twice", "*, *"),
    apart("vary-absent-is-not-empty", "X-One", None, ""),
    apart("vary-absent-is-not-a-value", "X-One", None, "a"),
    apart("vary-present-is-not-absent", "X-One", "a", None),
    apart("vary-unknown-fields-by-letter", "X-One", "a", "A"),
    apart("vary-order-may-be-a-preference", "X-One", "a, b", "b, a"),
    apart("vary-languages-apart", "Accept-Language", "en", "en-GB"),
    alike("vary-no-coding-is-asked-for", "Accept-Encoding", "gzip", "br"),
    alike("vary-a-refused-coding", "Accept-Encoding", "gzip", "gzip;q=0"),
    apart("vary-quoted-blanks-count", "X-One", '"a  b"', '"a b"'),
    alike("vary-same", "X-One", "a, b", "a, b"),
    alike("vary-blanks-around-commas", "X-One", "a, b", "a ,b"),
    alike("vary-blanks-missing", "X-One", "a, b", "a,b"),
    alike("vary-language-case", "Accept-Language", "en-GB, de", "EN-gb, DE"),
    alike("vary-language-blanks", "Accept-Language", "en, de;q=0.5", "en,de;q=0.5"),
    alike("vary-coding-order", "Accept-Encoding", "gzip, br", "br, gzip"),
    alike("vary-coding-case", "Accept-Encoding", "gzip, br", "GZIP, Br"),
    alike("vary-coding-alias", "Accept-Encoding", "gzip", "x-gzip"),
    alike("vary-language-order-by-weight", "Accept-Language", "en, de;q=0.5", "de;q=0.5, en", must=None),
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_vary(case: Case, outcome: Outcome) -> None:
    outcome(case)
