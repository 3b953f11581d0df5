"""Byte ranges (RFC 9110, 13.1.5, 14, 15.3.7 and 15.5.17)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.ranges import (
    UNSATISFIABLE,
    ContentRange,
    RangeSet,
    Unsatisfiable,
    content_range,
    if_range_matches,
    multipart_layout,
    parse_content_range,
    parse_range,
    resolve,
    unsatisfied_range,
)

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:30 GMT"

POSITIONS = st.none() | st.integers(0, 30)
SPECS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 30), st.none()),
        st.tuples(st.none(), st.integers(0, 30)),
        st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: (min(pair), max(pair))),
    ),
    min_size=1,
    max_size=8,
).map(tuple)


@pytest.mark.parametrize(
    ("value", "specs"),
    [
        ("bytes=0-499", ((0, 499),)),
        ("bytes=500-", ((500, None),)),
        ("bytes=-500", ((None, 500),)),
        ("bytes=-0", ((None, 0),)),
        ("bytes=0-0,-1", ((0, 0), (None, 1))),
        ("bytes= 0-999, 4500-5499 ,\t-1000", ((0, 999), (4500, 5499), (None, 1000))),
        ("BYTES=0-1", ((0, 1),)),
        ("Bytes=,0-1,,", ((0, 1),)),
        ("bytes=007-0010", ((7, 10),)),
        ("bytes=0-" + "9" * 5000, ((0, 10**18),)),
    ],
)
def test_9110_14_1_2_byte_ranges(value: str, specs: RangeSet) -> None:
    assert parse_range(value) == specs


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes= ,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1-a",
        "bytes=5-4",
        "bytes=0-1,5-4",
        "bytes=0-1,x",
        "bytes=--1",
        "bytes=1--2",
        "bytes=-1-2",
        "bytes=+1-2",
        "bytes=1",
        "bytes=1 -2",
        "bytes=1- 2",
        "bytes =1-2",
        "bytes:1-2",
        "bytes 1-2",
        "items=0-4",
        "0-4",
        "bytes=0x0-0x4",
        "bytes=٣-٤",
        "bytes=1-2;q=1",
        "bytes=0-1\n",
        "bytes=1.0-2.0",
    ],
)
def test_9110_14_2_other_units_and_bad_syntax_are_ignored(value: str) -> None:
    assert parse_range(value) is None


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("bytes=0-499", [(0, 500)]),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=999-", [(999, 1000)]),
        ("bytes=0-", [(0, 1000)]),
        ("bytes=900-99999", [(900, 1000)]),
        ("bytes=-1", [(999, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("bytes=1000-,0-1", [(0, 2)]),
        ("bytes=-0,0-1", [(0, 2)]),
        ("bytes=0-1,10-11", [(0, 2), (10, 12)]),
        ("bytes=10-11,0-1", [(10, 12), (0, 2)]),
        ("bytes=0-9,5-14", [(0, 15)]),
        ("bytes=0-9,10-14", [(0, 15)]),
        ("bytes=0-9,11-14", [(0, 10), (11, 15)]),
        ("bytes=50-59,0-9,55-64,5-14", [(50, 65), (0, 15)]),
        ("bytes=20-29,0-9,10-19", [(0, 30)]),
        ("bytes=0-,0-,0-,0-,0-,0-", [(0, 1000)]),
    ],
)
def test_9110_15_3_7_2_spans_in_the_order_asked_for_and_coalesced(value: str, spans: list[tuple[int, int]]) -> None:
    specs = parse_range(value)
    assert specs is not None
    assert resolve(specs, 1000, max_ranges=5) == spans


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=2000-,-0"])
def test_9110_15_5_17_unsatisfiable(value: str) -> None:
    specs = parse_range(value)
    assert specs is not None
    assert resolve(specs, 1000, max_ranges=5) is UNSATISFIABLE
    assert repr(UNSATISFIABLE) == "UNSATISFIABLE"


def test_9110_14_2_too_many_ranges_are_ignored() -> None:
    specs = parse_range("bytes=" + ",".join(f"{10 * n}-{10 * n + 1}" for n in range(6)))
    assert specs is not None
    assert resolve(specs, 1000, max_ranges=5) == []
    assert len(list(resolve(specs, 1000, max_ranges=6))) == 6  # type: ignore[arg-type]


def test_9110_14_1_2_an_empty_representation() -> None:
    assert resolve(((0, None),), 0, max_ranges=5) is UNSATISFIABLE
    assert resolve(((None, 0),), 0, max_ranges=5) is UNSATISFIABLE
    assert resolve(((None, 5),), 0, max_ranges=5) == []


@pytest.mark.rfc("9110-14.1.2")
@given(SPECS, st.integers(0, 25), st.integers(1, 9))
def test_spans_are_within_size_apart_and_exactly_what_was_asked(specs: RangeSet, size: int, max_ranges: int) -> None:
    asked = set()
    for first, last in specs:
        if first is None:
            asked |= set(range(max(0, size - (last or 0)), size))
        else:
            asked |= set(range(first, size if last is None else min(size, last + 1)))
    spans = resolve(specs, size, max_ranges=max_ranges)
    if isinstance(spans, Unsatisfiable):
        assert not asked
        return
    assert len(spans) <= max_ranges
    if not spans:
        unmerged = sum(byte - 1 not in asked for byte in asked)
        assert unmerged > max_ranges or size == 0
        return
    assert {byte for start, end in spans for byte in range(start, end)} == asked
    for (_, end), (start, _) in zip(sorted(spans), sorted(spans)[1:], strict=False):
        assert end < start
    if specs[0][0] is not None and specs[0][0] < size:
        assert spans[0][0] <= specs[0][0] < spans[0][1]


@pytest.mark.rfc("9110-14.2")
@given(st.text(max_size=30) | st.text(alphabet="bytes=0123-, ", max_size=30).map(lambda text: "bytes=" + text))
def test_parsing_never_raises(value: str) -> None:
    specs = parse_range(value)
    if specs is not None:
        assert specs
        assert all(first is None or last is None or first <= last for first, last in specs)
        assert all(spec != (None, None) for spec in specs)
    parse_content_range(value)
    if_range_matches(value, value, value, value)


def test_9110_14_4_content_range() -> None:
    assert content_range(0, 500, 1000) == "bytes 0-499/1000"
    assert content_range(0, 1, None) == "bytes 0-0/*"
    assert unsatisfied_range(1000) == "bytes */1000"


@pytest.mark.parametrize(("start", "end", "size"), [(0, 0, 10), (5, 4, 10), (-1, 4, 10), (0, 11, 10)])
def test_9110_14_4_no_empty_or_outlying_content_range(start: int, end: int, size: int) -> None:
    with pytest.raises(ValueError, match="no range"):
        content_range(start, end, size)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-499/1000", ContentRange(0, 500, 1000)),
        ("Bytes 0-499/*", ContentRange(0, 500, None)),
        ("bytes */1000", ContentRange(None, None, 1000)),
        ("bytes */0", ContentRange(None, None, 0)),
        (" bytes 999-999/1000 ", ContentRange(999, 1000, 1000)),
        ("bytes 500-499/1000", None),
        ("bytes 0-1000/1000", None),
        ("bytes 0-0/0", None),
        ("bytes */*", None),
        ("bytes=0-499/1000", None),
        ("bytes 0-499", None),
        ("bytes 0-/1000", None),
        ("bytes -499/1000", None),
        ("bytes 0 - 499/1000", None),
        ("items 0-499/1000", None),
        ("bytes 0-499/1000, bytes 500-999/1000", None),
        ("", None),
    ],
)
def test_9110_14_4_parsing(value: str, expected: ContentRange | None) -> None:
    assert parse_content_range(value) == expected
    if expected is not None:
        assert expected.is_unsatisfied is (expected.start is None)


@given(st.integers(0, 10**17), st.integers(1, 10**17), st.none() | st.integers(0, 10**17))
def test_9110_14_4_reads_back(start: int, length: int, rest: int | None) -> None:
    end = start + length
    size = None if rest is None else end + rest
    assert parse_content_range(content_range(start, end, size)) == (start, end, size)


@pytest.mark.parametrize(
    ("value", "etag", "last_modified", "date", "matches"),
    [
        ('"a"', '"a"', None, None, True),
        ('"a"', '"b"', None, None, False),
        ('W/"a"', 'W/"a"', None, None, False),
        ('"a"', 'W/"a"', None, None, False),
        ('W/"a"', '"a"', None, None, False),
        ('"a"', None, BEFORE, DATE, False),
        (BEFORE, '"a"', BEFORE, DATE, True),
        (BEFORE, None, BEFORE, DATE, True),
        ("Sun Nov  6 08:49:30 1994", None, BEFORE, DATE, True),
        (DATE, None, BEFORE, DATE, False),
        (BEFORE, None, DATE, DATE, False),
        (DATE, None, DATE, DATE, False),
        (BEFORE, None, BEFORE, None, False),
        (BEFORE, None, BEFORE, BEFORE, False),
        (BEFORE, None, None, DATE, False),
        ("a", "a", None, None, False),
        ("", None, None, None, False),
        ('"a", "b"', '"a"', None, None, False),
        ("*", '"a"', None, None, False),
    ],
)
def test_9110_13_1_5_if_range(
    value: str, etag: str | None, last_modified: str | None, date: str | None, matches: bool
) -> None:
    assert if_range_matches(value, etag, last_modified, date) is matches


def test_9110_14_6_multipart_byteranges() -> None:
    body = b"0123456789"
    layout = multipart_layout([(0, 2), (7, 10)], 10, "video/mp4", "SEP")
    whole = b"".join(head + body[start:end] for head, start, end in layout.parts) + layout.tail
    assert whole == (
        b"--SEP\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--SEP\r\nContent-Type: video/mp4\r\nContent-Range: bytes 7-9/10\r\n\r\n789"
        b"\r\n--SEP--\r\n"
    )
    assert layout.length == len(whole)


def test_9110_14_6_parts_without_a_type() -> None:
    assert multipart_layout([(0, 2)], None, None, "S").parts == [(b"--S\r\nContent-Range: bytes 0-1/*\r\n\r\n", 0, 2)]


@pytest.mark.rfc("9110-17.15")
def test_a_hostile_range_takes_time_in_proportion() -> None:
    started = time.process_time()
    specs = parse_range("bytes=" + "0-," * 20_000 + "1-" * 20_000)
    assert specs is None
    specs = parse_range("bytes=" + ",".join(f"{3 * n}-{3 * n}" for n in range(10_000)))
    assert specs is not None
    assert resolve(specs, 100_000, max_ranges=8) == []
    assert time.process_time() - started < 2
