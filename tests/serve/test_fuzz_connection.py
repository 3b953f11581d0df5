"""The whole connection class, fed anything: every request that a strict reader finds is answered in its place, and
the manager is asked for nothing that this reader does not find.
"""

# ruff: noqa: E501 - tables read best with a case a line

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.http.key import BadTarget, QueryRule, normalise_path, normalise_query, parse_absolute, split_target
from tests.serve import strict
from tests.serve.double import Double, Wanted, double
from tests.serve.wire import Reply, parse_reply, request
from tests.store.making import body

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZES = {"edge.test/small": 900, "edge.test/large": 150_000}
BODIES = {key.removeprefix("edge.test"): body(key, size) for key, size in SIZES.items()}
HIDDEN = request("/hidden")
_HANG_S = 5.0


def fuzz(examples: int) -> settings:
    """The same examples each time: a failure is met again, and the suite's time is known."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Double]:
    async with double(tmp_path_factory.mktemp("double"), SIZES) as made:
        for path in BODIES:  # from now on they are open
            await poured(made, [request(path)])
        before = len(os.listdir("/proc/self/fd"))
        yield made
        assert len(os.listdir("/proc/self/fd")) <= before + 4
        assert not made.failures


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("edge.test", key_type=trustme.KeyType.ECDSA).configure_cert(server)
    authority.configure_trust(client)
    server.minimum_version = ssl.TLSVersion.TLSv1_2
    return server, client


# clients


async def poured(made: Double, pieces: list[bytes]) -> bytes:
    """What comes back for these pieces and an end behind them; a hang fails."""
    loop = asyncio.get_running_loop()
    sock = made.connect()
    receiving = asyncio.create_task(received(sock))
    try:
        for piece in pieces:
            await loop.sock_sendall(sock, piece)
            await asyncio.sleep(0)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    async with asyncio.timeout(_HANG_S):
        data = await receiving
    sock.close()
    await rested(made)
    return data


async def received(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    try:
        while more := await loop.sock_recv(sock, 1 << 18):
            data += more
    except ConnectionError:
        pass
    return bytes(data)


async def rested(made: Double) -> None:
    """Until nothing is left of the connection."""
    async with asyncio.timeout(_HANG_S):
        while not made.is_at_rest:  # noqa: ASYNC110 - it is what is tested
            await asyncio.sleep(0)


class Secured:
    """A TLS client on memory, whose records can be cut and spoilt on their way."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="edge.test")
        self._sock = sock
        self._is_established = False
        self.plain = bytearray()
        self.is_over = False

    async def send(self, plain: bytes) -> bytes:
        """The records of this, once the handshake is over; empty if it never is."""
        while not self._is_established and not self.is_over:
            try:
                self._tls.do_handshake()
                self._is_established = True
            except ssl.SSLWantReadError:
                await self.flush(self._out.read())
                await self.receive()
        if plain and self._is_established:
            self._tls.write(plain)
        return self._out.read()

    async def flush(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except OSError:
            self.is_over = True

    async def receive(self) -> None:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._sock, 1 << 18)
        except ConnectionError:
            data = b""
        self.is_over = not data
        self._in.write(data) if data else self._in.write_eof()
        if self._is_established:
            try:
                while more := self._tls.read(1 << 18):
                    self.plain += more
            except ssl.SSLError:
                pass


async def poured_secure(
    made: Double, contexts: tuple[ssl.SSLContext, ssl.SSLContext], pieces: list[bytes], cuts: list[int], spoilt: int
) -> bytes:
    """The same over TLS: pieces are records, cut anywhere; `spoilt`: the byte of all that is changed, or -1."""
    server, context = contexts
    sock = made.connect(server)
    client = Secured(context, sock)
    async with asyncio.timeout(_HANG_S):
        records = b"".join([await client.send(piece) for piece in [b"", *pieces]])
        if spoilt >= 0 and records:
            at = spoilt % len(records)
            records = records[:at] + bytes([records[at] ^ 0x55]) + records[at + 1 :]
        receiving = asyncio.create_task(until_over(client))
        for piece in cut(records, cuts):
            await client.flush(piece)
            await asyncio.sleep(0)
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        await receiving
    sock.close()
    await rested(made)
    return bytes(client.plain)


async def until_over(client: Secured) -> None:
    while not client.is_over:
        await client.receive()


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(one % (len(data) + 1) for one in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(marks) if end > start]


# what is right


def resource(target: str) -> str | None:
    """What a target names, in its normal form; None: nothing."""
    try:
        if not target.startswith("/"):
            target = parse_absolute(target)[2]
        path, query = split_target(target)
        wanted = normalise_query(query, QueryRule()) if query else ""
        return normalise_path(path) + (f"?{wanted}" if wanted else "")
    except BadTarget:
        return None


def is_right(asked: strict.Asked, reply: Reply) -> bool:
    """Whether this answers that, an error of ours aside."""
    named = resource(asked.target)
    seen = reply.field("x-seen")
    if seen is not None:
        return seen == f"{asked.method} {named}" and (asked.method == "HEAD" or reply.body == str(named).encode())
    return (
        reply.is_hit
        and asked.method in ("GET", "HEAD")
        and named is not None
        and (asked.method == "HEAD" or reply.body in BODIES.get(named, b"") or reply.status in (304, 416))
    )


def judge(data: bytes, answer: bytes, wanted: list[Wanted]) -> int:
    """Fails where something is wrong; returns how many of the requests were answered."""
    asked = strict.read(data)
    judge_wanted(asked, wanted)
    if any(one.target.startswith("/early") for one in asked):
        return 0  # who answers before the body has come may break off behind it
    position = 0
    while answer:
        method = asked[position].method if position < len(asked) else "GET"
        found = parse_reply(answer, method)
        if found is None and position >= len(asked):  # a HEAD with which something was wrong
            found = parse_reply(answer, "HEAD")
        assert found is not None, (data, answer[:200])
        reply, end = found
        answer = answer[end:]
        if reply.status == 100:
            assert position < len(asked)
            continue
        if reply.status < 400 or reply.field("x-seen"):
            assert position < len(asked), (data, reply)
            assert asked[position].is_whole
            assert is_right(asked[position], reply), (asked[position], reply)
        elif position >= len(asked) or not asked[position].is_whole:
            assert reply.closes, (data, reply)
        elif asked[position].target in GOOD_TARGETS and asked[position].host == "edge.test":
            assert reply.status == (502 if asked[position].target == "/fail" else 417), (asked[position], reply)
        assert not reply.closes or not answer, (data, answer[:200])
        position += 1
    return position


def judge_wanted(asked: list[strict.Asked], wanted: list[Wanted]) -> None:
    """What the manager was asked for is what the reader found, in the same order."""
    left = iter(asked)
    for one in wanted:
        want = one.want
        for candidate in left:
            named = candidate.method, candidate.host, resource(candidate.target)
            if named == (want.method, want.host, want.target):
                break
        else:
            raise AssertionError((want, asked))
        assert candidate.body.startswith(one.body)
        if one.is_uploaded:
            assert candidate.is_whole
            if "early" not in want.target:
                assert candidate.body == one.body
        names = {name.lower() for name, _ in want.fields}
        assert not names & {"transfer-encoding", "connection", "upgrade", "te", "keep-alive"}


# what is sent


def _post(path: str, *lines: str, data: bytes, method: str = "POST") -> bytes:
    return request(path, *lines, method=method) + data


def _chunked(data: bytes, size: int, last: bytes = b"0\r\n\r\n") -> bytes:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + last


GOOD = [
    request("/small"), request("/small"), request("/small", method="HEAD"), request("/large"), request("/miss"),
    request("/small", "Range: bytes=1-9"), request("/small", "Range: bytes=0-"), request("/fail"), request("/%zz"),
    request("/a", method="HEAD"), request("/a", method="OPTIONS"), request("/unknown"), request("/x", "Connection: close"),
    request("/small", version="1.0"), request("/small", "Connection: keep-alive", version="1.0"),
    request("http://edge.test/small"), request("/small", "Expect: 100-continue"), b"\r\n" + request("/small"),
    _post("/p", f"Content-Length: {len(HIDDEN)}", data=HIDDEN),
    _post("/p", f"Content-Length: {len(HIDDEN)}", "Expect: 100-continue", data=HIDDEN),
    _post("/g", f"Content-Length: {len(HIDDEN)}", data=HIDDEN, method="GET"),
    _post("/c", "Transfer-Encoding: chunked", data=_chunked(HIDDEN, 1000)),
    _post("/c", "Transfer-Encoding: chunked", data=_chunked(HIDDEN, 7, b"0;a=b\r\nHost: x\r\n\r\n"), method="PUT"),
    _post("/early", f"Content-Length: {len(HIDDEN)}", data=HIDDEN),
    _post("/early-c", "Transfer-Encoding: chunked", data=_chunked(HIDDEN, 9)),
    _post("/fail", "Content-Length: 2", data=b"hi"), _post("/p0", "Content-Length: 0", data=b""),
]  # fmt: skip
GOOD_TARGETS = {"/small", "/large", "/miss", "/fail", "/a", "/unknown", "/x", "/p", "/g", "/c", "/p0"}
BAD = [
    b"GET ", b"POST ", b"/small", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"Host: edge.test\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 1\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n",
    b"Expect: 100-continue\r\n", b": ", b"\x00", b" ", b"\xa0", b"\x0b", b"Connection: close\r\n", b"Upgrade: h2c\r\n",
    request("/small", host="other.test"), request("/small", host=""), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    _post("/p", "Content-Length: 5", "Transfer-Encoding: chunked", data=b"0\r\n\r\n"),
    _post("/p", "Transfer-Encoding: chunked", "Transfer-Encoding: identity", data=b"0\r\n\r\n"),
    _post("/c", "Transfer-Encoding: chunked", data=b"5\nhello\r\n0\r\n\r\n"), request("/small", "X: y\nHost: a"),
    _post("/c", "Transfer-Encoding: chunked", data=b"5;a\rb\r\nhello\r\n0\r\n\r\n"), request("/small", " X: y"),
    _post("/c", "Transfer-Encoding: chunked", data=b"5\r\nhello\n0\r\n\r\n"), request("/small", "X : y"),
    _post("/p", "Content-Length: 3", "Content-Length: 5", data=HIDDEN), request("http://evil.test/small"),
]  # fmt: skip
_CUTS: st.SearchStrategy[list[int]] = st.one_of(
    st.just([]), st.lists(st.integers(0, 3000), max_size=8), st.just(list(range(400)))
)
_SPOIL = st.tuples(
    st.integers(0, 3000),
    st.sampled_from(["set", "insert", "drop", "double"]),
    st.sampled_from(b"\r\n\x00\t :aZ05,;+x\xa0"),
)
_SPOILS: st.SearchStrategy[list[tuple[int, str, int]]] = st.one_of(
    st.just([]), st.lists(_SPOIL, min_size=1, max_size=4)
)


def spoilt(data: bytes, spoils: list[tuple[int, str, int]]) -> bytes:
    made = bytearray(data)
    for at, kind, byte in spoils:
        place = at % len(made) if made else 0
        match kind:
            case "set" if made:
                made[place] = byte
            case "insert":
                made.insert(place, byte)
            case "drop":
                del made[place : place + 1]
            case "double":
                made[place:place] = made[place : place + 20]
    return bytes(made)


_STREAMS = st.builds(
    spoilt,
    st.lists(st.one_of(st.sampled_from(GOOD), st.sampled_from(GOOD), st.sampled_from(BAD)), min_size=1, max_size=8).map(
        b"".join
    ),
    _SPOILS,
)


@fuzz(200)
@given(parts=st.lists(st.sampled_from([part for part in GOOD if b"early" not in part]), max_size=8), cuts=_CUTS)
async def test_whatever_is_right_is_answered(worker: Double, parts: list[bytes], cuts: list[int]) -> None:
    worker.manager.wanted.clear()
    data = b"".join(parts)
    answer = await poured(worker, cut(data, cuts))
    assert judge(data, answer, list(worker.manager.wanted.values())) == len(strict.read(data))


@fuzz(500)
@given(data=st.one_of(_STREAMS, _STREAMS, _STREAMS, st.binary(max_size=200)), cuts=_CUTS)
async def test_whatever_a_client_sends(worker: Double, data: bytes, cuts: list[int]) -> None:
    worker.manager.wanted.clear()
    answer = await poured(worker, cut(data, cuts))
    judge(data, answer, list(worker.manager.wanted.values()))
    assert not worker.failures


@fuzz(150)
@given(data=_STREAMS, pieces=_CUTS, cuts=_CUTS)
async def test_whatever_a_client_sends_over_tls(
    worker: Double, contexts: tuple[ssl.SSLContext, ssl.SSLContext], data: bytes, pieces: list[int], cuts: list[int]
) -> None:
    worker.manager.wanted.clear()
    answer = await poured_secure(worker, contexts, cut(data, pieces), cuts, -1)
    judge(data, answer, list(worker.manager.wanted.values()))
    assert not worker.failures


@fuzz(60)
@given(data=_STREAMS, cuts=_CUTS, changed=st.integers(0, 3000))
async def test_a_changed_byte_of_tls_is_no_request(
    worker: Double, contexts: tuple[ssl.SSLContext, ssl.SSLContext], data: bytes, cuts: list[int], changed: int
) -> None:
    """What was whole before it may have been answered; what was changed is not taken for anything."""
    worker.manager.wanted.clear()
    await poured_secure(worker, contexts, [data[:50], data[50:]], cuts, changed)
    judge_wanted(strict.read(data), list(worker.manager.wanted.values()))
    assert not worker.failures


@fuzz(100)
@given(data=st.binary(max_size=300), cuts=_CUTS)
async def test_what_is_no_tls(
    worker: Double, contexts: tuple[ssl.SSLContext, ssl.SSLContext], data: bytes, cuts: list[int]
) -> None:
    loop = asyncio.get_running_loop()
    sock = worker.connect(contexts[0])
    receiving = asyncio.create_task(received(sock))
    try:
        for piece in cut(data, cuts):
            await loop.sock_sendall(sock, piece)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    async with asyncio.timeout(_HANG_S):
        assert b"HTTP" not in await receiving
    sock.close()
    await rested(worker)
    assert not worker.failures
