"""Freshness, age, request directives and serving stale (RFC 9111, 4.2 and 5.2; RFC 5861; RFC 8246)."""

from __future__ import annotations

import re

import pytest

from loadtest.faults import Step
from tests.rules.cases import parameters
from tests.rules.conftest import Outcome
from tests.rules.story import LOST, Ask, Case, says, unchanged

GONE_S = 2.3  # by then what is fresh for a second is stale, however its age is rounded
TAG = '"t"'
OVER = "max-age=1"
NEW = says("new", "max-age=600")


def fresh(title: str, rules: str, control: str | None, /, **fields: str | None) -> Case:
    """An answer that is used again without a question."""
    step = says("old", control, **fields)
    return Case(title, rules, [step, NEW], [Ask(asks=True, body="old"), Ask(asks=False, body="old")])


def not_fresh(title: str, rules: str, control: str | None, /, status: int = 200, **fields: str | None) -> Case:
    """An answer that must not be used again without a question."""
    step = says("old", control, status, **fields)
    return Case(title, rules, [step, NEW], [Ask(asks=True, body="old", status=status), Ask(asks=True, body="new")])


def asked_with(title: str, rules: str, control: str, request: str, *, asks: bool, **fields: str | None) -> Case:
    """A stored answer, and a request with directives."""
    second = Ask(lines=(f"Cache-Control: {request}",), asks=asks, body="new" if asks else "old")
    return Case(title, rules, [says("old", control, **fields), NEW], [Ask(asks=True, body="old"), second])


def failing(
    title: str,
    rules: str,
    control: str,
    error: Step,
    status: int,
    *,
    lines: tuple[str, ...] = (),
    has: str | None = None,
) -> Case:
    """Stale, and the origin fails: the stale answer (200) or an error."""
    second = Ask(wait_s=GONE_S, lines=lines, asks=None, status=status, body="old" if status == 200 else None)
    return Case(title, rules, [says("old", control, ETag=TAG), error], [Ask(asks=True, body="old"), second])


BROKEN = says("broken", None, 503)
LIFETIMES = [
    fresh("fresh-max-age", "9111-4.2.1 9111-5.2.2.1", "max-age=600"),
    fresh("fresh-s-maxage-first", "9111-4.2.1 9111-5.2.2.10", "max-age=0, s-maxage=600"),
    not_fresh("fresh-s-maxage-zero-first", "9111-4.2.1 9111-5.2.2.10", "s-maxage=0, max-age=600"),
    fresh(
        "fresh-max-age-before-expires", "9111-4.2.1 9111-5.3", "max-age=600", Expires="Thu, 01 Jan 1970 00:00:00 GMT"
    ),
    not_fresh("fresh-max-age-0-before-expires", "9111-5.3", "max-age=0", Expires="Thu, 01 Jan 2099 00:00:00 GMT"),
    fresh("fresh-expires", "9111-4.2.1 9111-5.3", None, Expires="Thu, 01 Jan 2099 00:00:00 GMT"),
    not_fresh("fresh-expires-zero", "9111-5.3", None, Expires="0"),
    not_fresh("fresh-expires-no-date", "9111-5.3", None, Expires="tomorrow"),
    not_fresh("fresh-expires-past", "9111-5.3", None, Expires="Thu, 01 Jan 2015 00:00:00 GMT"),
    fresh("fresh-quoted-max-age", "9111-5.2", 'max-age="600"'),
    fresh("fresh-any-case", "9111-5.2", "MAX-AGE=600"),
    fresh("fresh-unknown-directives", "9111-5.2.3", 'x="a, no-store", max-age=600, y'),
    fresh("fresh-huge-max-age", "9111-1.2.2", "max-age=99999999999"),
    not_fresh("fresh-negative-max-age", "9111-4.2.1", "max-age=-1"),
    not_fresh("fresh-broken-max-age", "9111-4.2.1", "max-age=1h"),
    fresh("fresh-pragma-in-an-answer-means-nothing", "9111-5.4", "max-age=600", Pragma="no-cache"),
    fresh("fresh-warning-means-nothing", "9111-5.5", "max-age=600", Warning='110 - "Stale"'),
    not_fresh("fresh-age-counts", "9111-4.2.3 9111-5.1", "max-age=600", Age="700"),
    fresh("fresh-age-leaves-some", "9111-4.2.3 9111-5.1", "max-age=600", Age="100"),
    not_fresh("fresh-old-date-counts", "9111-4.2.3", "max-age=600", Date="Thu, 01 Jan 2015 00:00:00 GMT"),
    fresh("fresh-age-first-member", "9111-5.1", "max-age=600", Age="0, 7200"),
    not_fresh("fresh-age-first-member-old", "9111-5.1", "max-age=600", Age="7200, 0"),
    fresh("fresh-age-invalid-is-ignored", "9111-5.1", "max-age=600", Age="abc"),
    not_fresh("no-store", "9111-3 9111-5.2.2.5", "no-store, max-age=600"),
    not_fresh("private", "9111-3 9111-5.2.2.7", "private, max-age=600"),
    not_fresh("no-cache", "9111-5.2.2.4", "no-cache, max-age=600"),
    not_fresh("nothing-said-nothing-kept", "9111-3", None),
    not_fresh("status-unknown-and-nothing-said", "9111-3", None, status=299),
    Case(
        "must-understand-known-status",
        "9111-5.2.2.3",
        [says("old", "no-store, must-understand, max-age=600"), NEW],
        [Ask(asks=True, body="old"), Ask(body=None)],  # it may be stored, it need not
    ),
    not_fresh("must-understand-unknown-status", "9111-5.2.2.3", "must-understand, max-age=600", status=299),
    Case(
        "age-is-told",
        "9111-4 9111-4.2.3 9111-5.1",
        [says("old", "max-age=600", Age="100", Date="Thu, 01 Jan 2099 00:00:00 GMT"), NEW],
        [
            Ask(asks=True),
            Ask(wait_s=1.2, asks=False, has={"Age": re.compile("10[123]"), "Date": "Thu, 01 Jan 2099 00:00:00 GMT"}),
        ],
    ),
    Case(
        "age-is-single",
        "9111-5.1",
        [says("old", "max-age=600", Age="100")],
        [Ask(asks=True), Ask(asks=False, has={"Age": re.compile(r"10\d")})],
    ),
    Case(
        "negative-answers-are-kept",
        "9111-3 9110-15.1",
        [says("none", "max-age=600", 404), NEW],
        [Ask(asks=True, status=404), Ask(asks=False, status=404, body="none")],
    ),
    Case(
        "gone-is-kept",
        "9111-3 9110-15.5.11",
        [says("gone", "max-age=600", 410), NEW],
        [Ask(asks=True, status=410), Ask(asks=False, status=410, body="gone")],
    ),
    Case(
        "redirects-are-kept",
        "9111-3 9110-15.4",
        [says("", "max-age=600", 302, Location="/elsewhere"), NEW],
        [Ask(asks=True, status=302), Ask(asks=False, status=302, has={"Location": "/elsewhere"})],
    ),
    Case(
        "errors-that-say-so-are-kept",
        "9111-3",
        [says("busy", "max-age=600", 503), NEW],
        [Ask(asks=True, status=503), Ask(status=None)],  # fresh, but an origin's error need not be used again
    ),
    not_fresh("errors-that-say-nothing-are-not", "9111-3", None, status=500),
    Case(
        "immutable-does-not-yield-to-a-reload",
        "8246-2",
        [says("old", "max-age=600, immutable", ETag=TAG), NEW],
        [Ask(asks=True), Ask(lines=("Cache-Control: max-age=0",), asks=None)],  # may, for a shared cache
    ),
    Case(
        "immutable-stale-is-asked-about",
        "8246-2",
        [says("old", "max-age=0, immutable", ETag=TAG), unchanged("max-age=0, immutable", ETag=TAG)],
        [Ask(asks=True), Ask(asks=True, body="old")],
    ),
]

DIRECTIVES = [
    asked_with("request-no-cache", "9111-5.2.1.4", "max-age=600", "no-cache", asks=True),
    asked_with("request-max-age-0", "9111-5.2.1.1", "max-age=600", "max-age=0", asks=True, Age="1"),
    asked_with("request-max-age-less", "9111-5.2.1.1", "max-age=600", "max-age=50", asks=True, Age="100"),
    asked_with("request-max-age-more", "9111-5.2.1.1", "max-age=600", "max-age=200", asks=False, Age="100"),
    asked_with("request-min-fresh-too-much", "9111-5.2.1.3", "max-age=600", "min-fresh=550", asks=True, Age="100"),
    asked_with("request-min-fresh-enough", "9111-5.2.1.3", "max-age=600", "min-fresh=400", asks=False, Age="100"),
    asked_with("request-unknown", "9111-5.2.3", "max-age=600", "shiny", asks=False),
    Case(
        "request-pragma",
        "9111-5.4",
        [says("old", "max-age=600"), NEW],
        [Ask(asks=True), Ask(lines=("Pragma: no-cache",), asks=None)],  # deprecated: either is right
    ),
    Case(
        "request-no-cache-confirms",
        "9111-5.2.1.4 9111-4.3.1",
        [says("old", "max-age=600", ETag=TAG), unchanged("max-age=600", ETag=TAG)],
        [Ask(asks=True), Ask(lines=("Cache-Control: no-cache",), asks=True, body="old", sent={"If-None-Match": TAG})],
    ),
    Case(
        "request-no-cache-is-for-that-request",
        "9111-5.2.1.4",
        [says("old", "max-age=600"), NEW],
        [Ask(asks=True), Ask(lines=("Cache-Control: no-cache",), asks=True, body="new"), Ask(asks=False, body="new")],
    ),
    Case(
        "request-no-store-is-not-kept",
        "9111-5.2.1.5 9111-3",
        [says("one", "max-age=600"), NEW],
        [Ask(lines=("Cache-Control: no-store",), asks=True, body="one"), Ask(asks=True, body="new")],
    ),
    Case(
        "request-no-store-is-on-the-request-alone",
        "9111-5.2.1.5",
        [says("old", "max-age=600"), NEW],
        [Ask(asks=True), Ask(lines=("Cache-Control: no-store",), asks=None), Ask(asks=False, body="old")],
    ),
    Case(
        "request-only-if-cached-and-it-is",
        "9111-5.2.1.7",
        [says("old", "max-age=600")],
        [Ask(asks=True), Ask(lines=("Cache-Control: only-if-cached",), asks=False, body="old")],
    ),
    Case(
        "request-only-if-cached-and-it-is-not",
        "9111-5.2.1.7 9110-15.6.5",
        [says("old", "max-age=600")],
        [Ask(lines=("Cache-Control: only-if-cached",), asks=False, status=504), Ask(asks=True, body="old")],
    ),
    Case(
        "request-only-if-cached-and-stale",
        "9111-5.2.1.7",
        [says("old", "max-age=600", Age="700", ETag=TAG)],
        [Ask(asks=True), Ask(lines=("Cache-Control: only-if-cached",), asks=False, status=504)],
    ),
    Case(
        "request-only-if-cached-head",
        "9111-5.2.1.7",
        [says("old", "max-age=600")],
        [Ask(lines=("Cache-Control: only-if-cached",), method="HEAD", asks=False, status=504)],
    ),
    asked_with("request-max-stale", "9111-5.2.1.2", "max-age=600", "max-stale", asks=False, Age="700", ETag=TAG),
    asked_with("request-max-stale-n", "9111-5.2.1.2", "max-age=600", "max-stale=200", asks=False, Age="700", ETag=TAG),
    asked_with("request-max-stale-few", "9111-5.2.1.2", "max-age=600", "max-stale=5", asks=True, Age="700", ETag=TAG),
    asked_with(
        "request-max-stale-not-against-must-revalidate",
        "9111-5.2.2.2 9111-4.2.4",
        "max-age=600, must-revalidate",
        "max-stale",
        asks=True,
        Age="700",
        ETag=TAG,
    ),
    asked_with(
        "request-max-stale-not-against-proxy-revalidate",
        "9111-5.2.2.8 9111-4.2.4",
        "max-age=600, proxy-revalidate",
        "max-stale",
        asks=True,
        Age="700",
        ETag=TAG,
    ),
    asked_with(
        "request-max-stale-not-against-s-maxage",
        "9111-5.2.2.10 9111-4.2.4",
        "s-maxage=600",
        "max-stale",
        asks=True,
        Age="700",
        ETag=TAG,
    ),
    asked_with(
        "request-max-stale-not-against-no-cache",
        "9111-5.2.2.4 9111-4.2.4",
        "no-cache, max-age=600",
        "max-stale",
        asks=True,
        ETag=TAG,
    ),
]

STALE = [
    Case(
        "swr-answers-at-once-then-fresh",
        "5861-3 9111-4.2.4",
        [says("old", f"{OVER}, stale-while-revalidate=60", ETag=TAG), says("new", "max-age=600")],
        [
            Ask(asks=True, body="old"),
            Ask(wait_s=GONE_S, asks=False, behind=True, body="old"),
            Ask(asks=False, body="new"),
        ],
    ),
    Case(
        "swr-confirmed-behind",
        "5861-3 9111-4.3.4",
        [
            says("old", f"{OVER}, stale-while-revalidate=60", ETag=TAG),
            unchanged("max-age=600", ETag=TAG),
        ],
        [
            Ask(asks=True, body="old"),
            Ask(wait_s=GONE_S, asks=False, behind=True, body="old", cache="edge; hit; ttl=-1"),
            Ask(asks=False, body="old", cache="edge; hit; ttl=600"),
        ],
    ),
    Case(
        "swr-is-over",
        "5861-3",
        [says("old", f"{OVER}, stale-while-revalidate=1", ETag=TAG), NEW],
        [Ask(asks=True, body="old"), Ask(wait_s=4, asks=True, body="new")],
    ),
    Case(
        "swr-not-against-must-revalidate",
        "5861-3 9111-5.2.2.2",
        [says("old", f"{OVER}, stale-while-revalidate=60, must-revalidate", ETag=TAG), NEW],
        [Ask(asks=True, body="old"), Ask(wait_s=GONE_S, asks=True, body="new")],
    ),
    failing("sie-503", "5861-4 9111-4.2.4", f"{OVER}, stale-if-error=60", BROKEN, 200),
    failing("sie-500", "5861-4", f"{OVER}, stale-if-error=60", says("", None, 500), 200),
    failing("sie-502", "5861-4", f"{OVER}, stale-if-error=60", says("", None, 502), 200),
    failing("sie-504", "5861-4", f"{OVER}, stale-if-error=60", says("", None, 504), 200),
    failing("sie-404-is-an-answer", "5861-4", f"{OVER}, stale-if-error=60", says("", None, 404), 404),
    failing("sie-connection-lost", "5861-4 9111-4.2.4", f"{OVER}, stale-if-error=60", LOST, 200),
    failing("sie-not-said", "9111-4.2.4", OVER, BROKEN, 503),
    failing("sie-must-revalidate", "9111-5.2.2.2", f"{OVER}, stale-if-error=60, must-revalidate", BROKEN, 503),
    failing("sie-asked-by-the-request", "5861-4", OVER, BROKEN, 200, lines=("Cache-Control: stale-if-error=60",)),
    Case(
        "sie-is-over",
        "5861-4",
        [says("old", f"{OVER}, stale-if-error=1", ETag=TAG), BROKEN],
        [Ask(asks=True), Ask(wait_s=4, status=503)],
    ),
    Case(
        "must-revalidate-rather-504",
        "9111-5.2.2.2 9111-4.2.4",
        [says("old", f"{OVER}, must-revalidate", ETag=TAG), LOST],
        [Ask(asks=True), Ask(wait_s=GONE_S, status=(502, 504))],
    ),
    Case(
        "proxy-revalidate-rather-504",
        "9111-5.2.2.8 9111-4.2.4",
        [says("old", f"{OVER}, proxy-revalidate", ETag=TAG), LOST],
        [Ask(asks=True), Ask(wait_s=GONE_S, status=(502, 504))],
    ),
    Case(
        "no-cache-rather-no-answer",
        "9111-5.2.2.4 9111-4.2.4",
        [says("old", "no-cache", ETag=TAG), LOST],
        [Ask(asks=True), Ask(status=None, body=None, has={"Age": None})],
    ),
]


@pytest.mark.parametrize("case", parameters(LIFETIMES))
def test_lifetimes(case: Case, outcome: Outcome) -> None:
    outcome(case)


@pytest.mark.parametrize("case", parameters(DIRECTIVES))
def test_request_directives(case: Case, outcome: Outcome) -> None:
    outcome(case)


@pytest.mark.parametrize("case", parameters(STALE))
def test_serving_stale(case: Case, outcome: Outcome) -> None:
    outcome(case)
