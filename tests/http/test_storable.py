"""What may be stored (RFC 9111, 3; RFC 9213; RFC 6585)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.dates import http_date
from edge.http.directives import effective_directives
from edge.http.fields import Fields
from edge.http.statuses import HEURISTIC
from edge.http.storable import STORABLE, NoStoreReason, Verdict, partial_storable, storability, stored_fields

NOW = 1_767_225_600.0
DATE = http_date(NOW)
BEFORE = http_date(NOW - 100)
LATER = http_date(NOW + 100)

FRESH = ("Cache-Control", "max-age=60")
ETAG = ("ETag", '"a"')
WEAK = ("ETag", 'W/"a"')
MODIFIED = ("Last-Modified", BEFORE)

Pairs = list[tuple[str, str]]


def cache_control(line: str) -> tuple[str, str]:
    return "Cache-Control", line


def verdict(response: Pairs, *, method: str = "GET", status: int = 200, request: Pairs | None = None) -> str:
    found = storability(method, status, Fields(request or []), Fields(response))
    assert found.storable is (found.reason is None)
    return found.reason.value if found.reason is not None else "stored"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ([FRESH], "stored"),
        ([("Expires", LATER), ("Date", DATE)], "stored"),
        ([("Expires", LATER)], "stored"),
        ([cache_control("s-maxage=60")], "stored"),
        ([ETAG], "stored"),
        ([WEAK], "stored"),
        ([MODIFIED], "stored"),
        ([], "no_freshness_no_validator"),
        ([("Date", DATE)], "no_freshness_no_validator"),
        ([cache_control("public")], "no_freshness_no_validator"),
        ([("ETag", "unquoted")], "no_freshness_no_validator"),
        ([("Last-Modified", "yesterday")], "no_freshness_no_validator"),
        ([cache_control("max-age=0"), ETAG], "stored"),
        ([cache_control("max-age=0")], "stale_no_validator"),
        ([cache_control("max-age=abc")], "stale_no_validator"),
        ([cache_control("max-age=abc"), ETAG], "stored"),
        ([("Expires", "0"), ("Date", DATE)], "stale_no_validator"),
        ([("Expires", BEFORE), ("Date", DATE), ETAG], "stored"),
        ([cache_control("max-age=0, stale-while-revalidate=9")], "stored"),
        ([cache_control("max-age=0, stale-if-error=9")], "stored"),
        ([cache_control("max-age=0, must-revalidate, stale-if-error=9")], "stale_no_validator"),
        ([cache_control("max-age=60, no-cache"), ETAG], "stored"),
        ([cache_control("max-age=60, no-cache")], "stale_no_validator"),
        ([cache_control('max-age=60, no-cache="a"')], "stored"),
        ([cache_control("no-store, max-age=60"), ETAG], "no_store"),
        ([cache_control("nO-StOrE"), FRESH], "no_store"),
        ([cache_control("private, max-age=60")], "private"),
        ([cache_control('private="a", max-age=60')], "stored"),
        ([cache_control('private="a b", max-age=60')], "private"),
        ([FRESH, ("Vary", "*")], "vary_star"),
        ([FRESH, ("Vary", "accept, *")], "vary_star"),
        ([FRESH, ("Vary", "Accept")], "stored"),
        ([FRESH, ("Set-Cookie", "a=b")], "stored"),
        ([FRESH, ("Pragma", "no-cache")], "stored"),
        ([cache_control("no-store"), ("CDN-Cache-Control", "max-age=60")], "stored"),
        ([FRESH, ("CDN-Cache-Control", "no-store")], "no_store"),
        ([FRESH, ("CDN-Cache-Control", "private")], "private"),
        ([cache_control("no-store"), ("CDN-Cache-Control", "max-age=60, &")], "no_store"),
        ([("Expires", LATER), ("Date", DATE), ("CDN-Cache-Control", "none")], "no_freshness_no_validator"),
        ([cache_control("no-store"), ("CDN-Cache-Control", 'max-age="60"')], "stale_no_validator"),
    ],
)
def test_9111_3_responses_to_get(response: Pairs, expected: str) -> None:
    assert verdict(response) == expected


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "get", "FOO", ""])
def test_9111_3_only_get_is_understood(method: str) -> None:
    assert verdict([FRESH, ETAG], method=method) == "method"


@pytest.mark.parametrize(
    "status", [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 503, 504, 599]
)
def test_9111_3_any_final_status_with_explicit_freshness(status: int) -> None:
    assert verdict([FRESH], status=status) == "stored"


@pytest.mark.parametrize(
    "status", [200, 203, 204, 300, 301, 302, 303, 307, 308, 403, 404, 405, 410, 414, 501, 502, 599]
)
def test_9111_3_without_it_only_heuristic_statuses_or_public(status: int) -> None:
    assert verdict([MODIFIED], status=status) == ("stored" if status in HEURISTIC else "no_freshness")
    assert verdict([MODIFIED, cache_control("public")], status=status) == "stored"


@pytest.mark.parametrize("status", [0, 100, 101, 103, 199, 304, 428, 429, 431, 511, 600])
def test_9111_3_statuses_never_stored(status: int) -> None:
    assert verdict([FRESH, ETAG], status=status) == "status"


def test_9111_3_3_a_206_is_no_complete_response() -> None:
    assert verdict([FRESH, ETAG, ("Content-Range", "bytes 0-1/2")], status=206) == "partial"


@pytest.mark.parametrize(
    ("status", "line", "expected"),
    [
        (200, "must-understand, no-store, max-age=60", "stored"),
        (599, "must-understand, no-store, max-age=60", "not_understood"),
        (599, "must-understand, max-age=60", "not_understood"),
        (200, "must-understand =x, no-store, max-age=60", "no_store"),
        (200, "must-understand, private, max-age=60", "private"),
    ],
)
def test_9111_5_2_2_3_must_understand(status: int, line: str, expected: str) -> None:
    assert verdict([cache_control(line)], status=status) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("max-age=60", "authorization"),
        ("max-age=60, public", "stored"),
        ("max-age=60, must-revalidate", "stored"),
        ("s-maxage=60", "stored"),
        ("s-maxage=x", "authorization"),
        ("max-age=60, proxy-revalidate", "authorization"),
        ("max-age=60, public =x", "authorization"),
        ('max-age=60, x="public', "authorization"),
    ],
)
def test_9111_3_5_authorization(line: str, expected: str) -> None:
    assert verdict([cache_control(line)], request=[("Authorization", "Basic x")]) == expected


def test_9111_3_5_expires_does_not_allow_sharing() -> None:
    response = [("Expires", LATER), ("Date", DATE)]
    assert verdict(response, request=[("authorization", "FOO")]) == "authorization"
    assert verdict(response, request=[("Cookie", "a=b")]) == "stored"


def test_9111_5_2_1_5_the_clients_no_store_is_advisory() -> None:
    request = Fields([("Cache-Control", "no-store")])
    refused = storability("GET", 200, request, Fields([FRESH]))
    assert refused == Verdict(storable=False, reason=NoStoreReason.REQUEST_NO_STORE)
    assert storability("GET", 200, request, Fields([FRESH]), honour_request=False) == STORABLE


def test_9111_4_2_2_the_operators_default_makes_up_for_silence_only() -> None:
    nothing = Fields()
    assert storability("GET", 200, nothing, nothing, default_s=60) == STORABLE
    assert not storability("GET", 200, nothing, nothing, default_s=0).storable
    assert not storability("GET", 302, nothing, nothing, default_s=60).storable
    assert not storability("GET", 200, nothing, Fields([cache_control("no-store")]), default_s=60).storable
    assert not storability("GET", 200, nothing, Fields([cache_control("max-age=0")]), default_s=60).storable
    assert not storability("GET", 200, nothing, Fields([cache_control("no-cache")]), default_s=60).storable


def test_9111_7_3_cookies_are_the_operators_choice() -> None:
    response = Fields([FRESH, ("Set-Cookie", "a=b")])
    found = storability("GET", 200, Fields(), response, refuse_set_cookie=True)
    assert found.reason is NoStoreReason.SET_COOKIE
    assert storability("GET", 200, Fields(), Fields([FRESH]), refuse_set_cookie=True) == STORABLE


@pytest.mark.rfc("9111-5.3", "9110-6.6.1")
def test_expires_without_date_is_measured_from_arrival() -> None:
    response = Fields([("Expires", DATE)])
    assert storability("GET", 200, Fields(), response, response_time=NOW - 5).storable
    assert not storability("GET", 200, Fields(), response, response_time=NOW + 5).storable


RANGE = ("Content-Range", "bytes 0-9/100")


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ([FRESH, ETAG, RANGE], None),
        ([ETAG, RANGE], None),
        ([FRESH, MODIFIED, ("Date", DATE), RANGE], None),
        ([FRESH, ETAG, ("Content-Range", "bytes 0-9/*")], None),
        ([FRESH, MODIFIED, RANGE], "no_strong_validator"),
        ([FRESH, WEAK, RANGE], "no_strong_validator"),
        ([FRESH, RANGE], "no_strong_validator"),
        ([FRESH, ETAG], "content_range"),
        ([FRESH, ETAG, ("Content-Range", "bytes */100")], "content_range"),
        ([FRESH, ETAG, ("Content-Range", "bytes 9-0/100")], "content_range"),
        ([FRESH, ETAG, ("Content-Type", "multipart/byteranges; boundary=x")], "content_range"),
        ([FRESH, ETAG, RANGE, RANGE], "content_range"),
        ([cache_control("no-store"), ETAG, RANGE], "no_store"),
        ([cache_control("private"), ETAG, RANGE], "private"),
        ([FRESH, ETAG, RANGE, ("Vary", "*")], "vary_star"),
    ],
)
def test_9111_3_3_parts(response: Pairs, reason: str | None) -> None:
    found = partial_storable("GET", Fields(), Fields(response))
    assert found.reason == reason
    assert found.storable is (reason is None)


def test_9111_3_4_a_part_on_its_own_needs_no_strong_validator() -> None:
    assert partial_storable("GET", Fields(), Fields([FRESH, RANGE]), require_strong=False) == STORABLE
    assert not partial_storable("GET", Fields(), Fields([RANGE]), require_strong=False).storable
    assert partial_storable("GET", Fields(), Fields([FRESH, ETAG, RANGE]), status=200).reason == "not_partial"
    cookie = Fields([FRESH, ETAG, RANGE, ("Set-Cookie", "a=b")])
    assert partial_storable("GET", Fields(), cookie).storable
    assert not partial_storable("GET", Fields(), cookie, refuse_set_cookie=True).storable
    assert partial_storable("HEAD", Fields(), cookie).reason == "method"


def test_9111_5_2_1_5_the_clients_no_store_is_advisory_for_parts() -> None:
    request, response = Fields([("Cache-Control", "no-store")]), Fields([FRESH, ETAG, RANGE])
    assert partial_storable("GET", request, response).reason == "request_no_store"
    assert partial_storable("GET", request, response, honour_request=False) == STORABLE


def kept(response: Pairs, *, drop_set_cookie: bool = False) -> list[str]:
    fields = Fields(response)
    return [name for name, _ in stored_fields(fields, effective_directives(fields), drop_set_cookie=drop_set_cookie)]


@pytest.mark.parametrize(
    ("response", "names"),
    [
        ([FRESH, ETAG, ("X", "1")], ["Cache-Control", "ETag", "X"]),
        ([("Age", "5"), ("Date", DATE)], ["Date"]),
        ([("Connection", "a, b"), ("a", "1"), ("b", "2"), ("c", "3")], ["c"]),
        ([("Proxy-Authenticate", "x"), ("Proxy-Authentication-Info", "x"), ("Proxy-Authorization", "x")], []),
        ([("Transfer-Encoding", "chunked"), ("Keep-Alive", "x"), ("TE", "x"), ("Upgrade", "x"), ("Trailer", "x")], []),
        ([cache_control('no-cache="A, b"'), ("a", "1"), ("B", "2"), ("c", "3")], ["Cache-Control", "c"]),
        ([cache_control('private="a"'), cache_control('no-cache="b"'), ("a", "1"), ("b", "2")], ["Cache-Control"] * 2),
        ([cache_control('no-cache="a", no-cache'), ("a", "1")], ["Cache-Control", "a"]),
        ([("Content-Type", "x"), ("WWW-Authenticate", "x"), ("Set-Cookie", "a")], None),
    ],
)
def test_9111_3_1_stored_fields(response: Pairs, names: list[str] | None) -> None:
    assert kept(response) == (names if names is not None else [name for name, _ in response])


def test_9111_7_3_cookies_are_dropped_only_on_request() -> None:
    response = [("Set-Cookie", "a"), ("Set-Cookie2", "b"), ("X", "c")]
    assert kept(response) == ["Set-Cookie", "Set-Cookie2", "X"]
    assert kept(response, drop_set_cookie=True) == ["X"]


def test_reasons_are_fit_for_metric_labels() -> None:
    assert all(re.fullmatch("[a-z_]{1,30}", reason.value) for reason in NoStoreReason)


LINES = st.sampled_from(
    ["no-store", "private", "public", "max-age=60", "max-age=0", "no-cache", "must-understand", "x"]
)


@pytest.mark.rfc("9111-3")
@given(
    st.lists(LINES, max_size=5),
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.integers(100, 599),
    st.lists(st.sampled_from([ETAG, MODIFIED, ("Vary", "*"), ("Expires", LATER), ("Date", DATE), RANGE])),
)
def test_whatever_is_stored_was_allowed(lines: list[str], method: str, status: int, more: Pairs) -> None:
    response = Fields([*more, ("Cache-Control", ", ".join(lines))])
    complete = storability(method, status, Fields(), response)
    part = partial_storable(method, Fields(), response, status=status)
    assert not (complete.storable and part.storable)
    if complete.storable or part.storable:
        assert method == "GET"
        assert status >= 200
        assert "private" not in lines
        assert "no-store" not in lines or "must-understand" in lines
        assert ("Vary", "*") not in more


@pytest.mark.rfc("9111-3")
@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=20))), st.text(max_size=5), st.integers(-1, 1000))
def test_storability_never_raises(pairs: Pairs, method: str, status: int) -> None:
    storability(method, status, Fields(pairs), Fields(pairs))
