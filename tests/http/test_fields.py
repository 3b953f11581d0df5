"""Header fields (RFC 9110, 5 and 7.6.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.fields import HOP_BY_HOP, Fields, connection_options, end_to_end, list_members, split_list

NAMES = st.sampled_from(["A", "a", "B", "Connection", "Keep-Alive", "ETag"])
PAIRS = st.lists(st.tuples(NAMES, st.text(alphabet="ab, ", max_size=6)), max_size=8)

SOME = Fields([("Cache-Control", " max-age=1\t"), ("ETag", '"a"'), ("cache-control", "public")])


def test_9110_5_1_names_are_found_in_any_case_and_kept_as_received() -> None:
    assert SOME.get("cache-control") == "max-age=1"
    assert SOME.pairs[0] == ("Cache-Control", " max-age=1\t")
    assert "etag" in SOME
    assert "expires" not in SOME


def test_9110_5_3_lines_combine_in_order() -> None:
    assert SOME.all("cache-control") == ("max-age=1", "public")
    assert SOME.combined("cache-control") == "max-age=1, public"
    assert SOME.combined("expires") is None
    assert SOME.all("expires") == ()


def test_fields_are_values() -> None:
    assert Fields([("ETag", "x")]) == Fields([("etag", "x")])
    assert hash(Fields([("ETag", "x")])) == hash(Fields([("etag", "x")]))
    assert Fields([("ETag", "x")]) != Fields([("ETag", "X")])
    assert Fields([("a", "1"), ("b", "2")]) != Fields([("b", "2"), ("a", "1")])
    assert Fields() != ()
    with pytest.raises(AttributeError):
        SOME.pairs = ()  # type: ignore[misc]
    with pytest.raises(AttributeError):
        SOME.other = 1  # type: ignore[attr-defined]


@pytest.mark.rfc("9111-3.2")
def test_replacing_takes_all_lines_of_a_name_from_the_other() -> None:
    newer = Fields([("CACHE-CONTROL", "no-cache"), ("X", "1")])
    assert SOME.replacing(newer) == Fields([("ETag", '"a"'), ("Cache-Control", "no-cache"), ("X", "1")])


def test_without_and_adding() -> None:
    assert SOME.without({"cache-control"}) == Fields([("ETag", '"a"')])
    assert SOME.adding("Via", "1.1 x").get("via") == "1.1 x"
    assert len(SOME.adding("Via", "1.1 x")) == 4


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_9110_7_6_1_hop_by_hop_fields_do_not_go_on(name: str) -> None:
    assert end_to_end(Fields([(name.title(), "close"), ("X", "y")])) == Fields([("X", "y")])


@pytest.mark.parametrize(
    "connection",
    [["a, B"], ["A", "b"], [" a ,, b ,"], ["close, a", "b"]],
    ids=["one line", "two lines", "empty members", "with close"],
)
def test_9110_7_6_1_fields_listed_in_connection_do_not_go_on(connection: list[str]) -> None:
    fields = Fields([*(("Connection", line) for line in connection), ("A", "1"), ("b", "2"), ("C", "3")])
    assert end_to_end(fields) == Fields([("C", "3")])


def test_9110_7_6_1_cache_control_is_no_connection_option() -> None:
    fields = Fields([("Connection", "cache-control"), ("Cache-Control", "no-store")])
    assert end_to_end(fields) == Fields([("Cache-Control", "no-store")])


def test_9110_5_6_1_empty_list_members_do_not_count() -> None:
    assert list_members(" a,, b ,\t,c") == ["a", "b", "c"]
    assert list_members(" , ") == []


@pytest.mark.parametrize(
    ("value", "members"),
    [
        ('a="b, c", d', ['a="b, c"', "d"]),
        (r'a="\", b", c', [r'a="\", b"', "c"]),
        (r'a\, "b"', ["a\\", '"b"']),
        ('"a","b"', ['"a"', '"b"']),
    ],
)
def test_9110_5_6_4_commas_in_quoted_strings_divide_nothing(value: str, members: list[str]) -> None:
    assert split_list(value) == (members, True)


def test_9110_5_6_4_nothing_hides_behind_an_unfinished_string() -> None:
    assert split_list('a="b, no-store') == (['a="b', "no-store"], False)


@pytest.mark.rfc("9110-7.6.1")
@given(PAIRS)
def test_end_to_end_is_idempotent_and_keeps_order(pairs: list[tuple[str, str]]) -> None:
    once = end_to_end(Fields(pairs))
    assert end_to_end(once) == once
    assert not once.names & (HOP_BY_HOP | connection_options(Fields(pairs)))
    assert [pair for pair in pairs if pair in once.pairs] == list(once)


@pytest.mark.rfc("9111-3.2")
@given(PAIRS, PAIRS)
def test_replacing_has_every_name_of_both(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    merged = Fields(one).replacing(Fields(other))
    assert merged.names == Fields(one).names | Fields(other).names
    for name in Fields(other).names:
        assert merged.all(name) == Fields(other).all(name)


@pytest.mark.rfc("9110-5.6.1")
@given(st.text(alphabet='a",\\ =', max_size=30))
def test_split_list_never_raises_and_loses_only_commas_and_blanks(value: str) -> None:
    members, _ = split_list(value)
    for member in members:
        assert member
        assert member in value
