"""Conditional requests and updates of stored fields (RFC 9110, 13; RFC 9111, 3.2, 4.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.conditions import (
    NOT_UPDATED,
    Outcome,
    evaluate,
    freshen,
    head_agrees,
    not_modified_fields,
    selects,
    with_date,
)
from edge.http.dates import http_date
from edge.http.fields import HOP_BY_HOP, Fields

T = 784_111_777.0
EARLIER, AT, LATER = http_date(T - 10), http_date(T), http_date(T + 10)

Pairs = list[tuple[str, str]]


def outcome(request: Pairs, *, method: str = "GET", status: int = 200, as_origin: bool = False) -> str:
    return evaluate(
        method, Fields(request), status=status, etag='"a"', last_modified=AT, date=LATER, as_origin=as_origin
    ).value


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ([], "proceed"),
        ([("If-None-Match", '"a"')], "not_modified"),
        ([("If-None-Match", 'W/"a"')], "not_modified"),
        ([("If-None-Match", '"x", "a", "y"')], "not_modified"),
        ([("If-None-Match", '"x"'), ("If-None-Match", '"a"')], "not_modified"),
        ([("If-None-Match", "*")], "not_modified"),
        ([("If-None-Match", '"b"')], "proceed"),
        ([("If-None-Match", "a")], "proceed"),
        ([("If-None-Match", "")], "proceed"),
        ([("If-Modified-Since", AT)], "not_modified"),
        ([("If-Modified-Since", LATER)], "not_modified"),
        ([("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")], "not_modified"),
        ([("If-Modified-Since", EARLIER)], "proceed"),
        ([("If-Modified-Since", "foo")], "proceed"),
        ([("If-Modified-Since", AT), ("If-Modified-Since", AT)], "proceed"),
        ([("If-Modified-Since", f"{AT}, {AT}")], "proceed"),
        ([("If-None-Match", '"a"'), ("If-Modified-Since", EARLIER)], "not_modified"),
        ([("If-None-Match", '"b"'), ("If-Modified-Since", LATER)], "proceed"),
        ([("If-None-Match", "bad"), ("If-Modified-Since", LATER)], "proceed"),
    ],
)
def test_9110_13_2_2_for_a_cache(request_: Pairs, expected: str) -> None:
    assert outcome(request_) == expected
    assert outcome(request_, method="HEAD") == expected


@pytest.mark.parametrize(
    "request_",
    [[("If-Match", '"b"')], [("If-Unmodified-Since", EARLIER)], [("If-Match", '"b"'), ("Range", "bytes=0-1")]],
)
def test_9111_4_3_2_if_match_and_if_unmodified_since_are_not_for_caches(request_: Pairs) -> None:
    assert outcome(request_) == "proceed"
    assert outcome(request_, as_origin=True) == "precondition_failed"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ([("If-Match", '"a"')], "proceed"),
        ([("If-Match", '"b", "a"')], "proceed"),
        ([("If-Match", "*")], "proceed"),
        ([("If-Match", 'W/"a"')], "precondition_failed"),
        ([("If-Match", "a")], "precondition_failed"),
        ([("If-Unmodified-Since", AT)], "proceed"),
        ([("If-Unmodified-Since", "foo")], "proceed"),
        ([("If-Match", '"a"'), ("If-Unmodified-Since", EARLIER)], "proceed"),
        ([("If-Match", '"b"'), ("If-None-Match", '"a"')], "precondition_failed"),
        ([("If-Match", '"a"'), ("If-None-Match", '"a"')], "not_modified"),
    ],
)
def test_9110_13_2_2_as_origin(request_: Pairs, expected: str) -> None:
    assert outcome(request_, as_origin=True) == expected


def test_9110_13_1_2_for_other_methods_a_match_fails() -> None:
    assert outcome([("If-None-Match", '"a"')], method="PUT") == "precondition_failed"
    assert outcome([("If-Modified-Since", LATER)], method="PUT") == "proceed"
    assert outcome([("If-None-Match", '"a"')], method="OPTIONS") == "proceed"


@pytest.mark.parametrize("status", [301, 304, 404, 500])
def test_9110_13_2_1_only_a_success_is_conditional(status: int) -> None:
    assert outcome([("If-None-Match", '"a"')], status=status) == "proceed"
    assert outcome([("If-None-Match", '"a"')], status=206) == "not_modified"


@pytest.mark.parametrize(
    ("last_modified", "date", "received_at", "expected"),
    [
        (EARLIER, LATER, None, Outcome.NOT_MODIFIED),
        (None, AT, None, Outcome.NOT_MODIFIED),
        (None, LATER, None, Outcome.PROCEED),
        ("foo", EARLIER, None, Outcome.NOT_MODIFIED),
        (None, None, T, Outcome.NOT_MODIFIED),
        (None, None, T + 1, Outcome.PROCEED),
        (None, "foo", T, Outcome.NOT_MODIFIED),
        (None, None, None, Outcome.PROCEED),
    ],
)
def test_9111_4_3_2_what_stands_in_for_last_modified(
    last_modified: str | None, date: str | None, received_at: float | None, expected: Outcome
) -> None:
    request = Fields([("If-Modified-Since", AT)])
    found = evaluate(
        "GET", request, status=200, etag=None, last_modified=last_modified, date=date, received_at=received_at
    )
    assert found is expected


@pytest.mark.parametrize(
    ("stored", "newer", "speaks"),
    [
        ([("ETag", '"a"')], [("ETag", '"a"')], True),
        ([("ETag", '"a"')], [("ETag", '"b"')], False),
        ([("ETag", 'W/"a"')], [("ETag", '"a"')], False),
        ([("ETag", '"a"')], [("ETag", 'W/"a"')], True),
        ([("ETag", '"a"'), ("Last-Modified", AT)], [("ETag", '"b"'), ("Last-Modified", AT)], False),
        ([("ETag", '"a"'), ("Last-Modified", AT)], [("Last-Modified", AT)], True),
        ([("Last-Modified", AT)], [("Last-Modified", EARLIER)], False),
        ([("Last-Modified", AT)], [("ETag", '"a"')], False),
        ([("ETag", '"a"')], [], False),
        ([("Last-Modified", AT)], [], False),
        ([], [], True),
    ],
)
def test_9111_4_3_4_which_stored_response_a_304_speaks_of(stored: Pairs, newer: Pairs, speaks: bool) -> None:
    assert selects(Fields(stored), Fields(newer)) is speaks


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("Test-Header", "A", "B"),
        ("X-Test-Header", "A", "B"),
        ("Content-Foo", "A", "B"),
        ("X-Content-Foo", "A", "B"),
        ("Content-Type", "text/plain", "text/plain;charset=utf-8"),
        ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g=="),
        ("Content-Location", "/foo", "/bar"),
        ("Content-Security-Policy", "default-src 'self'", "default-src 'self' cdn.example.com"),
        ("X-Frame-Options", "deny", "sameorigin"),
        ("Cache-Control", "max-age=1", "max-age=3600"),
        ("Expires", AT, LATER),
        ("Date", AT, LATER),
        ("ETag", 'W/"a"', 'W/"a"'),
        ("Set-Cookie", "a=b", "a=c"),
    ],
)
def test_9111_3_2_a_304_updates(name: str, before: str, after: str) -> None:
    assert freshen(Fields([(name, before), ("X", "1")]), Fields([(name, after)])) == Fields([("X", "1"), (name, after)])
    assert freshen(Fields([("X", "1")]), Fields([(name, after)])).get(name.lower()) == after


@pytest.mark.parametrize("name", sorted(NOT_UPDATED - {"age"}))
def test_9111_3_2_a_304_does_not_update(name: str) -> None:
    assert freshen(Fields([(name, "5")]), Fields([(name, "10")])).get(name) == "5"
    assert name not in freshen(Fields(), Fields([(name, "10")]))


@pytest.mark.parametrize("name", [*sorted(HOP_BY_HOP), "age"])
def test_9111_3_1_nor_bring_in_what_is_not_stored(name: str) -> None:
    assert name not in freshen(Fields(), Fields([(name, "x")]))


def test_9111_3_1_new_directives_name_new_fields() -> None:
    stored = Fields([("A", "1"), ("B", "2"), ("Set-Cookie", "c")])
    newer = Fields([("Cache-Control", 'no-cache="a"'), ("A", "3")])
    assert freshen(stored, newer).names == {"b", "set-cookie", "cache-control"}
    assert freshen(stored, newer, drop_set_cookie=True).names == {"b", "cache-control"}
    targeted = Fields([("Edge-Cache-Control", 'private="b"')])
    assert "b" not in freshen(stored, targeted)
    assert "b" in freshen(stored, targeted, targets=())


def test_9111_3_2_all_lines_of_a_field_are_replaced() -> None:
    stored = Fields([("Link", "<a>"), ("X", "1"), ("LINK", "<b>")])
    assert freshen(stored, Fields([("link", "<c>"), ("link", "<d>")])).all("link") == ("<c>", "<d>")


def test_9111_4_3_4_stored_fields_a_304_omits_stay() -> None:
    assert freshen(Fields([("Test-Header", "A")]), Fields([("Date", AT)])).get("test-header") == "A"


@pytest.mark.parametrize(
    ("head", "agrees"),
    [
        ([], True),
        ([("ETag", '"a"'), ("Last-Modified", AT), ("Content-Length", "10")], True),
        ([("ETag", '"b"')], False),
        ([("Last-Modified", LATER)], False),
        ([("ETag", '"a"'), ("Last-Modified", LATER)], False),
        ([("Content-Length", "11")], False),
        ([("Content-Length", "10")], True),
    ],
)
def test_9111_4_3_5_head(head: Pairs, agrees: bool) -> None:
    stored = [("ETag", '"a"'), ("Last-Modified", AT)]
    assert head_agrees(Fields([*stored, ("Content-Length", "10")]), Fields(head)) is agrees
    assert head_agrees(Fields(stored), Fields(head), size=10) is agrees


def test_9111_4_3_5_a_validator_or_length_not_stored_does_not_match() -> None:
    assert not head_agrees(Fields(), Fields([("ETag", '"a"')]))
    assert not head_agrees(Fields(), Fields([("Last-Modified", AT)]))
    assert not head_agrees(Fields(), Fields([("Content-Length", "5")]))


def test_9110_15_4_5_what_a_304_carries() -> None:
    required = [
        ("Content-Location", "/a"),
        ("Date", AT),
        ("ETag", '"a"'),
        ("Vary", "Accept"),
        ("Cache-Control", "max-age=5"),
        ("Expires", LATER),
    ]
    metadata = [("Content-Type", "video/mp4"), ("Content-Length", "5"), ("Content-Encoding", "br")]
    assert not_modified_fields(Fields([*metadata, *required])) == Fields(required)


def test_9110_6_6_1_a_date_is_added_where_there_is_none() -> None:
    assert with_date(Fields(), T) == Fields([("Date", AT)])
    assert with_date(Fields([("date", LATER)]), T) == Fields([("date", LATER)])


NAMES = st.sampled_from(["If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"])


@pytest.mark.rfc("9110-13.2.2")
@given(st.lists(st.tuples(NAMES, st.text(max_size=10) | st.sampled_from(['"a"', "*", AT]))), st.text(max_size=10))
def test_evaluating_never_raises(request_: Pairs, etag: str) -> None:
    for as_origin in (False, True):
        found = evaluate("GET", Fields(request_), status=200, etag=etag, last_modified=etag, as_origin=as_origin)
        assert as_origin or found is not Outcome.PRECONDITION_FAILED


@pytest.mark.rfc("9111-4.3.4")
@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "Content-Length", "Age", "Connection", "ETag"]), st.text("ab", max_size=3))
    )
)
def test_freshening_twice_is_freshening_once(pairs: Pairs) -> None:
    stored, newer = Fields([("A", "0"), ("ETag", '"x"')]), Fields(pairs)
    once = freshen(stored, newer)
    assert freshen(once, newer) == once
    assert "age" not in once
