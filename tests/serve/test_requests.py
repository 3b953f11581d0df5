"""What a client may ask for, and how: what is refused reaches neither origin nor store, nor is what follows it read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Origin, expected
from tests.serve.wire import Reply, exchange, get, no_exceptions, parse_all, request, stored, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

_LIMITS = '[limits]\nrequest_line = "1KiB"\nhead = "2KiB"'
_SMUGGLED = request("/gen/1k/smuggled")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    settings = Settings([origin.url], hosts=["edge.test", "[::1]"], methods="safe", toml=_LIMITS)
    async with running(tmp_path_factory.mktemp("edge"), settings) as daemon:
        yield daemon
        no_exceptions(daemon)


def head(*lines: str, first: str = "GET /gen/1k/refused HTTP/1.1") -> bytes:
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


def first_line(line: bytes) -> bytes:
    return line + b"Host: edge.test\r\n\r\n"


async def refused(edge: Daemon, origin: Origin, data: bytes, status: int, *, pieces: int = 0) -> Reply:
    """One answer of that status, then the end, whatever followed; origin and store are as they were."""
    before = origin.requests, await edge.total("edge_fills_total")
    (reply,) = await exchange(edge, data, pieces=pieces)
    assert reply.status == status
    assert reply.closes
    assert reply.field("cache-control") == "no-store"
    assert (origin.requests, await edge.total("edge_fills_total")) == before
    return reply


REFUSED = [
    # the request line
    ("lone LF", first_line(b"GET /gen/1k/x HTTP/1.1\n"), 400),
    ("lone CR", first_line(b"GET /gen/1k/x HTTP/1.1\r"), 400),
    ("two spaces", first_line(b"GET  /gen/1k/x HTTP/1.1\r\n"), 400),
    ("space at the end", first_line(b"GET /gen/1k/x HTTP/1.1 \r\n"), 400),
    ("space at the beginning", first_line(b" GET /gen/1k/x HTTP/1.1\r\n"), 400),
    ("tabs", first_line(b"GET\t/gen/1k/x\tHTTP/1.1\r\n"), 400),
    ("space in the target", first_line(b"GET /gen/1k/x y HTTP/1.1\r\n"), 400),
    ("NUL in the target", first_line(b"GET /gen/1k/\x00 HTTP/1.1\r\n"), 400),
    ("high bytes in the target", first_line(b"GET /gen/1k/\xc3\xa9 HTTP/1.1\r\n"), 400),
    ("DEL in the target", first_line(b"GET /gen/1k/\x7f HTTP/1.1\r\n"), 400),
    ("no target", first_line(b"GET HTTP/1.1\r\n"), 400),
    ("no method", first_line(b" /gen/1k/x HTTP/1.1\r\n"), 400),
    ("HTTP/0.9", b"GET /gen/1k/x\r\n", 400),
    ("HTTP/0.9 and LF", b"GET /gen/1k/x\n", 400),
    ("protocol in lower case", first_line(b"GET /gen/1k/x http/1.1\r\n"), 400),
    ("another protocol", first_line(b"GET /gen/1k/x RTSP/1.0\r\n"), 400),
    ("a separator in the method", first_line(b"GET,POST /gen/1k/x HTTP/1.1\r\n"), 400),
    ("a method too long", first_line(b"G" * 40 + b" /gen/1k/x HTTP/1.1\r\n"), 400),
    ("HTTP/0.9 by name", first_line(b"GET /gen/1k/x HTTP/0.9\r\n"), 505),
    ("HTTP/1.2", first_line(b"GET /gen/1k/x HTTP/1.2\r\n"), 505),
    ("HTTP/3.0", first_line(b"GET /gen/1k/x HTTP/3.0\r\n"), 505),
    ("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("a line too long", first_line(b"GET /gen/1k/" + b"x" * 1100 + b" HTTP/1.1\r\n"), 414),
    ("a line without end", b"GET /gen/1k/" + b"x" * 1100, 414),
    # fields
    ("LF after a field", b"GET /gen/1k/x HTTP/1.1\r\nHost: edge.test\nX: y\r\n\r\n", 400),
    ("LF alone ends the head", b"GET /gen/1k/x HTTP/1.1\r\nHost: edge.test\n\n", 400),
    ("LF after CRLF ends the head", b"GET /gen/1k/x HTTP/1.1\r\nHost: edge.test\r\n\n", 400),
    ("CR in a value", head("Host: edge.test", "X: a\rb"), 400),
    ("folding", head("Host: edge.test", "X: a", " b"), 400),
    ("folding with a tab", head("Host: edge.test", "X: a", "\tb"), 400),
    ("folding of the first field", head(" Host: edge.test"), 400),
    ("space before the colon", head("Host : edge.test"), 400),
    ("tab before the colon", head("Host\t: edge.test"), 400),
    ("no colon", head("Host: edge.test", "Range"), 400),
    ("an empty name", head("Host: edge.test", ": y"), 400),
    ("a separator in a name", head("Host: edge.test", "a[b]: y"), 400),
    ("a high byte in a name", head("Host: edge.test", "a\xe9: y"), 400),
    ("NUL in a value", head("Host: edge.test", "X: \x00"), 400),
    ("a control character in a value", head("Host: edge.test", "X: \x08"), 400),
    ("no Host", head("Accept: */*"), 400),
    ("no field at all", head(), 400),
    ("two Hosts", head("Host: edge.test", "Host: edge.test"), 400),
    ("two Hosts in another case", head("Host: edge.test", "hOST: other.test"), 400),
    ("two hosts in one", head("Host: edge.test, other.test"), 400),
    ("a user in Host", head("Host: me@edge.test"), 400),
    ("a path in Host", head("Host: edge.test/x"), 400),
    ("a port that is none", head("Host: edge.test:x"), 400),
    ("fields too large", head("Host: edge.test", "X: " + "y" * 2100), 431),
    ("fields without end", head("Host: edge.test", "X: " + "y" * 2100)[:-4], 431),
    # framing
    ("both lengths", head("Host: edge.test", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    ("two lengths", head("Host: edge.test", "Content-Length: 0", "Content-Length: 0"), 400),
    ("+1", head("Host: edge.test", "Content-Length: +1"), 400),
    ("1,1", head("Host: edge.test", "Content-Length: 1,1"), 400),
    ("0x1", head("Host: edge.test", "Content-Length: 0x1"), 400),
    ("-1", head("Host: edge.test", "Content-Length: -1"), 400),
    ("an empty length", head("Host: edge.test", "Content-Length: "), 400),
    ("identity last", head("Host: edge.test", "Transfer-Encoding: chunked, identity"), 400),
    ("identity", head("Host: edge.test", "Transfer-Encoding: identity"), 400),
    ("gzip first", head("Host: edge.test", "Transfer-Encoding: gzip, chunked"), 400),
    ("chunked twice", head("Host: edge.test", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
    ("chunked in 1.0", head("Host: edge.test", "Transfer-Encoding: chunked", first="GET /gen/1k/x HTTP/1.0"), 400),
    ("an expectation", head("Host: edge.test", "Expect: the best"), 417),
    # methods
    ("a made-up method", head("Host: edge.test", first="FETCH /gen/1k/x HTTP/1.1"), 501),
    ("another case", head("Host: edge.test", first="get /gen/1k/x HTTP/1.1"), 501),
    ("CONNECT", head("Host: edge.test", first="CONNECT edge.test:80 HTTP/1.1"), 501),
    ("TRACE", head("Host: edge.test", first="TRACE /gen/1k/x HTTP/1.1"), 405),
    ("a method with a body", head("Host: edge.test", "Content-Length: 9", first="PUT /x HTTP/1.1") + b"123456789", 405),
    ("for nobody, with a body", head("Host: no.test", f"Content-Length: {len(_SMUGGLED)}"), 421),
    ("for nobody, with chunks", head("Host: no.test", "Transfer-Encoding: chunked"), 421),
    ("nowhere, with a body", head("Host: edge.test", "Content-Length: 9", first="GET /../x HTTP/1.1"), 400),
]  # fmt: skip


@pytest.mark.rfc("9112-2.2", "9112-3", "9112-5", "9112-6")
@pytest.mark.parametrize(("data", "status"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_what_is_refused(edge: Daemon, origin: Origin, data: bytes, status: int) -> None:
    is_unfinished = not data.endswith((b"\r\n", b"\n\n", b"\n")) and b"\r\n\r\n" not in data
    await refused(edge, origin, data if is_unfinished else data + _SMUGGLED, status)


@pytest.mark.rfc("9112-2.2", "9112-3", "9112-5", "9112-6")
@pytest.mark.parametrize(
    ("data", "status"), [case[1:] for case in REFUSED if len(case[1]) < 200][::4], ids=lambda value: repr(value)[:40]
)
async def test_what_is_refused_in_single_bytes_too(edge: Daemon, origin: Origin, data: bytes, status: int) -> None:
    await refused(edge, origin, data, status, pieces=1)


@pytest.mark.rfc("9112-9.3.2")
async def test_a_bad_request_behind_good_ones(edge: Daemon, origin: Origin) -> None:
    """Good ones are answered, the bad one is refused, what follows it is not read."""
    await get(edge, "/gen/1k/good")
    before = origin.requests
    good = request("/gen/1k/good")
    for bad in (
        b"GET /gen/1k/x HTTP/1.1\r\nHost : edge.test\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    ):
        replies = await exchange(edge, good + good + bad + _SMUGGLED, ["GET"] * 4)
        assert [reply.status for reply in replies] == [200, 200, 400]
    assert origin.requests == before


@pytest.mark.rfc("9112-6.3")
async def test_an_error_behind_a_head_request_has_its_body(edge: Daemon) -> None:
    """The refused request is not the HEAD before it: its answer is framed by its own length."""
    await get(edge, "/gen/1k/good")
    replies = await exchange(edge, request("/gen/1k/good", method="HEAD") + b"\x00\r\n\r\n", ["HEAD", "GET"])
    assert [reply.status for reply in replies] == [200, 400]
    assert replies[1].body


@pytest.mark.rfc("9112-3", "9110-15.5.15", "6585-5")
async def test_the_longest_line_and_block_that_are_allowed(edge: Daemon) -> None:
    rest = len("GET /gen/1k/ HTTP/1.1\r\n")
    for length, status in ((1024, 200), (1025, 414)):
        assert (await get(edge, f"/gen/1k/{'x' * (length - rest)}")).status == status
    rest = len("Host: edge.test\r\nX: \r\n\r\n")
    for length, status in ((2048, 200), (2049, 431)):
        assert (await get(edge, "/gen/1k/good", f"X: {'y' * (length - rest)}")).status == status


@pytest.mark.rfc("9112-5.1", "9110-5.5")
@pytest.mark.parametrize(
    "lines",
    [
        ("Accept:",),
        ("Accept:*/*",),
        ("Accept: \t */* \t ",),
        ("X: caf\xe9 \x80\xff",),
        ("X: a:b: c",),
        ("x!#$%&'*+-.^_`|~: 1",),
        ("Connection: upgrade", "Upgrade: h2c"),
        ("X: 1", "X: 2"),
        ("Content-Length: 0",),
    ],
)
async def test_odd_but_right(edge: Daemon, lines: tuple[str, ...]) -> None:
    reply = await get(edge, "/gen/1k/good", *lines)
    assert (reply.status, reply.body) == (200, expected("/gen/1k/good", 0, 1024))


# hosts and methods


@pytest.mark.rfc("9110-15.5.20", "9110-7.4")
async def test_a_host_that_is_nobodys(edge: Daemon, origin: Origin) -> None:
    """421, and the connection may go on: the next request can be for a host that is served."""
    before = origin.requests
    async with wire(edge) as client:
        for host in ("other.test", "127.0.0.1", "sub.edge.test", "xedge.test", "edge.test.evil.test", "[::2]", "*"):
            reply = await client.get("/gen/1k/never", host=host)
            assert reply.status == (400 if host == "*" else 421)
            if host != "*":
                assert not reply.closes
    assert origin.requests == before


@pytest.mark.rfc("9110-4.2.3")
@pytest.mark.parametrize("host", ["edge.test", "EDGE.Test", "edge.test.", "edge.test:80", "[::1]", "[0:0:0:0:0:0:0:1]"])
async def test_one_host_in_other_words(edge: Daemon, origin: Origin, host: str) -> None:
    reply = await get(edge, "/gen/1k/hosts", host=host)
    assert reply.status == 200
    assert len(origin.requests_for("/gen/1k/hosts")) <= 2  # one for each of the two hosts


@pytest.mark.rfc("9112-9.3.2")
async def test_refusals_in_a_pipeline_keep_their_place(edge: Daemon) -> None:
    """What does not close the connection does not swallow what came behind it either."""
    await get(edge, "/gen/1k/good")
    data = (
        request("/gen/1k/good")
        + request("/gen/1k/never", host="other.test")
        + request("/../up")
        + request("/gen/1k/good")
        + request("/gen/1k/%zz")
        + request("/gen/1k/good", "Connection: close")
    )
    for pieces in (0, 7):
        replies = await exchange(edge, data, ["GET"] * 6, pieces=pieces)
        assert [reply.status for reply in replies] == [200, 421, 400, 200, 400, 200]


@pytest.mark.rfc("9110-15.5.6")
async def test_a_method_that_the_site_does_not_let_through(edge: Daemon, origin: Origin) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE"):
        reply = await refused(edge, origin, request("/gen/1k/x", method=method), 405)
        assert reply.field("allow") == "GET, HEAD, OPTIONS"


@pytest.mark.rfc("9110-9.1")
async def test_a_method_that_nobody_knows(edge: Daemon, origin: Origin) -> None:
    reply = await refused(edge, origin, request("/gen/1k/x", method="BREW"), 501)
    assert reply.field("allow") is None


@pytest.mark.rfc("9110-9.3.7")
async def test_options_goes_to_the_origin(edge: Daemon, origin: Origin) -> None:
    reply = await get(edge, "/gen/1k/options", method="OPTIONS")
    assert reply.status == 405  # the origin's own answer
    assert origin.requests_for("/gen/1k/options")[0].method == "OPTIONS"


# targets

SAME = [
    ("/gen/1k/dots", ["/gen/1k/./dots", "/gen/1k/x/../dots", "/gen/1k/x/%2e%2e/dots", "/gen/1k/x/.%2E/dots"]),
    ("/gen/1k/~tilde", ["/gen/1k/%7Etilde", "/gen/1k/%7etilde", "/gen/1k/~til%64e"]),
    ("/gen/1k/a%2Fb", ["/gen/1k/a%2fb"]),
    ("/gen/1k/abs", ["http://edge.test/gen/1k/abs", "HTTP://EDGE.TEST:80/gen/1k/abs", "/gen/1k/abs?"]),
    ("/gen/1k/query?a=1&b=%C3%A9", ["/gen/1k/query?a=%31&b=%c3%a9"]),
    (
        "/gen/1k/cmcd?v=1",
        ["/gen/1k/cmcd?v=1&CMCD=br%3D3200", "/gen/1k/cmcd?CMCD=bl%3D1%2Csu&v=1", "/gen/1k/cmcd?%43MCD=x&v=1"],
    ),
]


@pytest.mark.rfc("3986-6.2.2", "9110-4.2.3")
@pytest.mark.parametrize(("target", "others"), SAME, ids=[target for target, _ in SAME])
async def test_one_resource_however_it_is_spelled(edge: Daemon, origin: Origin, target: str, others: list[str]) -> None:
    """One request to the origin, for the target in its normal form, and hits for all the others."""
    before = len(origin.log)
    assert not (await get(edge, target)).is_hit
    await stored(edge, target)
    async with wire(edge) as client:
        for other in (*others, *others):
            reply = await client.get(other)
            assert (reply.status, reply.is_hit, len(reply.body)) == (200, True, 1024), other
    assert [entry.target for entry in origin.log[before:]] == [target]


OTHER = [
    f"/gen/1k/{rest}"
    for rest in ("n", "/n", "N", "n/", "n?a", "n?A", "n?a&b", "n?b&a", "n%2F", "n?cmcd=1", "n?CMCDX=1")
]


@pytest.mark.rfc("9111-2", "3986-6.2.2")
async def test_what_an_origin_may_tell_apart_is_never_one_object(edge: Daemon, origin: Origin) -> None:
    for target in OTHER:
        assert not (await get(edge, target)).is_hit, target
    for target in OTHER:
        await stored(edge, target)
    assert sorted(entry.target for entry in origin.log if entry.target in OTHER) == sorted(OTHER)


NOWHERE = [
    "/..", "/../gen/1k/x", "/%2e%2e/gen/1k/x", "/%2E./gen/1k/x", "/gen/../../x", "/gen/1k/..%2f..%2fx", "/gen/..%5cx",
    "/gen/1k/%00", "/gen/1k/%0a", "/gen/1k/%zz", "/gen/1k/%4", "/gen/1k/%", "/gen/1k/x#y", "/gen/1k/x?%g", "*", "gen/x",
    "ftp://edge.test/gen/1k/x", "http:///gen/1k/x", "http://me@edge.test/gen/1k/x", "http://other.test/gen/1k/x",
]  # fmt: skip


@pytest.mark.rfc("9112-3.2")
@pytest.mark.parametrize("target", NOWHERE)
async def test_a_target_that_names_nothing(edge: Daemon, origin: Origin, target: str) -> None:
    before = origin.requests, await edge.total("edge_fills_total")
    async with wire(edge) as client:
        reply = await client.get(target)
        assert (reply.status, reply.closes) == (400, not target.startswith("/"))
        if reply.closes:  # in another form than a path's: who knows for whom the rest is
            assert await client.rest() == b""
        else:
            assert (await client.get("/gen/1k/good")).status == 200  # the connection is none the worse for it
    assert origin.requests <= before[0] + 1
    assert not [entry for entry in origin.log if entry.target == target]


@pytest.mark.rfc("9110-7.6.1")
async def test_the_edge_forwards_no_field_of_one_hop(edge: Daemon, origin: Origin) -> None:
    await get(
        edge, "/gen/1k/hop", "Connection: X-Own, keep-alive", "X-Own: 1", "X-Kept: 2", "TE: trailers", "Upgrade: x"
    )
    seen = await origin.seen("/gen/1k/hop")
    assert [seen.header(name) for name in ("X-Own", "X-Kept", "TE", "Upgrade")] == [None, "2", None, None]
    assert seen.header("Host") == "edge.test"


@pytest.mark.rfc("9112-11.2")
async def test_nothing_smuggled_was_ever_asked_for(edge: Daemon, origin: Origin) -> None:
    assert not origin.requests_for("/gen/1k/smuggled")
    assert not origin.requests_for("/gen/1k/refused")
    assert not origin.requests_for("/gen/1k/never")


async def test_the_reader_of_replies_is_strict() -> None:
    """The tests above are worth what this is."""
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert [reply.body for reply in parse_all(good + good, ["GET", "GET"])] == [b"ok", b"ok"]
    for bad in (good + b"x", good[:-1], good.replace(b"\r\n", b"\n"), good.replace(b"Content-Length: 2", b"X: y")):
        with pytest.raises((AssertionError, ValueError)):
            parse_all(bad, ["GET"])
    with pytest.raises(AssertionError):
        parse_all(good + good, ["GET"])
