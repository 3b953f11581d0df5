"""The cache key (RFC 3986, 6.2; RFC 9110, 4.2; RFC 9112, 3.2)."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.key import (
    BadTarget,
    QueryMode,
    QueryRule,
    cache_key,
    normalise_host,
    normalise_path,
    normalise_query,
    parse_absolute,
    split_target,
)

ALL = QueryRule()
PATHS = st.lists(
    st.sampled_from(
        ["a", "A", ".", "..", "/", "%2e", "%2E", "%2F", "%5c", "%41", "%zz", "%", "~", "é", "\\", ";", "%25"]
    ),
    max_size=10,
).map(lambda parts: "/" + "".join(parts))
QUERIES = st.lists(
    st.sampled_from(["a", "b", "=", "&", "CMCD", "%43MCD", "%26", "+", "1", "%3d", "é", "?", "/", "%0a"]), max_size=12
).map("".join)


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("example.com", 80, "example.com"),
        ("Example.COM", 80, "example.com"),
        ("example.com:80", 80, "example.com"),
        ("example.com:443", 443, "example.com"),
        ("example.com:443", 80, "example.com:443"),
        ("example.com:80", 443, "example.com:80"),
        ("example.com:00080", 80, "example.com"),
        ("example.com:8080", 80, "example.com:8080"),
        ("example.com:", 80, "example.com"),
        ("example.com:1", 80, "example.com:1"),
        ("example.com:65535", 80, "example.com:65535"),
        ("a" * 63, 80, "a" * 63),
        ("example.com.", 80, "example.com"),
        ("example.com.:80", 80, "example.com"),
        ("my_host", 80, "my_host"),
        ("xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
        ("127.0.0.1:8080", 80, "127.0.0.1:8080"),
        ("[::1]", 80, "[::1]"),
        ("[0:0:0:0:0:0:0:1]:80", 80, "[::1]"),
        ("[2001:DB8::0A]:81", 80, "[2001:db8::a]:81"),
    ],
)
def test_9110_4_2_3_hosts(host: str, port: int, expected: str) -> None:
    assert normalise_host(host, port) == expected
    assert normalise_host(expected, port) == expected


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        ".",
        "a..b",
        ".a",
        "a..",
        "-a",
        "a-",
        "a b",
        "a\tb",
        " a",
        "a/b",
        "a?b",
        "a#b",
        "user@a",
        "a@b:80",
        "a:b",
        "a:-1",
        "a:+1",
        "a:0",
        "a:65536",
        "a:999999",
        "a:80:80",
        "a%2eb",
        "a\x00",
        "a\r\nb",
        "a,b",
        "b\xfccher.example",
        "\u212aexample",
        "[::1",
        "::1",
        "[::1]a",
        "[::1%25eth0]",
        "[1.2.3.4]",
        "[]",
        "a" * 64,
        "a." * 200 + "a",
    ],
)
def test_9110_7_2_bad_hosts(host: str) -> None:
    with pytest.raises(BadTarget):
        normalise_host(host, 80)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/A/b", "/A/b"),
        ("/%61%7E%2d", "/a~-"),
        ("/%c3%a9", "/%C3%A9"),
        ("/\xc3\xa9", "/%C3%A9"),
        ("/\u20ac", "/%E2%82%AC"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%3Fb", "/a%3Fb"),
        ("/a?b", "/a%3Fb"),
        ("/a%25b", "/a%25b"),
        ("/a%252e", "/a%252e"),
        ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
        ("/%21", "/%21"),
        ('/"<>[]^`{|}\\', "/%22%3C%3E%5B%5D%5E%60%7B%7C%7D%5C"),
        ("/./a", "/a"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/..", "/"),
        ("/.", "/"),
        ("//", "//"),
        ("/a//b", "/a//b"),
        ("/a//../b", "/a/b"),
        ("/a/...", "/a/..."),
        ("/a/..b", "/a/..b"),
        ("/a/b..", "/a/b.."),
        ("/a/%2e%2e%2e", "/a/..."),
        ("/a/b%2Fc.d", "/a/b%2Fc.d"),
    ],
)
def test_3986_6_2_2_paths(raw: str, path: str) -> None:
    assert normalise_path(raw) == path
    assert normalise_path(path) == path


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "a",
        "*",
        "/..",
        "/../a",
        "/a/../..",
        "/%2e%2e/a",
        "/a/%2E%2E/%2e%2e/b",
        "/./..",
        "/%",
        "/%4",
        "/%zz",
        "/%-1",
        "/%\u0663\u0663",
        "/a b",
        "/a\x00",
        "/a\x7f",
        "/a\r\n",
        "/a\tb",
        "/a%00",
        "/a%0d%0A",
        "/a%1F",
        "/a%7f",
        "/a#b",
        "/a/..%2Fb",
        "/a/%2e%2e%2fb",
        "/a/..%5cb",
        "/a/..\\b",
        "/a%2f..",
        "/a/x%2F.%2Fy",
    ],
)
def test_3986_5_2_4_paths_refused(raw: str) -> None:
    with pytest.raises(BadTarget):
        normalise_path(raw)


def rule(mode: str, *names: str, sort: bool = False) -> QueryRule:
    return QueryRule(QueryMode(mode), frozenset(names), sort)


@pytest.mark.rfc("9111-2", "3986-3.4")
@pytest.mark.parametrize(
    ("raw", "query_rule", "query"),
    [
        ("", ALL, ""),
        ("a=1&b=2", ALL, "a=1&b=2"),
        ("b=2&a=1", ALL, "b=2&a=1"),
        ("b=2&a=1", rule("all", sort=True), "a=1&b=2"),
        ("b&a=2&b=1&a=1", rule("all", sort=True), "a=2&a=1&b&b=1"),
        ("a=%7e%3d&b=%2f", ALL, "a=~%3D&b=%2F"),
        ("a=/?:@", ALL, "a=/?:@"),
        ("a=[1]|\xe9", ALL, "a=%5B1%5D%7C%E9"),
        ("a=1&&b", ALL, "a=1&&b"),
        ("a=+&b=%20", ALL, "a=+&b=%20"),
        ("a=%00", ALL, "a=%00"),
        ("CMCD=br%3D3200", ALL, ""),
        ("a=1&CMCD=br%3D3200,sid%3D%22x%22&b=2", ALL, "a=1&b=2"),
        ("%43MC%44=x&a", ALL, "a"),
        ("CMCD&a", ALL, "a"),
        ("CMCD=1&CMCD=2", ALL, ""),
        ("xCMCD=1&cmcd=2", ALL, "xCMCD=1&cmcd=2"),
        ("a=CMCD", ALL, "a=CMCD"),
        ("a=1", rule("none"), ""),
        ("a=1&b=2&a=3&c=4", rule("keep", "a", "c"), "a=1&a=3&c=4"),
        ("a=1&b=2&a=3", rule("drop", "a"), "b=2"),
        ("%61=1&A=2", rule("keep", "a"), "a=1"),
        ("a%5B%5D=1&b=2", rule("drop", "a[]"), "b=2"),
        ("my+token=1&b=2", rule("drop", "my token"), "b=2"),
        ("%c3%a9=1&b=2", rule("drop", "\xe9"), "b=2"),
        ("CMCD=1&a=1", rule("keep", "CMCD", "a"), "a=1"),
    ],
)
def test_queries(raw: str, query_rule: QueryRule, query: str) -> None:
    assert normalise_query(raw, query_rule) == query
    assert normalise_query(query, query_rule) == query


@pytest.mark.rfc("3986-3.4")
@pytest.mark.parametrize("raw", ["a=%", "a=%4", "a=%gg", "a b", "a\x00", "a\n", "a#b", "CMCD=%"])
def test_queries_refused(raw: str) -> None:
    with pytest.raises(BadTarget):
        normalise_query(raw, ALL)


@pytest.mark.rfc("3986-3.4")
def test_a_query_that_is_not_kept_is_still_checked_for_controls() -> None:
    with pytest.raises(BadTarget):
        normalise_query("a\nb", rule("none"))


def test_keys_are_legible() -> None:
    assert cache_key("a.example", "/v/1.mp4") == "a.example/v/1.mp4"
    assert cache_key("a.example", "/v/1.mp4", "x=1") == "a.example/v/1.mp4?x=1"
    assert cache_key("a.example", "/", "") == "a.example/"
    assert cache_key("a.example", "/", scheme="http", scheme_independent=False) == "http://a.example/"
    assert cache_key("a.example", "/", scheme="http") == cache_key("a.example", "/", scheme="https")


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/", ("/", None)),
        ("/a?b", ("/a", "b")),
        ("/a?", ("/a", "")),
        ("/a?b?c", ("/a", "b?c")),
        ("//evil.example/a", ("//evil.example/a", None)),
    ],
)
def test_9112_3_2_1_origin_form(target: str, parts: tuple[str, str | None]) -> None:
    assert split_target(target) == parts


@pytest.mark.parametrize("target", ["", "*", "a", "http://a/", "a:443", "?a"])
def test_9112_3_2_1_anything_else_is_not(target: str) -> None:
    with pytest.raises(BadTarget):
        split_target(target)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("http://a.example/b?c", ("http", "a.example", "/b?c")),
        ("HTTPS://A.example:8443", ("https", "A.example:8443", "/")),
        ("http://a?b", ("http", "a", "/?b")),
        ("http://[::1]:80//b", ("http", "[::1]:80", "//b")),
    ],
)
def test_9112_3_2_2_absolute_form(target: str, parts: tuple[str, str, str]) -> None:
    assert parse_absolute(target) == parts


@pytest.mark.parametrize(
    "target",
    ["", "/", "http:", "http://", "http:///a", "http:/a", "ftp://a/", "http://u@a/", "http://u:p@a/", "http://a/#b"],
)
def test_9112_3_2_2_anything_else_is_not(target: str) -> None:
    with pytest.raises(BadTarget):
        parse_absolute(target)


@pytest.mark.rfc("3986-6.2.2")
@given(PATHS | st.text(max_size=20).map(lambda text: f"/{text}"))
def test_a_normal_path_is_idempotent_and_spelt_one_way(raw: str) -> None:
    try:
        path = normalise_path(raw)
    except BadTarget:
        return
    assert normalise_path(path) == path
    assert path.startswith("/")
    assert path.isascii()
    assert path.isprintable()
    assert not set(path) & set(" ?#")
    assert not {".", ".."} & set(path.split("/"))
    assert all(found.isupper() or found.isdigit() for found in re.findall("%(..)", path))
    assert not re.search("%(?:[46][1-9A-F]|[57][0-9A]|3[0-9]|2[DE]|5F|7E)", path)


@pytest.mark.rfc("3986-6.2.2.2")
@given(PATHS)
def test_spelling_an_octet_out_changes_nothing(raw: str) -> None:
    spelt = "".join(
        f"%{ord(character):02x}" if character.isascii() and character.isalnum() else character for character in raw
    )
    if "%" in raw:
        return
    try:
        path = normalise_path(raw)
    except BadTarget:
        with pytest.raises(BadTarget):
            normalise_path(spelt)
        return
    assert normalise_path(spelt) == path


@pytest.mark.rfc("3986-6.2.2")
@given(PATHS)
def test_without_dots_the_octets_stay_the_same(raw: str) -> None:
    try:
        path = normalise_path(raw)
    except BadTarget:
        return
    if "." not in path and "." not in raw and not re.search("%2e", raw, re.IGNORECASE):
        assert unquote_to_bytes(path) == unquote_to_bytes(raw.encode("latin-1"))


@pytest.mark.rfc("3986-6.2.2")
@given(QUERIES, st.sampled_from(QueryMode), st.frozensets(st.sampled_from(["a", "b", "1"])), st.booleans())
def test_a_normal_query_is_idempotent_and_without_cmcd(
    raw: str, mode: QueryMode, names: frozenset[str], sort: bool
) -> None:
    query_rule = QueryRule(mode, names, sort)
    query = normalise_query(raw, query_rule)
    assert normalise_query(query, query_rule) == query
    assert not re.search(r"(?:^|&)CMCD(?:=|&|$)", query)
    assert set(query.split("&")) - {""} <= set(normalise_query(raw, ALL).split("&"))


@pytest.mark.rfc("9110-7.2")
@given(st.text(max_size=30) | st.text(alphabet="aA.:[]1-_@/", max_size=20))
def test_hosts_raise_nothing_but_bad_target(host: str) -> None:
    try:
        normal = normalise_host(host, 80)
    except BadTarget:
        return
    assert normalise_host(normal, 80) == normal
    assert normal == normal.lower()
    assert not set(normal) & set("/?#@ ")


HOSTS = st.sampled_from(["a", "b", "a.b", "a:81"])


@pytest.mark.rfc("9111-2")
@given(HOSTS, PATHS, QUERIES, HOSTS, PATHS, QUERIES)
def test_unlike_parts_have_unlike_keys(h1: str, p1: str, q1: str, h2: str, p2: str, q2: str) -> None:
    try:
        one = h1, normalise_path(p1), normalise_query(q1, ALL)
        other = h2, normalise_path(p2), normalise_query(q2, ALL)
    except BadTarget:
        return
    assert (cache_key(*one) == cache_key(*other)) == (one == other)
