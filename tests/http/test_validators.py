"""Validators (RFC 9110, 8.8; RFC 9111, 4.3.1)."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.fields import Fields
from edge.http.validators import (
    EntityTag,
    Validators,
    is_strong_date,
    parse_etag,
    parse_etag_list,
    strong_match,
    strongest,
    weak_match,
)

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
SECOND_BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
TAGS = st.builds(
    EntityTag, st.booleans(), st.text(alphabet="ab,/! \\é", max_size=5).map(lambda text: f'"{text.replace(" ", "")}"')
)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ('"abc"', EntityTag(False, '"abc"')),
        ('W/"abc"', EntityTag(True, '"abc"')),
        ('""', EntityTag(False, '""')),
        ('"a,b"', EntityTag(False, '"a,b"')),
        ('"a\\b"', EntityTag(False, '"a\\b"')),
        ('"abcdef\xfc"', EntityTag(False, '"abcdef\xfc"')),
        (' "abc"\t', EntityTag(False, '"abc"')),
    ],
)
def test_9110_8_8_3_entity_tags(text: str, tag: EntityTag) -> None:
    assert parse_etag(text) == tag
    assert str(tag) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "abc",
        'w/"abc"',
        'W"abc"',
        'W\\"abc"',
        'W/ "abc"',
        '"abc',
        'abc"',
        '"a b"',
        '"a"b"',
        "'abc'",
        "*",
        '"\x7f"',
    ],
)
def test_9110_8_8_3_anything_else_is_none(text: str | None) -> None:
    assert parse_etag(text) is None


@pytest.mark.parametrize(
    ("one", "other", "strong", "weak"),
    [
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
        ('"a"', '"A"', False, False),
        ("1", "1", False, False),
    ],
)
def test_9110_8_8_3_2_comparison(one: str, other: str, strong: bool, weak: bool) -> None:
    assert strong_match(parse_etag(one), parse_etag(other)) is strong
    assert weak_match(parse_etag(one), parse_etag(other)) is weak


@pytest.mark.parametrize("match", [strong_match, weak_match])
def test_9110_8_8_3_2_nothing_matches_an_absent_tag(
    match: Callable[[EntityTag | None, EntityTag | None], bool],
) -> None:
    assert not match(EntityTag(False, '"a"'), None)
    assert not match(None, EntityTag(False, '"a"'))
    assert not match(None, None)


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ('"a"', ['"a"']),
        ('"a", W/"b" ,"c"', ['"a"', 'W/"b"', '"c"']),
        ('"a,b", "c"', ['"a,b"', '"c"']),
        (',, "a" ,,', ['"a"']),
        ('x, "a"', ['"a"']),
        ('"a" x, "b"', ['"b"']),
        ("abcdef", []),
        ("", []),
        ('*, "a"', ['"a"']),
        ('"a""b", "c"', ['"c"']),
    ],
)
def test_9110_13_1_2_lists(value: str, tags: list[str]) -> None:
    found = parse_etag_list(value)
    assert found != "*"
    assert [str(tag) for tag in found] == tags


def test_9110_13_1_2_star() -> None:
    assert parse_etag_list("*") == "*"
    assert parse_etag_list(" * ") == "*"


@pytest.mark.parametrize(
    ("last_modified", "date", "strong"),
    [
        (SECOND_BEFORE, DATE, True),
        (DATE, DATE, False),
        (DATE, SECOND_BEFORE, False),
        (SECOND_BEFORE, None, False),
        (None, DATE, False),
        ("foo", DATE, False),
        (SECOND_BEFORE, "foo", False),
    ],
)
def test_9110_8_8_2_2_a_date_is_strong_a_second_later(
    last_modified: str | None, date: str | None, strong: bool
) -> None:
    assert is_strong_date(last_modified, date) is strong


@pytest.mark.parametrize(
    ("etag", "last_modified", "date", "usable"),
    [
        ('"a"', SECOND_BEFORE, DATE, '"a"'),
        ('"a"', None, None, '"a"'),
        ('W/"a"', SECOND_BEFORE, DATE, None),
        (None, SECOND_BEFORE, DATE, SECOND_BEFORE),
        (None, DATE, DATE, None),
        (None, None, DATE, None),
    ],
)
def test_9110_13_1_5_what_if_range_may_carry(
    etag: str | None, last_modified: str | None, date: str | None, usable: str | None
) -> None:
    assert Validators(etag, last_modified).strong_for_range(date) == usable


def test_9111_4_3_1_a_validation_sends_all_validators() -> None:
    assert Validators('"a"', DATE).conditional_fields() == (("If-None-Match", '"a"'), ("If-Modified-Since", DATE))
    assert Validators('W/"a"', None).conditional_fields() == (("If-None-Match", 'W/"a"'),)
    assert Validators(None, DATE).conditional_fields() == (("If-Modified-Since", DATE),)
    assert Validators(None, None).conditional_fields() == ()


@pytest.mark.rfc("9110-8.8")
@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("ETag", '"a"'), ("Last-Modified", DATE)], Validators('"a"', DATE)),
        ([("etag", "a"), ("last-modified", "yesterday")], Validators(None, None)),
        ([("ETag", '"a"'), ("ETag", '"a"')], Validators('"a"', None)),
        ([("ETag", '"a"'), ("ETag", '"b"')], Validators(None, None)),
        ([("ETag", ""), ("Last-Modified", DATE)], Validators(None, DATE)),
        ([], Validators(None, None)),
    ],
)
def test_validators_of_a_response(pairs: list[tuple[str, str]], expected: Validators) -> None:
    found = strongest(Fields(pairs))
    assert found == expected
    assert bool(found) is (expected != Validators(None, None))


@pytest.mark.rfc("9110-13.1.2")
@given(st.lists(TAGS, max_size=5))
def test_lists_of_tags_read_back(tags: list[EntityTag]) -> None:
    assert parse_etag_list(" , ".join(map(str, tags))) == tags


@pytest.mark.rfc("9110-8.8.3")
@given(st.text(max_size=30) | st.text(alphabet='W/"*, a', max_size=30))
def test_parsing_never_raises(text: str) -> None:
    parse_etag(text)
    found = parse_etag_list(text)
    if found != "*":
        assert [parse_etag(str(tag)) for tag in found] == found
    strongest(Fields([("ETag", text), ("Last-Modified", text)]))


@pytest.mark.rfc("9110-13.1.2")
@pytest.mark.parametrize(
    "text", ['"' * 30_000, '"a' * 20_000, '"a",' * 10_000, "W/" * 30_000, '"a" ' * 10_000, " " * 60_000]
)
def test_a_hostile_list_takes_time_in_proportion(text: str) -> None:
    started = time.process_time()
    parse_etag_list(text)
    assert time.process_time() - started < 1
