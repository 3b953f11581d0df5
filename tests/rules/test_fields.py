"""What an intermediary does with fields, 1xx answers and loops (RFC 9110, 7 and 15.2; RFC 9111, 3; RFC 8586; 9530)."""

from __future__ import annotations

import re

import pytest

from loadtest.answer import Request
from loadtest.faults import Step
from tests.rules.cases import parameters
from tests.rules.conftest import Outcome
from tests.rules.story import Ask, Case, says

FRESH = "max-age=600"
DIGEST = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


def passed(title: str, rules: str, name: str, value: str | None, **fields: str | None) -> Case:
    """What clients see of a field of a stored answer, first and later."""
    return Case(
        title,
        rules,
        [says("old", FRESH, **{name.replace("-", "_"): value}, **fields)],
        [Ask(asks=True, has={name: value}), Ask(asks=False, has={name: value})],
    )


def dropped(title: str, rules: str, name: str, value: str, **fields: str | None) -> Case:
    return Case(
        title,
        rules,
        [says("old", FRESH, **{name.replace("-", "_"): value}, **fields)],
        [Ask(asks=True, has={name: None}), Ask(asks=False, has={name: None})],
    )


def shown(name: str) -> Case:
    """What the origin is sent of a hop-by-hop field."""
    line = {"Connection": "X-Hop", "TE": "trailers;q=0.5", "Upgrade": "h2c"}.get(name, "x")
    lines = (f"{name}: {line}", "X-Hop: 1") if name == "Connection" else (f"{name}: {line}", f"Connection: {name}")
    gone = "X-Hop" if name == "Connection" else name
    return Case(f"hop-to-the-origin-{name.lower()}", "9110-7.6.1", [says("old", FRESH)],
                [Ask(lines=lines, asks=True, sent={gone: None})])  # fmt: skip


def interim(title: str, *statuses: int, control: str) -> Case:
    step = Step(status=200, body=b"old", interim=statuses, headers={"Cache-Control": control})
    later = () if control == FRESH else statuses
    return Case(title, "9110-15.2 8297-2", [step], [
        Ask(asks=True, body="old", interim=statuses),
        Ask(asks=control != FRESH, body="old", interim=later),
    ])  # fmt: skip


def echoed(request: Request) -> Step:
    return says(request.header("CDN-Loop") or "none", "no-store")


CASES = [
    passed("field-unknown", "9111-3.1", "X-Unknown", "a, b"),
    passed("field-etag", "9111-3.1", "ETag", 'W/"w"'),
    passed("field-content-language", "9111-3.1", "Content-Language", "de"),
    passed("field-content-encoding", "9111-3.1", "Content-Encoding", "x-own"),
    passed("field-content-digest", "9530-2", "Content-Digest", DIGEST),
    passed("field-repr-digest", "9530-3", "Repr-Digest", DIGEST),
    passed("field-want-digest", "9530-4", "Want-Repr-Digest", "sha-256=5"),
    passed("field-link", "9111-3.1", "Link", "</style.css>; rel=preload"),
    passed("field-date-is-the-origin-s", "9110-6.6.1 9111-4.2.3", "Date", "Thu, 01 Jan 2037 00:00:00 GMT"),
    passed("field-cache-control", "9111-5.2", "Expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
    passed("field-warning", "9111-5.5", "Warning", '199 - "odd"'),
    passed("field-location-of-a-200", "9110-10.2.2", "Content-Location", "/elsewhere"),
    dropped("hop-connection-listed", "9110-7.6.1 9111-3.1", "X-Hop", "1", Connection="X-Hop"),
    dropped("hop-keep-alive", "9110-7.6.1 9111-3.1", "Keep-Alive", "timeout=5"),
    dropped("hop-proxy-connection", "9110-7.6.1", "Proxy-Connection", "keep-alive"),
    dropped("hop-proxy-authenticate", "9111-3.1", "Proxy-Authenticate", "Basic"),
    dropped("hop-proxy-authentication-info", "9111-3.1", "Proxy-Authentication-Info", "a=b"),
    dropped("hop-te", "9110-7.6.1", "TE", "trailers", Connection="TE"),
    dropped("hop-upgrade", "9110-7.6.1", "Upgrade", "h2c", Connection="Upgrade"),
    *(shown(name) for name in ("Connection", "TE", "Upgrade", "Keep-Alive", "Proxy-Connection")),
    Case(
        "no-cache-named-fields-are-not-reused",
        "9111-5.2.2.4",
        [says("old", 'max-age=600, no-cache="x-mine"', X_Mine="1")],
        [Ask(asks=True, has={"X-Mine": "1"}), Ask(asks=None, body="old", has={})],
    ),
    Case(
        "private-named-fields-are-not-kept",
        "9111-5.2.2.7",
        [says("old", 'max-age=600, private="x-mine"', X_Mine="1"), says("new", "no-store")],
        [Ask(asks=True, has={"X-Mine": "1"}), Ask(has={"X-Mine": None})],
    ),
    Case(
        "set-cookie-reaches-who-asked",
        "9111-7.3 6265-3",
        [says("old", FRESH, Set_Cookie="viewer=1")],
        [Ask(asks=True, has={"Set-Cookie": "viewer=1"})],
    ),
    Case(
        "cookie-does-not-split",
        "9111-4",
        [says("old", FRESH)],
        [Ask(lines=("Cookie: a=1",), asks=True), Ask(lines=("Cookie: a=2",), asks=False)],
    ),
    Case(
        "date-is-added-where-missing",
        "9110-6.6.1",
        [says("old", FRESH, Date=None)],
        [Ask(asks=True, has={"Date": DATE}), Ask(asks=False, has={"Date": DATE})],
    ),
    Case(
        "age-is-on-what-is-stored",
        "9111-5.1",
        [says("old", FRESH)],
        [Ask(asks=True), Ask(asks=False, has={"Age": re.compile("[0-2]")})],
    ),
    Case(
        "via-to-the-origin",
        "9110-7.6.3",
        [says("old", FRESH)],
        [Ask(lines=("Via: 1.0 front",), asks=True, sent={"Via": re.compile(r"(1\.0 front, ?)?1\.1 \S+.*")})],
    ),
    Case(
        "via-to-the-client",
        "9110-7.6.3",
        [says("old", FRESH, Via="1.0 back")],
        [
            Ask(asks=True, has={"Via": re.compile(r"1\.0 back, ?1\.1 \S+.*")}),
            Ask(asks=False, has={"Via": re.compile(r"1\.0 back, ?1\.1 \S+.*")}),
        ],
    ),
    Case(
        "authorization-is-not-shared",
        "9111-3.5",
        [says("one", FRESH), says("two", FRESH)],
        [Ask(lines=("Authorization: a",), asks=True, body="one"), Ask(asks=True, body="two")],
    ),
    *(
        Case(
            f"authorization-{word.partition('=')[0]}-is-shared",
            "9111-3.5",
            [says("one", f"{word}, max-age=600"), says("two", FRESH)],
            [Ask(lines=("Authorization: a",), asks=True, body="one"), Ask(asks=False, body="one")],
        )
        for word in ("public", "must-revalidate", "s-maxage=600")
    ),
    interim("interim-103-and-stored", 103, control=FRESH),
    interim("interim-103-each-time", 103, control="no-store"),
    interim("interim-102-and-103", 102, 103, 103, control="no-store"),
    Case(
        "interim-is-never-stored",
        "9110-15.2 9111-3",
        [Step(status=200, body=b"old", interim=(103,), headers={"Cache-Control": FRESH})],
        [Ask(asks=True), Ask(asks=False, interim=(), body="old", has={"Link": None})],
    ),
    Case(
        "interim-not-to-http-1.0",
        "9110-15.2",
        [Step(status=200, body=b"old", interim=(103,), headers={"Cache-Control": "no-store"})],
        [Ask(asks=True, interim=(), version="1.0", body="old")],
    ),
    Case(
        "cdn-loop-is-added",
        "8586-2",
        echoed,
        [Ask(sent={"CDN-Loop": re.compile(r"[^,;]+(;.*)?")}), Ask(method="POST", sent={"CDN-Loop": re.compile(".+")})],
    ),
    Case(
        "cdn-loop-of-others-is-kept-first",
        "8586-2",
        echoed,
        [Ask(lines=("CDN-Loop: other.example; a=1",), sent={"CDN-Loop": re.compile(r"other\.example; a=1, ?[^,]+")})],
    ),
    Case(
        "digest-of-a-part-is-for-that-part",
        "9530-2",
        [says("0123456789", FRESH, Content_Digest=DIGEST, Repr_Digest=DIGEST, ETag='"t"')],
        [
            Ask(asks=True),
            Ask(
                lines=("Range: bytes=0-1",),
                status=206,
                asks=False,
                has={"Content-Digest": None, "Repr-Digest": DIGEST},
            ),
        ],
    ),
    Case(
        "max-forwards-trace-and-options",
        "9110-7.6.2",
        [says("", None)],
        [Ask(method="OPTIONS", lines=("Max-Forwards: 5",), asks=None, sent={}, status=(200, 204))],
    ),
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_fields(case: Case, outcome: Outcome) -> None:
    outcome(case)
