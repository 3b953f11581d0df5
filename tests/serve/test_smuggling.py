"""Known ways to make two servers see two different requests in the same bytes: here there is one reading, or none.

Every payload hides a request for SMUGGLED, or is followed by it. What is refused is refused with one answer and the
end of the connection; what is taken is taken as RFC 9112 reads it, and the origin sees that and nothing else.
"""

# ruff: noqa: E501 - tables read best with a case a line

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Origin
from tests.serve.wire import exchange, get, no_exceptions, request, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMUGGLED = "/gen/1k/smuggled"
INNER = request(SMUGGLED)
WARM = "/gen/1k/warm"
LAST = request(WARM, "Connection: close")
PIECES = 11


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    """Every method is passed on: the widest way there is to an origin."""
    settings = Settings([origin.url], hosts=["edge.test"], methods="any")
    async with running(tmp_path_factory.mktemp("edge"), settings) as daemon:
        await stored(daemon, WARM)
        yield daemon
        await get(daemon, "/gen/1k/end")  # behind whatever might still have been on its way
        assert not [entry.target for entry in origin.log if SMUGGLED in entry.target]
        no_exceptions(daemon)


def post(*lines: str, body: bytes = INNER, version: str = "1.1", method: str = "POST") -> bytes:
    head = [f"{method} /echo HTTP/{version}", "Host: edge.test", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def field(*lines: str) -> bytes:
    return "\r\n".join(["GET /gen/1k/x HTTP/1.1", *lines, "", ""]).encode("latin-1")


def line(first: bytes) -> bytes:
    return first + b"\r\nHost: edge.test\r\n\r\n"


def coded(*values: str) -> bytes:
    """A body of chunks for whom these are chunked coding, and a request behind an empty one for whom they are not."""
    return post("Content-Length: 5", *(f"Transfer-Encoding:{value}" for value in values), body=b"0\r\n\r\n")


def coded_alone(*values: str) -> bytes:
    return post(*(f"Transfer-Encoding:{value}" for value in values), body=b"0\r\n\r\n")


def long(*values: str) -> bytes:
    return post(*(f"Content-Length:{value}" for value in values), body=b"hello")


REFUSED: dict[str, dict[str, tuple[bytes, int]]] = {
    # Linhart et al., HTTP Request Smuggling, 2005; RFC 9112, 6.3
    "two framings": {
        "CL.TE": (post("Content-Length: 6", "Transfer-Encoding: chunked", body=b"0\r\n\r\nG"), 400),
        "TE.CL": (post("Transfer-Encoding: chunked", "Content-Length: 4", body=b"5c\r\nGET "), 400),
        "CL.TE in a GET": (post("Content-Length: 5", "Transfer-Encoding: chunked", method="GET"), 400),
        "CL 0 and TE": (post("Content-Length: 0", "Transfer-Encoding: chunked"), 400),
        "CL.CL": (long(" 5", f" {5 + len(INNER)}"), 400),
        "CL.CL alike": (long(" 5", " 5"), 400),
        "TE in HTTP/1.0": (post("Transfer-Encoding: chunked", body=b"0\r\n\r\n", version="1.0"), 400),
        "TE and keep-alive in HTTP/1.0": (post("Transfer-Encoding: chunked", "Connection: keep-alive", version="1.0"), 400),
    },
    # Kettle, HTTP Desync Attacks, 2019: TE.TE
    "codings with a length": {
        repr(values): (coded(*values), 400)
        for values in [
            (" xchunked",), (" chunked",), ("\tchunked",), ("\x0bchunked",), (" chunked, identity",), (" identity",),
            (" x",), (" chunked", " identity"), (" identity", " chunked"), (" chunked", " chunked"), ("",),
        ]
    },
    "codings alone": {
        repr(values): (coded_alone(*values), 400)
        for values in [
            (" xchunked",), (" \x0bchunked",), (" \x0cchunked",), (" chunked\x00",), (" \xa0chunked",), (" chunked\x85",),
            (" chunked, identity",), (" identity, chunked",), (" gzip, chunked",), (" chunked, chunked",), (" chunked,",),
            (" ,chunked",), (" chunked;q=1",), (' "chunked"',), (" 'chunked'",), (" chunked chunked",), (" chunk",),
            (" identity",), (" chunked", " x"), (" x", " chunked"), (" chunked", " chunked"), (" chunked", ""), ("",),
            ("\r\n chunked",), (" chu\r\n nked",), (" chunked\x7f",),
        ]
    },
    # RFC 9112, 5.1 and 5.2; Kettle, 2019; Klein, HTTP Request Smuggling in 2020
    "names of framing": {
        "space before the colon": (post("Content-Length: 5", "Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400),
        "tab before the colon": (post("Content-Length\t: 5", body=b"hello"), 400),
        "CL and a space, TE": (post("Content-Length : 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        "space before the name": (post("X: y", " Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        "space before the first name": (field(" Content-Length: 5", "Host: edge.test"), 400),
        "VT behind the name": (post("Transfer-Encoding\x0b: chunked", body=b"0\r\n\r\n"), 400),
        "NUL in the name": (post("Transfer-Encoding\x00: chunked", body=b"0\r\n\r\n"), 400),
        "high byte in the name": (post("Transfer-Encoding\xa0: chunked", body=b"0\r\n\r\n"), 400),
        "no colon": (post("Transfer-Encoding chunked", body=b"0\r\n\r\n"), 400),
        "no name": (post(": chunked", "Content-Length: 5", body=b"hello"), 400),
        "behind a bare LF": (post("X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        "behind a bare CR": (post("X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        "behind LF CR": (post("X: y\n\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        "behind CR CR LF": (post("X: y\r", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
        "folded name": (post("Transfer-Encoding", " : chunked", body=b"0\r\n\r\n"), 400),
        "NUL in a value": (post("X: \x00", "Content-Length: 5", body=b"hello"), 400),
    },
    # RFC 9110, 8.6; RFC 9112, 6.3
    "lengths": {
        repr(value): (long(value), 400)
        for value in [
            " +5", " -5", " -0", " 5, 5", " 5,6", " 0x5", " 5 5", " 5;5", " 5.0", " 5e0", " 05_0", "", " ", ' "5"', " five",
            " \xb2", " \xd9\xa5", " 5\x0b", " \x0c5", " 5\xa0", " 5\x00", " 9999999999999999999", " 18446744073709551621",
            " 5\r\n ", "\r\n 5",
        ]
    } | {"more than we take": (long(" 999999999999999999"), 413)},
    # RFC 9112, 2.2 and 3
    "request lines": {
        "two spaces": (line(b"GET  /gen/1k/x HTTP/1.1"), 400),
        "tabs": (line(b"GET\t/gen/1k/x\tHTTP/1.1"), 400),
        "form feed": (line(b"GET\x0c/gen/1k/x HTTP/1.1"), 400),
        "VT first": (line(b"\x0bGET /gen/1k/x HTTP/1.1"), 400),
        "NUL first": (line(b"\x00GET /gen/1k/x HTTP/1.1"), 400),
        "HTTP/1.10": (line(b"GET /gen/1k/x HTTP/1.10"), 400),
        "HTTP/01.1": (line(b"GET /gen/1k/x HTTP/01.1"), 400),
        "HTTP/1,1": (line(b"GET /gen/1k/x HTTP/1,1"), 400),
        "HTTP/1.": (line(b"GET /gen/1k/x HTTP/1."), 400),
        "HTTP/ 1.1": (line(b"GET /gen/1k/x HTTP/ 1.1"), 400),
        "HTTP/2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505),
        "high byte": (line(b"GET /gen/1k/\xff HTTP/1.1"), 400),
        "a second version": (line(b"GET /gen/1k/x HTTP/1.1 HTTP/1.1"), 400),
        "HTTP/0.9": (b"GET /gen/1k/x\r\n", 400),
        "CR alone ends it": (b"GET /gen/1k/x HTTP/1.1\rHost: edge.test\r\n\r\n", 400),
        "LF alone ends it": (b"GET /gen/1k/x HTTP/1.1\nHost: edge.test\r\n\r\n", 400),
        "two empty lines before it": (b"\r\n\r\n" + line(b"GET /gen/1k/x HTTP/1.1"), 400),
        "LF before it": (b"\n" + line(b"GET /gen/1k/x HTTP/1.1"), 400),
        "what is left of a body": (b"Content-Length: 5\r\n\r\nhello", 400),
        "what is left of chunks": (b"0\r\n\r\n", 400),
    },
    # RFC 9112, 3.2 and 3.3
    "targets": {
        "another authority": (line(b"GET http://other.test/gen/1k/x HTTP/1.1"), 400),
        "another port": (line(b"GET http://edge.test:8080/gen/1k/x HTTP/1.1"), 400),
        "user information": (line(b"GET http://me@edge.test/gen/1k/x HTTP/1.1"), 400),
        "user information for a host": (line(b"GET http://edge.test@other.test/gen/1k/x HTTP/1.1"), 400),
        "backslash and user information": (line(b"GET http://edge.test\\@other.test/ HTTP/1.1"), 400),
        "no authority": (line(b"GET http:///gen/1k/x HTTP/1.1"), 400),
        "another scheme": (line(b"GET ftp://edge.test/gen/1k/x HTTP/1.1"), 400),
        "one slash": (line(b"GET http:/edge.test/gen/1k/x HTTP/1.1"), 400),
        "no slash": (line(b"GET gen/1k/x HTTP/1.1"), 400),
        "an authority": (line(b"GET edge.test:80 HTTP/1.1"), 400),
        "an asterisk": (line(b"GET * HTTP/1.1"), 400),
        "CONNECT": (line(b"CONNECT edge.test:80 HTTP/1.1"), 501),
        "CONNECT with a body": (b"CONNECT a:1 HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 5\r\n\r\nhello", 501),
    },
    # RFC 9112, 3.2; Kettle, Practical Web Cache Poisoning, 2018
    "hosts": {
        repr(lines): (field(*lines), 400)
        for lines in [
            (), ("Host:",), ("Host: ",), ("Host: edge.test", "Host: edge.test"), ("Host: edge.test", "Host: other.test"),
            ("Host: edge.test, other.test",), ("Host: edge.test other.test",), ("Host: edge.test/",), ("Host: edge.test/x",),
            ("Host: me@edge.test",), ("Host: edge.test@other.test",), ("Host: edge.test:80:80",), ("Host: edge.test:99999",),
            ("Host: edge.test:x",), ("Host: :80",), ("Host: edge.test#x",), ("Host: edge.test?x",), ("Host: [::1",),
            ("Host: edge.test\\x",), ("Host: edge.test\tx",), ("Host: edge.test\xa0",), ("Host : edge.test",),
            (" Host: edge.test",), ("Host: edge", " .test"), ("X: y", "Host:", " edge.test"), ("Host: edge..test",),
        ]
    },
    # Kettle, HTTP/1.1 Must Die, 2025; RFC 9110, 10.1.1
    "expectations": {
        "another word": (post("Expect: y 100-continue", "Content-Length: 5", body=b"hello"), 417),
        "twice": (post("Expect: 100-continue, 100-continue", "Content-Length: 5", body=b"hello"), 417),
        "a blank that is none": (post("Expect: 100-continue\xa0", "Content-Length: 5", body=b"hello"), 417),
        "folded": (post("Expect:", " 100-continue", "Content-Length: 5", body=b"hello"), 400),
    },
}  # fmt: skip
_HEADS = [(f"{family}: {name}", *case) for family, cases in REFUSED.items() for name, case in cases.items()]


async def test_the_corpus_is_one() -> None:
    assert len(_HEADS) + len(BAD_CHUNKS) + len(TAKEN) > 160
    assert len({data for _, data, _ in _HEADS}) == len(_HEADS)


@pytest.mark.parametrize(("data", "status"), [case[1:] for case in _HEADS], ids=[case[0] for case in _HEADS])
async def test_what_could_be_read_in_two_ways_is_not_read(
    edge: Daemon, origin: Origin, data: bytes, status: int
) -> None:
    before = origin.requests
    for pieces in (0, PIECES):
        (reply,) = await exchange(edge, data + INNER, pieces=pieces)
        assert (reply.status, reply.closes) == (status, True)
        replies = await exchange(edge, request(WARM) + data + INNER, ["GET"] * 3, pieces=pieces)
        assert [reply.status for reply in replies] == [200, status]
    assert origin.requests == before


_CHUNK = b"5\r\nhello\r\n"
_END = b"0\r\n\r\n"
BAD_CHUNKS = {
    # sizes (RFC 9112, 7.1)
    **{
        repr(size): size + b"\r\nhello\r\n" + _END
        for size in [
            b"0x5", b"+5", b"-5", b"0_5", b" 5", b"5 ", b"\t5", b"5\t", b"", b"5\x0b", b"\x0c5", b"5\x00", b"5\xa0", b"h",
            b"0" * 300 + b"5", b"1" + b"0" * 15 + b"5", b"10000000000000005", b"5,5", b"5 5", b"5.", b"\xd9\xa5",
        ]
    },
    # extensions (Weikop, Funky Chunks, 2025: TERM.EXT, EXT.TERM; CVE-2024-22019)
    **{
        repr(extension)[:40]: b"5" + extension + b"\r\nhello\r\n" + _END
        for extension in [
            b";", b";;", b";=x", b";a=", b";a b", b";\x00", b";a\rb", b";a\nb", b";\n0\r\n\r\n", b";a\r\r", b';a="', b';a="b"c',
            b';a="\r\n"', b';a="\\\r\n"', b";a=\x7f", b" a", b";" + b"a" * 2000,
        ]
    },
    # line ends (Weikop, 2025: TERM.SPILL, SPILL.TERM)
    "LF behind the size": b"5\nhello\r\n" + _END,
    "CR behind the size": b"5\rhello\r\n" + _END,
    "LF behind the data": b"5\r\nhello\n" + _END,
    "CR behind the data": b"5\r\nhello\r" + _END,
    "nothing behind the data": b"5\r\nhello" + _END,
    "two other bytes behind the data": b"5\r\nhelloXX" + _END,
    "data too long": b"5\r\nhello!\r\n" + _END,
    "data too short": b"6\r\nhello\r\n" + _END,
    "LF alone everywhere": b"5\nhello\n0\n\n",
    "LF CR": b"5\n\rhello\n\r" + _END,
    "CR CR LF": b"5\r\r\nhello\r\n" + _END,
    # trailers (RFC 9112, 7.1.2)
    "LF behind the last size": _CHUNK + b"0\n\r\n",
    "LF ends the trailer": _CHUNK + b"0\r\nX: y\r\n\n",
    "LF in the trailer": _CHUNK + b"0\r\nX: y\nContent-Length: 5\r\n\r\n",
    "folding in the trailer": _CHUNK + b"0\r\nX: y\r\n z\r\n\r\n",
    "a blank before the trailer's colon": _CHUNK + b"0\r\nX : y\r\n\r\n",
    "a trailer without name": _CHUNK + b"0\r\n: y\r\n\r\n",
    "a request for a trailer": _CHUNK + b"0\r\n" + INNER,
    "a trailer without end": _CHUNK + b"0\r\nX: " + b"y" * 20_000,
}  # fmt: skip


@pytest.mark.parametrize("body", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
async def test_chunks_that_are_none_are_not_passed_on(edge: Daemon, origin: Origin, body: bytes) -> None:
    """The origin sees the beginning of a body at most, never its end; nothing behind it is read."""
    before = len(origin.log)
    for pieces in (0, PIECES if len(body) < 500 else 1000):
        data = post("Transfer-Encoding: chunked", body=body + INNER)
        (reply,) = await exchange(edge, data, ["POST"], pieces=pieces)
        assert (reply.status, reply.closes) == (400, True)
    assert not [entry.target for entry in origin.log[before:] if entry.status or entry.target != "/echo"]


HIDDEN = f"Content-Length: {len(INNER)}"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
TAKEN: dict[str, tuple[bytes, list[int], int]] = {
    # CL.0 (Kettle, Browser-Powered Desync, 2022) and 0.CL (2025): a body is a body, whatever the method
    "a request in a body": (post(HIDDEN), [200], len(INNER)),
    "a request in a GET's body": (post(HIDDEN, method="GET"), [200], len(INNER)),
    "a request in a DELETE's body": (post(HIDDEN, method="DELETE"), [200], len(INNER)),
    "a request in a chunk": (
        post("Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)), [200], len(INNER)
    ),
    "a request in a GET's chunk": (
        post("Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER), method="GET"),
        [200], len(INNER),
    ),
    "no body by length": (post("Content-Length: 0", body=b""), [200], 0),
    "no body in chunks": (post("Transfer-Encoding: chunked", body=_END), [200], 0),
    # what is odd and right
    "blanks around a length": (long(" \t 5 \t "), [200], 5),
    "zeros before a length": (long(" 000005"), [200], 5),
    "blanks around a coding": (post("Transfer-Encoding: \t chunked", body=_CHUNK + _END), [200], 5),
    "a coding in other letters": (post("tRANSFER-eNCODING:cHUNKED", body=_CHUNK + _END), [200], 5),
    "another name": (post("Transfer_Encoding: chunked", "Content-Length: 5", body=_END), [200], 5),
    "yet another name": (post("X-Transfer-Encoding: chunked", "Content-Length: 5", body=_END), [200], 5),
    "zeros before a size": (post("Transfer-Encoding: chunked", body=b"00000005\r\nhello\r\n000\r\n\r\n"), [200], 5),
    "right extensions": (
        post("Transfer-Encoding: chunked", body=b'5 ; a ; b="\\";" ;c=d\r\nhello\r\n0;e\r\n\r\n'), [200], 5
    ),
    "trailers that frame": (
        post(
            "Transfer-Encoding: chunked", "Trailer: Content-Length",
            body=_CHUNK + b"0\r\nContent-Length: 99\r\nTransfer-Encoding: x\r\nHost: other.test\r\nX-T: 1\r\n\r\n",
        ),
        [200], 5,
    ),
    "an empty line before it": (b"\r\n" + long(" 5"), [200], 5),
    "the same authority": (long(" 5").replace(b"/echo", b"http://EDGE.test:80/echo"), [200], 5),
    # RFC 9110, 7.6.1; Davison, Abusing HTTP Hop-by-hop Request Headers, 2019
    "Connection names the length": (post("Connection: Content-Length", "Content-Length: 5", body=b"hello"), [200], 5),
    "Connection names the coding": (
        post("Connection: Transfer-Encoding", "Transfer-Encoding: chunked", body=_CHUNK + _END), [200], 5
    ),
    "Connection names the host": (post("Connection: Host, X-A", "X-A: 1", "Content-Length: 5", body=b"hello"), [200], 5),
    # RFC 9113, 3.1; Bishop Fox, h2c Smuggling, 2020
    "h2c": (post(*H2C, "Content-Length: 5", body=b"hello"), [200], 5),
    "an upgrade": (post("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5", body=b"hello"), [200], 5),
    # RFC 9110, 10.1.1
    "an expectation of a body that is there": (post("Expect: 100-continue", HIDDEN), [200], len(INNER)),
    "an expectation without a body": (post("Expect: 100-continue", body=b""), [200], 0),
    "an expectation in HTTP/1.0": (
        post("Expect: 100-continue", "Connection: keep-alive", HIDDEN, version="1.0"), [200], len(INNER)
    ),
}  # fmt: skip
_OF_ONE_HOP = ("connection", "upgrade", "http2-settings", "expect", "trailer", "x-a", "x-t", "keep-alive")


@pytest.mark.parametrize(("data", "statuses", "length"), TAKEN.values(), ids=TAKEN)
async def test_what_has_one_reading_has_that_one(
    edge: Daemon, origin: Origin, data: bytes, statuses: list[int], length: int
) -> None:
    """The request behind the body is the next one, and the origin sees a body of that length, framed once."""
    for pieces in (0, PIECES):
        before = len(origin.log)
        replies = await exchange(edge, data + LAST, ["POST", "GET", "GET"], pieces=pieces)
        # whether the body was there already, or was waited for, is a matter of time
        assert [reply.status for reply in replies if reply.status != 100] == [*statuses, 200]
        assert replies[-1].is_hit
        (entry,) = origin.log[before:]
        assert (entry.target, entry.request.body_bytes) == ("/echo", length)
        assert entry.header("Host") == "edge.test"
        lengths = [value for name, value in entry.request.headers if name.lower() == "content-length"]
        codings = [value for name, value in entry.request.headers if name.lower() == "transfer-encoding"]
        assert (lengths, codings) in (([str(length)], []), ([], ["chunked"]), ([], []))
        seen = {name.lower() for name, _ in entry.request.headers}
        assert not seen & set(_OF_ONE_HOP) - {"connection"}
        assert entry.header("Connection") in (None, "keep-alive", "close")  # its own


async def test_nothing_behind_an_error_is_answered(edge: Daemon, origin: Origin) -> None:
    """Pipelined: good, hidden, bad, more. The bad one ends it."""
    before = len(origin.log)
    data = request(WARM) + post(HIDDEN) + b"GET /gen/1k/x HTTP/1.1\r\nHost : edge.test\r\n\r\n" + INNER * 3
    for pieces in (0, PIECES):
        replies = await exchange(edge, data, ["GET", "POST", *["GET"] * 4], pieces=pieces)
        assert [reply.status for reply in replies] == [200, 200, 400]
    assert [entry.target for entry in origin.log[before:]] == ["/echo"] * 2
