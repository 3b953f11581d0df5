"""Validation, updates by 304 and HEAD, and invalidation (RFC 9111, 4.3 and 4.4; RFC 9110, 13)."""

from __future__ import annotations

import re

import pytest

from loadtest.answer import Request
from loadtest.faults import Step
from tests.rules.cases import parameters
from tests.rules.conftest import Outcome
from tests.rules.story import Ask, Case, Handler, says, unchanged

TAG, DATED = '"t"', "Mon, 01 Jan 2024 00:00:00 GMT"
STALE, FRESH = "max-age=0", "max-age=600"
Fields = dict[str, str | None]
OLD = says("old", STALE, ETag=TAG)
NEW = says("new", FRESH, ETag='"n"')


def updating(title: str, rules: str, first: Fields, second: Fields, name: str, wanted: str | None) -> Case:
    """A field of a stored answer after a 304 with fields of its own."""
    return Case(
        title,
        rules,
        [says("old", STALE, ETag=TAG, **first), unchanged(FRESH, ETag=TAG, **second)],
        [
            Ask(asks=True),
            Ask(asks=True, body="old", has={name: wanted}),
            Ask(asks=False, body="old", has={name: wanted}),
        ],
    )


def heading(title: str, head: Step, *, asks: bool, body: str) -> Case:
    """A stale stored answer, a HEAD that goes to the origin, and what the next GET comes to."""

    def answer(request: Request) -> Step:
        if request.method == "HEAD":
            return head
        return unchanged(FRESH, ETag=TAG) if request.header("If-None-Match") == TAG else next(bodies)

    bodies = iter([says("old", STALE, ETag=TAG), *[NEW] * 9])
    last = Ask(asks=asks, body=body, has={"X-News": "yes"} if not asks else {})
    return Case(title, "9111-4.3.5", answer, [Ask(asks=True, body="old"), Ask(method="HEAD", asks=True), last])


def unsafe(
    title: str,
    method: str = "POST",
    status: int = 200,
    *,
    drops: bool | None = True,
    at: str = "",
    rules: str = "9111-4.4",
    **fields: str,
) -> Case:
    """Something stored, an unsafe request (at another path, where `at` says so), and whether it is asked for anew."""
    after = says("done", None, status, **fields)
    answers = [says("old", FRESH), *([after, NEW] if not at else [NEW])]
    asks = [
        Ask(asks=True, body="old"),
        Ask(method=method, at=at, asks=True, status=status),
        Ask(asks=drops, body={True: "new", False: "old", None: None}[drops]),
    ]
    return Case(title, rules, answers, asks, more={at: [after]} if at else {})


def conditional(title: str, rules: str, line: str, status: int, *more: str, **fields: str | None) -> Case:
    """A condition put to a fresh stored answer."""
    step = says("old", FRESH, ETag=TAG, **({"Last-Modified": DATED} | fields))
    return Case(title, rules, [step], [Ask(asks=True), Ask(lines=(line, *more), asks=False, status=status)])


def seeing(name: str) -> Handler:
    """An origin that answers with what it was sent in a field, and keeps nothing."""
    return lambda request: says(f"{request.header(name)}", "no-store")


VALIDATION = [
    Case(
        "validate-by-tag",
        "9111-4.3.1 9111-4.3.3",
        [OLD, unchanged(FRESH, ETag=TAG)],
        [Ask(asks=True), Ask(asks=True, body="old", sent={"If-None-Match": TAG}), Ask(asks=False, body="old")],
    ),
    Case(
        "validate-by-date",
        "9111-4.3.1 9110-13.1.3",
        [says("old", STALE, Last_Modified=DATED), unchanged(FRESH, Last_Modified=DATED)],
        [Ask(asks=True), Ask(asks=True, body="old", sent={"If-Modified-Since": DATED}), Ask(asks=False, body="old")],
    ),
    Case(
        "validate-by-both",
        "9111-4.3.1",
        [says("old", STALE, Last_Modified=DATED, ETag=TAG), unchanged(FRESH, ETag=TAG)],
        [Ask(asks=True), Ask(asks=True, body="old", sent={"If-None-Match": TAG, "If-Modified-Since": DATED})],
    ),
    Case(
        "validate-by-a-weak-tag",
        "9111-4.3.1 9111-4.3.4",
        [says("old", STALE, ETag='W/"w"'), unchanged(FRESH, ETag='W/"w"')],
        [Ask(asks=True), Ask(asks=True, body="old", sent={"If-None-Match": 'W/"w"'}), Ask(asks=False, body="old")],
    ),
    Case(
        "validate-replaced-by-200",
        "9111-4.3.3",
        [OLD, NEW],
        [Ask(asks=True), Ask(asks=True, body="new"), Ask(asks=False, body="new", has={"ETag": '"n"'})],
    ),
    Case(
        "validate-404-replaces",
        "9111-4.3.3",
        [OLD, says("gone", None, 404), NEW],
        [Ask(asks=True), Ask(asks=True, status=404), Ask(asks=True, body="new")],
    ),
    Case(
        "validate-5xx-is-handed-on",
        "9111-4.3.3",
        [OLD, says("broken", None, 503), unchanged(FRESH, ETag=TAG)],
        [Ask(asks=True), Ask(status=(200, 503)), Ask(asks=True, body="old")],
    ),
    Case(
        "validate-another-strong-tag-updates-nothing",
        "9111-4.3.4",
        [OLD, unchanged(FRESH, ETag='"x"', X_News="yes"), NEW],
        [Ask(asks=True), Ask(has={"X-News": None}), Ask(body="new")],
    ),
    Case(
        "validate-a-client-s-condition-is-its-own",
        "9111-4.3.2",
        [OLD, unchanged(FRESH, ETag=TAG)],
        [
            Ask(asks=True),
            Ask(lines=(f"If-None-Match: {TAG}",), asks=True, status=304, has={"ETag": TAG}),
            Ask(asks=False, body="old"),
        ],
    ),
    Case(
        "validate-a-client-s-other-condition",
        "9111-4.3.2",
        [OLD, unchanged(FRESH, ETag=TAG)],
        [Ask(asks=True), Ask(lines=('If-None-Match: "z"',), asks=True, status=200, body="old")],
    ),
    Case(
        "validate-miss-with-a-condition",
        "9111-4.3.2",
        [says("old", FRESH, ETag=TAG)],
        [Ask(lines=('If-None-Match: "z"',), asks=True, status=200, body="old"), Ask(asks=False, body="old")],
    ),
    updating("update-new-field", "9111-4.3.4 9111-3.2", {}, {"X_News": "yes"}, "X-News", "yes"),
    updating("update-changed-field", "9111-4.3.4 9111-3.2", {"X_News": "no"}, {"X_News": "yes"}, "X-News", "yes"),
    updating("update-keeps-others", "9111-4.3.4 9111-3.2", {"X_News": "no"}, {}, "X-News", "no"),
    updating("update-not-length", "9111-3.2", {}, {"Content_Length": "999"}, "Content-Length", "3"),
    updating("update-not-connection", "9111-3.1", {}, {"Connection": "X-Hop", "X_Hop": "1"}, "X-Hop", None),
    updating("update-expires", "9111-3.2", {}, {"Expires": DATED}, "Expires", DATED),
    updating(
        "update-date",
        "9111-3.2",
        {"Date": DATED},
        {"Date": "Tue, 02 Jan 2035 00:00:00 GMT"},
        "Date",
        "Tue, 02 Jan 2035 00:00:00 GMT",
    ),
    heading("head-confirms", says("old", FRESH, ETag=TAG, X_News="yes", Content_Length="3"), asks=False, body="old"),
    heading("head-tells-of-another-tag", says("xxx", FRESH, ETag='"n"', Content_Length="3"), asks=True, body="old"),
    heading("head-tells-of-another-length", says("long", FRESH, ETag=TAG, Content_Length="4"), asks=True, body="old"),
    Case(
        "head-is-answered-from-what-is-stored",
        "9110-9.3.2 9111-4",
        [says("old", FRESH, ETag=TAG)],
        [Ask(asks=True), Ask(method="HEAD", asks=False, body="", has={"Content-Length": "3", "ETag": TAG})],
    ),
    Case(
        "head-alone-stores-no-body",
        "9110-9.3.2 9111-3",
        [says("old", FRESH, Content_Length="3")],
        [Ask(method="HEAD", body="", has={"Content-Length": "3"}), Ask(body="old")],
    ),
]

CONDITIONS = [
    conditional("if-none-match", "9110-13.1.2 9111-4.3.2", f"If-None-Match: {TAG}", 304),
    conditional("if-none-match-weak", "9110-13.1.2 9110-8.8.3.2", f"If-None-Match: W/{TAG}", 304),
    conditional("if-none-match-list", "9110-13.1.2", f'If-None-Match: "a", {TAG}', 304),
    conditional("if-none-match-star", "9110-13.1.2", "If-None-Match: *", 304),
    conditional("if-none-match-other", "9110-13.1.2", 'If-None-Match: "a"', 200),
    conditional("if-none-match-goes-first", "9110-13.2.2", 'If-None-Match: "a"', 200, f"If-Modified-Since: {DATED}"),
    conditional("if-modified-since", "9110-13.1.3 9111-4.3.2", f"If-Modified-Since: {DATED}", 304),
    conditional("if-modified-since-later", "9110-13.1.3", "If-Modified-Since: Thu, 01 Jan 2025 00:00:00 GMT", 304),
    conditional("if-modified-since-before", "9110-13.1.3", "If-Modified-Since: Sun, 01 Jan 2023 00:00:00 GMT", 200),
    conditional("if-modified-since-no-date", "9110-13.1.3", "If-Modified-Since: yesterday", 200),
    conditional(
        "if-modified-since-old-spelling",
        "9110-5.6.7 9110-13.1.3",
        "If-Modified-Since: Monday, 01-Jan-24 00:00:00 GMT",
        304,
    ),
    Case(
        "if-modified-since-against-date",
        "9111-4.3.2",
        [says("old", FRESH, Date=DATED, Cache_Control="max-age=999999999")],
        [Ask(asks=True), Ask(lines=(f"If-Modified-Since: {DATED}",), asks=False, status=(200, 304))],  # SHOULD be 304
    ),
    Case(
        "304-carries-what-a-200-would",
        "9110-15.4.5",
        [says("old", FRESH, ETag=TAG, Vary="X-One", Expires="Thu, 01 Jan 2099 00:00:00 GMT", Content_Location="/c")],
        [
            Ask(asks=True),
            Ask(
                lines=(f"If-None-Match: {TAG}",),
                asks=False,
                status=304,
                has={
                    "ETag": TAG,
                    "Cache-Control": FRESH,
                    "Vary": "X-One",
                    "Expires": "Thu, 01 Jan 2099 00:00:00 GMT",
                    "Content-Location": "/c",
                    "Date": re.compile(".+GMT"),
                },
            ),
        ],
    ),
    Case(
        "if-match-goes-to-the-origin-or-is-answered-well",
        "9110-13.1.1 9111-4.3.2",
        lambda request: says("", None, 412) if request.header("If-Match") else says("old", FRESH, ETag=TAG),
        [Ask(asks=True), Ask(lines=('If-Match: "a"',), status=(200, 412))],
    ),
    Case(
        "conditions-of-a-put-are-the-origin-s",
        "9110-13.1.1",
        seeing("If-Match"),
        [Ask(method="PUT", lines=('If-Match: "a"',), asks=True, body='"a"')],
    ),
]

INVALIDATION = [
    *(unsafe(f"invalidate-{method.lower()}", method) for method in ("POST", "PUT", "DELETE", "PATCH", "M-SEARCH")),
    *(unsafe(f"invalidate-{status}", status=status) for status in (201, 204, 303)),
    *(unsafe(f"invalidate-not-{status}", status=status, drops=False) for status in (404, 409, 500, 503)),
    unsafe("invalidate-not-options", "OPTIONS", drops=False),
    unsafe("invalidate-location", at="/made", Location="{path}", status=201),
    unsafe("invalidate-content-location", at="/made", Content_Location="{path}"),
    unsafe("invalidate-location-absolute", at="/made", Location="http://rules.test{path}", status=201),
    unsafe("invalidate-location-upper-host", at="/made", Location="http://RULES.test:80{path}", status=201),
    unsafe("invalidate-not-another-host", at="/made", Location="http://other.test{path}", status=201, drops=False),
    unsafe("invalidate-not-another-port", at="/made", Location="http://rules.test:81{path}", status=201, drops=False),
    unsafe("invalidate-not-by-an-error-s-location", at="/made", Location="{path}", status=500, drops=False),
    unsafe("invalidate-not-a-neighbour", at="/made", drops=False),
    unsafe("invalidate-location-relative", at="/made", Content_Location="../invalidate-location-relative"),
    Case(
        "invalidate-answers-of-unsafe-methods-are-not-kept",
        "9111-3 9110-9.3.3",
        [says("one", FRESH), says("two", FRESH)],
        [Ask(method="POST", asks=True, body="one"), Ask(method="POST", asks=True, body="two")],
    ),
    Case(
        "invalidate-a-query-is-another-target",
        "9111-4.4 3986-3.4",
        [says("old", FRESH), NEW],
        [Ask(asks=True), Ask(method="POST", at="?b=2", asks=True), Ask(asks=False, body="old")],
        more={"?b=2": [says("done", None)]},
    ),
]


@pytest.mark.parametrize("case", parameters(VALIDATION))
def test_validation(case: Case, outcome: Outcome) -> None:
    outcome(case)


@pytest.mark.parametrize("case", parameters(CONDITIONS))
def test_conditions(case: Case, outcome: Outcome) -> None:
    outcome(case)


@pytest.mark.parametrize("case", parameters(INVALIDATION))
def test_invalidation(case: Case, outcome: Outcome) -> None:
    outcome(case)
