"""Vary (RFC 9111, 4.1; RFC 9110, 12.5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.fields import Fields
from edge.http.vary import STAR, accept_encoding, variant_key, vary_names

Pairs = list[tuple[str, str]]


def names_of(*lines: str) -> object:
    return vary_names(Fields(("Vary", line) for line in lines))


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        ([""], ()),
        ([" , "], ()),
        (["Foo"], ("foo",)),
        (["Foo, BAR ,foo"], ("bar", "foo")),
        (["Foo", "Bar"], ("bar", "foo")),
        (["Accept-Encoding,"], ("accept-encoding",)),
    ],
)
def test_9110_12_5_5_names(lines: list[str], names: tuple[str, ...]) -> None:
    assert names_of(*lines) == names


@pytest.mark.parametrize(
    "lines",
    [["*"], ["*, *"], ["*", "*"], [", *"], ["", "*"], ["*, Foo"], ["Foo, *"], ["Foo", " * "], ["foo bar"], ['"a"']],
)
def test_9111_4_1_a_star_anywhere_or_a_bad_name_matches_nothing(lines: list[str]) -> None:
    assert names_of(*lines) is STAR


def key(names: list[str], *pairs: tuple[str, str]) -> str:
    return variant_key(names, Fields(pairs))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("Foo", "1")], [("FOO", "1")]),
        ([("Foo", "1,2")], [("Foo", " 1, 2 ")]),
        ([("Foo", "1, 2")], [("Foo", "1"), ("Foo", "2")]),
        ([("Foo", "1 ,2")], [("Foo", "1,2")]),
        ([("Foo", "1\t,\t2")], [("Foo", "1, 2")]),
        ([("Foo", "a  b")], [("Foo", "a b")]),
        ([("Foo", '(a"b) ,c')], [("Foo", '(a"b), c')]),
        ([("Foo", r'"a\\" ,b')], [("Foo", r'"a\\", b')]),
        ([("Foo", r"a\ ,b")], [("Foo", r"a\, b")]),
        ([("Foo", ") ,b")], [("Foo", "), b")]),
        ([("Other", "1")], [("Other", "2")]),
        ([], []),
    ],
)
def test_9111_4_1_requests_that_match(one: Pairs, other: Pairs) -> None:
    assert key(["foo"], *one) == key(["foo"], *other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("Foo", "1")], [("Foo", "2")]),
        ([("Foo", "1")], []),
        ([("Foo", "")], []),
        ([("Foo", "a")], [("Foo", "A")]),
        ([("Foo", "1, 2")], [("Foo", "2, 1")]),
        ([("Foo", '"a,b"')], [("Foo", '"a, b"')]),
        ([("Foo", r'"\",b"')], [("Foo", r'"\", b"')]),
        ([("Foo", "((a),b)")], [("Foo", "((a), b)")]),
        ([("Foo", r"(\),b)")], [("Foo", r"(\), b)")]),
        ([("Foo", "ab")], [("Foo", "a b")]),
        ([("Foo", "(a,b)")], [("Foo", "(a, b)")]),
        ([("Foo", "1")], [("Foo", "1"), ("Foo", "1")]),
    ],
)
def test_9111_4_1_requests_that_do_not(one: Pairs, other: Pairs) -> None:
    assert key(["foo"], *one) != key(["foo"], *other)


def test_9111_4_1_each_named_field_counts() -> None:
    one = key(["bar", "foo"], ("Foo", "1"), ("Bar", "2"))
    assert one == key(["bar", "foo"], ("Bar", "2"), ("Foo", "1"))
    assert one != key(["bar", "foo"], ("Foo", "2"), ("Bar", "1"))
    assert one != key(["bar", "foo"], ("Foo", "1"))
    assert key(["bar"], ("Foo", "1")) == key(["bar"])


@pytest.mark.rfc("9111-4.1")
def test_values_cannot_pass_for_other_fields() -> None:
    assert key(["bar", "foo"], ("Bar", "1\nfoo=2")) != key(["bar", "foo"], ("Bar", "1"), ("Foo", "2"))
    assert key(["foo"], ("Foo", "a\nb")) != key(["foo"], ("Foo", "a%0Ab"))


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        ("gzip, br", "br, gzip"),
        ("br,gzip", "br, gzip"),
        ("GZip;q=0.5, br;Q=1", "br, gzip"),
        ("x-gzip", "gzip"),
        ("gzip, gzip", "gzip"),
        ("gzip;q=0, br", "br"),
        ("gzip; q=0.000, br", "br"),
        ("gzip;q=0.001", "gzip"),
        ("identity", ""),
        ("", ""),
        ("identity;q=0, gzip", "gzip, identity;q=0"),
        ("*;q=0, gzip", "gzip, *;q=0"),
        ("*;q=0, identity", "identity, *;q=0"),
        ("*", "*"),
        ("*, gzip;q=0", "*, gzip;q=0"),
        ("identity, *", "*"),
        ("unheard-of, gzip", "gzip, unheard-of"),
        (" , ;q=0, gzip", "gzip"),
    ],
)
def test_9110_12_5_3_accept_encoding(value: str, codings: str) -> None:
    assert accept_encoding(value) == codings


def test_9110_12_5_3_accept_encoding_in_keys() -> None:
    names = ["accept-encoding"]
    assert key(names, ("Accept-Encoding", "gzip;q=0.9, br")) == key(
        names, ("accept-encoding", "br"), ("Accept-Encoding", "gzip")
    )
    assert key(names, ("Accept-Encoding", "gzip")) != key(names, ("Accept-Encoding", "gzip, zstd"))
    assert key(names, ("Accept-Encoding", "")) != key(names)


def test_9110_12_5_4_languages_are_case_insensitive_and_ordered_by_weight() -> None:
    names = ["accept-language"]
    assert key(names, ("Accept-Language", "en-GB, DE")) == key(names, ("Accept-Language", "en-gb,de"))
    # an order among equal weights "cannot be relied upon"
    assert key(names, ("Accept-Language", "en, de")) == key(names, ("Accept-Language", "de, en"))
    assert key(names, ("Accept-Language", "en;q=0.5, de")) == key(names, ("Accept-Language", "de;q=1.0, en; q=0.50"))
    assert key(names, ("Accept-Language", "en;q=0.5, de")) != key(names, ("Accept-Language", "de;q=0.5, en"))
    assert key(names, ("Accept-Language", "en;q=2, de")) != key(names, ("Accept-Language", "de, en;q=2"))


VALUES = st.text(alphabet='ab ,;q=0*"()\\\t\n%', max_size=20)


@pytest.mark.rfc("9111-4.1")
@given(VALUES, VALUES)
def test_unlike_values_have_unlike_keys(one: str, other: str) -> None:
    def bare(value: str) -> str:
        return "".join(value.split())

    if bare(one) != bare(other):
        assert key(["foo"], ("Foo", one)) != key(["foo"], ("Foo", other))


@pytest.mark.rfc("9110-12.5.3")
@given(VALUES)
def test_normalising_accept_encoding_is_idempotent(value: str) -> None:
    once = accept_encoding(value)
    assert accept_encoding(once) == once


@pytest.mark.rfc("9110-12.5.5")
@given(st.lists(st.text(max_size=10), max_size=3))
def test_names_never_raise_and_are_sorted(lines: list[str]) -> None:
    names = vary_names(Fields(("Vary", line) for line in lines))
    if names is not STAR:
        assert list(names) == sorted(set(names))
        variant_key(names, Fields(("Vary", line) for line in lines))
