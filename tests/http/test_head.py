"""The head of a request, taken apart: what is one, what is not, and what frames its body."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.errors import RequestError, UnmetExpectation, UnsupportedVersion
from edge.http.head import LINE_BEGINNING, REQUEST_LINE, Block, refuse_line


def block(*lines: str) -> Block:
    return Block("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1"))


# request lines


@pytest.mark.rfc("9112-3")
@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"GET / HTTP/1.1\r\n", (b"GET", b"/", b"1")),
        (b"GET / HTTP/1.0\r\n", (b"GET", b"/", b"0")),
        (b"GET http://a/b HTTP/1.1\r\n", (b"GET", b"http://a/b", b"1")),
        (b"OPTIONS * HTTP/1.1\r\n", (b"OPTIONS", b"*", b"1")),
        (b"M-SEARCH /!'()~ HTTP/1.1\r\n", (b"M-SEARCH", b"/!'()~", b"1")),
        (b"x" * 32 + b" /" + b"y" * 9000 + b" HTTP/1.1\r\n", (b"x" * 32, b"/" + b"y" * 9000, b"1")),
    ],
)
def test_a_request_line(line: bytes, parts: tuple[bytes, bytes, bytes]) -> None:
    match = REQUEST_LINE.match(line + b"Host: a\r\n\r\n")
    assert match is not None
    assert match.groups() == parts
    assert match.end() == len(line)


@pytest.mark.rfc("9112-3")
@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"GET / HTTP/1.1\n", RequestError),
        (b"GET / HTTP/1.1 \r\n", RequestError),
        (b"GET  / HTTP/1.1\r\n", RequestError),
        (b"GET /  HTTP/1.1\r\n", RequestError),
        (b" GET / HTTP/1.1\r\n", RequestError),
        (b"GET\t/\tHTTP/1.1\r\n", RequestError),
        (b"GET / a HTTP/1.1\r\n", RequestError),
        (b"GET /\x00 HTTP/1.1\r\n", RequestError),
        (b"GET /\x7f HTTP/1.1\r\n", RequestError),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n", RequestError),
        (b"GET /\r HTTP/1.1\r\n", RequestError),
        (b"G:T / HTTP/1.1\r\n", RequestError),
        (b"G\xe9T / HTTP/1.1\r\n", RequestError),
        (b"x" * 33 + b" / HTTP/1.1\r\n", RequestError),
        (b" / HTTP/1.1\r\n", RequestError),
        (b"GET HTTP/1.1\r\n", RequestError),
        (b"GET /\r\n", RequestError),
        (b"GET\r\n", RequestError),
        (b" \r\n", RequestError),
        (b"GET / http/1.1\r\n", RequestError),
        (b"GET / HTTP/11\r\n", RequestError),
        (b"GET / HTTP/1.1.1\r\n", RequestError),
        (b"GET / HTTPS/1.1\r\n", RequestError),
        (b"GET / HTTP/0.9\r\n", UnsupportedVersion),
        (b"GET / HTTP/1.2\r\n", UnsupportedVersion),
        (b"GET / HTTP/2.0\r\n", UnsupportedVersion),
        (b"PRI * HTTP/2.0\r\n", UnsupportedVersion),
    ],
)
def test_what_is_no_request_line(line: bytes, kind: type[RequestError]) -> None:
    assert REQUEST_LINE.match(line) is None
    assert type(refuse_line(line)) is kind


@pytest.mark.rfc("9112-3")
def test_every_beginning_of_a_request_line_may_still_become_one() -> None:
    for line in (b"GET /a?b=c%20 HTTP/1.1\r\n", b"OPTIONS * HTTP/1.0\r\n", b"PRI * HTTP/2.0\r\n"):
        for end in range(1, len(line) - 1):
            assert LINE_BEGINNING.fullmatch(line[:end]), line[:end]


@pytest.mark.rfc("9112-3")
@pytest.mark.parametrize(
    "beginning",
    [
        b" ",
        b"\t",
        b"\x16\x03\x01",
        b"G\x00",
        b"GET\t",
        b"GET  ",
        b"GET /\x01",
        b"GET / X",
        b"GET / HTTP/1.1 ",
        b"y" * 33,
    ],
)
def test_what_cannot_become_a_request_line_is_seen_before_its_end(beginning: bytes) -> None:
    assert LINE_BEGINNING.fullmatch(beginning) is None


# blocks of fields


@pytest.mark.rfc("9112-5")
def test_what_a_block_says() -> None:
    told = block("Host: video.example", "User-Agent: \ta player \t", "X: \xe9", "Empty:")
    assert told.host == "video.example"
    assert told.fields.pairs == (
        ("Host", "video.example"),
        ("User-Agent", "a player"),
        ("X", "\xe9"),
        ("Empty", ""),
    )
    assert told.is_plain
    assert not told.closes
    assert told.body_length is None
    assert told.range is None


def test_no_field_at_all_is_a_block_and_never_a_plain_one() -> None:
    """A request without Host is judged each time: by the fields alone it may be HTTP/1.0's, which needs none."""
    empty = Block(b"\r\n")
    assert empty.host is None
    assert not empty.is_plain
    assert not block("Accept: */*").is_plain
    assert not block("Accept: */*", "Connection: keep-alive").is_plain


@pytest.mark.parametrize(
    "line",
    [
        "Range: bytes=0-1",
        "If-None-Match: *",
        "If-Match: *",
        "If-Modified-Since: x",
        "If-Unmodified-Since: x",
        "If-Range: x",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
    ],
)
def test_what_asks_for_more_than_the_whole_is_not_plain(line: str) -> None:
    assert not block("Host: a", line).is_plain


@pytest.mark.rfc("9112-9.3")
@pytest.mark.parametrize(
    ("lines", "closes", "keeps_1_0"),
    [
        ((), False, False),
        (("Connection: close",), True, False),
        (("Connection: Close",), True, False),
        (("Connection: te, close",), True, False),
        (("Connection: te", "connection: close"), True, False),
        (("Connection: Keep-Alive",), False, True),
        (("Connection: closed",), False, False),
        (("X-Connection: close",), False, False),
        (("Connection: upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), False, False),
    ],
)
def test_what_becomes_of_the_connection(lines: tuple[str, ...], closes: bool, keeps_1_0: bool) -> None:
    told = block("Host: a", *lines)
    assert (told.closes, told.keeps_alive_1_0) == (closes, keeps_1_0)


@pytest.mark.rfc("9112-6.3")
@pytest.mark.parametrize(
    ("lines", "length"),
    [
        (("Content-Length: 0",), 0),
        (("Content-Length: 12",), 12),
        (("content-length:00012",), 12),
        (("Content-Length: 999999999999999999",), 10**18 - 1),
        (("Transfer-Encoding: chunked",), -1),
        (("Transfer-Encoding: Chunked",), -1),
    ],
)
def test_what_frames_a_body(lines: tuple[str, ...], length: int) -> None:
    assert block("Host: a", *lines).body_length == length


BAD_FRAMING = [
    ("Content-Length: +1",),
    ("Content-Length: -1",),
    ("Content-Length: 1,1",),
    ("Content-Length: 1, 1",),
    ("Content-Length: 0x1",),
    ("Content-Length: 1 1",),
    ("Content-Length: 1.0",),
    ("Content-Length: \xb2",),
    ("Content-Length:",),
    ("Content-Length: 9999999999999999999",),
    ("Content-Length: 18446744073709551617",),
    ("Content-Length: 1", "Content-Length: 1"),
    ("Content-Length: 1", "content-length: 2"),
    ("Content-Length: 1", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Content-Length: 0"),
    ("Transfer-Encoding: chunked, identity",),
    ("Transfer-Encoding: identity",),
    ("Transfer-Encoding: gzip, chunked",),
    ("Transfer-Encoding: chunked, chunked",),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: xchunked",),
    ("Transfer-Encoding: chunked;q=1",),
    ("Transfer-Encoding: \x0bchunked",),
    ("Transfer-Encoding:",),
    ("Transfer-Encoding: chunked,",),
]
BAD_FIELDS = [
    b"Host : a\r\n\r\n",
    b"Host: a\r\n folded\r\n\r\n",
    b"Host: a\r\n\tfolded\r\n\r\n",
    b" Host: a\r\n\r\n",
    b"Host: a\nX: b\r\n\r\n",
    b"Host: a\n\r\n",
    b"Host: a\r\n\n",
    b"Host: a\rX: b\r\n\r\n",
    b"Host: a\r\r\n\r\n",
    b"Host: a\x00\r\n\r\n",
    b"Host: \x01a\r\n\r\n",
    b"Host: a\x7f\r\n\r\n",
    b"Host: a\x0b\r\n\r\n",
    b"X\x00: a\r\n\r\n",
    b"X\xe9: a\r\n\r\n",
    b"X(y): a\r\n\r\n",
    b": a\r\n\r\n",
    b"Host\r\n\r\n",
    b"Host a\r\n\r\n",
    b"Host: a\r\n",
    b"",
    b"\r\n\r\n",
    b"Host: a\r\n\r\nX",
    b"Host: a\r\nHost: a\r\n\r\n",
    b"Host: a\r\nhost: b\r\n\r\n",
]


@pytest.mark.rfc("9112-6.3", "9112-6.1")
@pytest.mark.parametrize("lines", BAD_FRAMING, ids=" | ".join)
def test_a_body_framed_in_doubt_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(RequestError) as refused:
        block("Host: a", *lines)
    assert refused.value.status == 400
    assert refused.value.close


@pytest.mark.rfc("9112-5")
@pytest.mark.parametrize("raw", BAD_FIELDS, ids=repr)
def test_what_is_no_block_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        Block(raw)
    assert refused.value.status == 400
    assert refused.value.close


@pytest.mark.rfc("9110-10.1.1")
def test_expectations() -> None:
    assert block("Host: a", "Expect: 100-Continue", "Content-Length: 1").expects_continue
    assert not block("Host: a").expects_continue
    with pytest.raises(UnmetExpectation) as refused:
        block("Host: a", "Expect: 200-ok")
    assert refused.value.status == 417


@pytest.mark.rfc("9110-14.2")
def test_of_two_ranges_none_counts() -> None:
    assert block("Host: a", "Range: bytes=0-1").range == "bytes=0-1"
    two = block("Host: a", "Range: bytes=0-1", "Range: bytes=2-3")
    assert two.range is None
    assert not two.is_plain


# whatever comes

_CRLF = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n ", b""])
_NAMES = st.sampled_from([b"Host", b"content-length", b"Transfer-Encoding", b"X", b"Connection", b"Expect", b"Upgrade"])
_COLON = st.sampled_from([b": ", b":", b" :", b": \t"])
_VALUES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"a", b"1", b"chunked", b"close", b"100-continue", b"upgrade", b"keep-alive"]),
)
_LINES = st.tuples(_NAMES, _COLON, _VALUES, _CRLF).map(b"".join)
_NEARLY = st.tuples(st.lists(_LINES, max_size=5).map(b"".join), _CRLF).map(b"".join)


@pytest.mark.rfc("9112-5")
@given(st.one_of(st.binary(max_size=200), _NEARLY))
@example(b"Upgrade: a\r\nConnection: upgrade\r\nContent-Length: 3\r\n\r\n")
def test_whatever_the_bytes_a_block_is_read_or_refused(raw: bytes) -> None:
    try:
        read = Block(raw)
    except RequestError:
        return
    # what was read says in other words exactly what was sent
    lines = raw.removesuffix(b"\r\n").split(b"\r\n")[:-1]
    assert [name.encode("latin-1") for name, _ in read.fields.pairs] == [line.partition(b":")[0] for line in lines]
    values = [line.partition(b":")[2].strip(b" \t") for line in lines]
    assert [value.encode("latin-1") for _, value in read.fields.pairs] == values
    framed = [name for name in ("content-length", "transfer-encoding") if name in read.fields]
    assert (read.body_length is None) == (not framed)
    assert len(framed) < 2


@pytest.mark.rfc("9112-3")
@given(st.binary(max_size=80))
def test_whatever_the_bytes_a_line_matches_or_is_refused(raw: bytes) -> None:
    match = REQUEST_LINE.match(raw)
    if match is None:
        assert isinstance(refuse_line(raw[: raw.find(b"\n") + 1]), RequestError)
    else:
        assert raw.startswith(b"%b %b HTTP/1.%b\r\n" % match.groups())
