"""Chunked coding, decoded as it comes, however it is cut, and never a byte that was not sent as data."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import RequestError
from edge.http.chunked import ChunkedDecoder

pytestmark = pytest.mark.rfc("9112-7.1")

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def extensions(text: bytes) -> bool:
    """Whether what stands behind a chunk's size is extensions: RFC 9112, 7.1.1, read a byte at a time."""
    text, at = text + b"\0", 0

    def skip(among: frozenset[int]) -> int:
        nonlocal at
        start = at
        while text[at] in among:
            at += 1
        return at - start

    blanks = frozenset(b" \t")
    while text[at:] != b"\0":
        skip(blanks)
        if text[at] != ord(";"):
            return False
        at += 1
        skip(blanks)
        if not skip(_TOKEN):
            return False
        end = at
        skip(blanks)
        if text[at] != ord("="):
            at = end
            continue
        at += 1
        skip(blanks)
        if text[at] != ord('"'):
            if not skip(_TOKEN):
                return False
            continue
        at += 1
        while text[at] != ord('"'):
            at += text[at] == ord("\\")
            if (text[at] < 32 and text[at] != 9) or text[at] == 127:
                return False
            at += 1
        at += 1
    return True


def decoded(stream: bytes, cuts: list[int] | None = None) -> tuple[bytes, bytes, bool]:
    """Data, what follows it, and whether the end was seen."""
    decoder = ChunkedDecoder()
    marks = [0, *sorted(cut % (len(stream) + 1) for cut in cuts or []), len(stream)]
    data, ahead = b"", b""
    for start, end in pairwise(marks):
        if decoder.done:
            ahead += stream[start:end]
        else:
            data += decoder.feed(stream[start:end])
    return data, decoder.rest + ahead if decoder.done else b"", decoder.done


def reference(stream: bytes) -> tuple[bytes, bytes] | None:
    """The same for a whole stream, written the slow way round: None unless it is one, to its end."""
    data = b""
    while True:
        head = re.match(rb"([0-9A-Fa-f]{1,15})([^\r\n]*)\r\n", stream)
        if head is None or not extensions(head[2]):
            return None
        size, stream = int(head[1], 16), stream[head.end() :]
        if not size:
            break
        if len(stream) < size + 2 or stream[size : size + 2] != b"\r\n":
            return None
        data, stream = data + stream[:size], stream[size + 2 :]
    trailer = re.match(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n", stream)
    return None if trailer is None else (data, stream[trailer.end() :])


@pytest.mark.parametrize(
    ("stream", "data", "rest"),
    [
        (b"0\r\n\r\n", b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"5\r\nhello\r\n0\r\n\r\nGET / ", b"hello", b"GET / "),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n", b"01234567890123456789", b""),
        (b'3;name="value" ; x\r\na\r\n\r\n0;last\r\n\r\n', b"a\r\n", b""),
        (b'1;a=";\\"\\\t";b = c\t; d\r\na\r\n0\r\n\r\n', b"a", b""),
        (b"1 \t;x\r\na\r\n0\r\nDigest: x\r\nExpires:\r\n\r\n\r\n", b"a", b"\r\n"),
        (b"000000000000001\r\na\r\n0\r\n\r\n", b"a", b""),
    ],
)
def test_a_body(stream: bytes, data: bytes, rest: bytes) -> None:
    assert decoded(stream) == (data, rest, True)
    assert decoded(stream, list(range(len(stream)))) == (data, rest, True)
    for cut in range(len(stream)):
        assert decoded(stream, [cut]) == (data, rest, True)


@pytest.mark.parametrize(
    "stream",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloo\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b";x\r\nhello\r\n0\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;;a\r\nhello\r\n0\r\n\r\n",
        b"5;=a\r\nhello\r\n0\r\n\r\n",
        b"5;a=\r\nhello\r\n0\r\n\r\n",
        b"5;a b\r\nhello\r\n0\r\n\r\n",
        b"5;a \r\nhello\r\n0\r\n\r\n",
        b'5;a="b\r\nhello\r\n0\r\n\r\n',
        b'5;a="b"c\r\nhello\r\n0\r\n\r\n',
        b'5;a="b\r\n"\r\nhello\r\n0\r\n\r\n',
        b'5;a="\\\r\n"\r\nhello\r\n0\r\n\r\n',
        b"5;\x00\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"g\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"0000000000000001\r\na\r\n0\r\n\r\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\nX: a\nY: b\r\n\r\n",
        b"0\r\n folded: a\r\n\r\n",
        b"0\r\n: a\r\n\r\n",
        b"5;" + b"x" * 1024 + b"\r\nhello\r\n0\r\n\r\n",
        b"5" * 1025,
        b"0\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"0\r\nX: " + b"a" * 20_000,
    ],
    ids=lambda stream: repr(stream[:24]),
)
def test_what_is_no_body(stream: bytes) -> None:
    with pytest.raises(RequestError):
        decoded(stream)
    with pytest.raises(RequestError):
        decoded(stream, list(range(len(stream)))[:3000])


def test_an_unfinished_body_is_not_done() -> None:
    stream = b"5;x\r\nhello\r\n0\r\nX: y\r\n\r\n"
    for end in range(len(stream)):
        data, rest, done = decoded(stream[:end])
        assert not done
        assert not rest
        assert b"hello".startswith(data)


_CHUNKS = st.binary(min_size=1, max_size=20).map(lambda data: b"%x\r\n%b\r\n" % (len(data), data))
_STREAMS = st.tuples(
    st.lists(_CHUNKS, max_size=4).map(b"".join),
    st.sampled_from([b"0\r\n\r\n", b"0;x\r\nA: b\r\n\r\n", b'0;x="\\""; y=z\r\n\r\n']),
    st.binary(max_size=5),
).map(b"".join)
_CUTS = st.lists(st.integers(0, 200), max_size=6)


@st.composite
def _spoilt(draw: st.DrawFn) -> bytes:
    stream = bytearray(draw(_STREAMS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(stream) - 1))
        match draw(st.sampled_from(["set", "insert", "drop"])):
            case "set":
                stream[at] = draw(st.integers(0, 255))
            case "insert":
                stream.insert(at, draw(st.sampled_from(b'\r\n0;: 5a="')))
            case "drop" if len(stream) > 1:
                del stream[at]
    return bytes(stream)


@given(st.one_of(_STREAMS, _spoilt(), st.binary(max_size=60)), _CUTS)
def test_the_decoder_agrees_with_the_slow_one_however_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    expected = reference(stream)
    try:
        data, rest, done = decoded(stream, cuts)
    except RequestError:
        assert expected is None
        return
    if done:
        assert (data, rest) == expected
    else:
        assert expected is None


@given(_STREAMS, _CUTS)
def test_a_good_stream_is_never_refused(stream: bytes, cuts: list[int]) -> None:
    data, rest, done = decoded(stream, cuts)
    assert done
    assert (data, rest) == reference(stream)


def test_many_small_chunks_take_time_in_proportion() -> None:
    """A megabyte of one-byte chunks fed at once: copying the rest for each would take minutes."""
    stream = b"1\r\nx\r\n" * 170_000 + b"0\r\n\r\n"
    assert decoded(stream) == (b"x" * 170_000, b"", True)
