"""How long a client is waited for, and what a slow one costs the others: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Checker, Origin
from tests.serve.wire import get, no_exceptions, parse_all, request, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

_LIMITS = """[limits]
head_timeout = 1
idle_timeout = 1
send_timeout = 2
body_timeout = 1
receive_rate_min = "8KiB"
body_max = "1MiB"
connections = 16
"""
_SOON_S = 8.0
"""Far more than any of these limits, far less than their defaults."""
BIG = "/gen/32m/big"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    async with running(tmp_path_factory.mktemp("edge"), Settings([origin.url], ram="512MiB", toml=_LIMITS)) as daemon:
        yield daemon
        no_exceptions(daemon)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def ends(client_socket: socket.socket) -> tuple[bytes, float]:
    """What still comes before the edge closes, and how long that takes."""
    loop = asyncio.get_running_loop()
    started = time.monotonic()
    data = b""
    async with asyncio.timeout(_SOON_S):
        try:
            while more := await loop.sock_recv(client_socket, 1 << 16):
                data += more
        except ConnectionResetError:
            pass
    return data, time.monotonic() - started


async def connected(edge: Daemon) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", edge.port))
    return client


async def test_who_sends_no_request_is_left(edge: Daemon) -> None:
    """When the limit is reached, and only then; nothing is said to a client that asked for nothing, lest it takes it
    for the answer to what it asks next.
    """

    async def left(beginning: bytes, *statuses: int) -> None:
        with await connected(edge) as client:
            await asyncio.get_running_loop().sock_sendall(client, beginning)
            data, took_s = await ends(client)
        assert tuple(reply.status for reply in parse_all(data, ["GET"] * 2)) == statuses
        assert took_s > 0.9

    half_a_head = b"GET /gen/1k/a HTTP/1.1\r\nHost: a"
    async with asyncio.TaskGroup() as group:
        for nothing in (b"", b"\r", b"\r\n"):
            group.create_task(left(nothing))
        for begun in (half_a_head, b"G", b"\r\nGET"):
            group.create_task(left(begun, 408))
        group.create_task(left(request("/gen/1k/waiting"), 200))
        group.create_task(left(request("/gen/1k/waiting") + b"GET /", 200, 408))


async def test_a_head_that_trickles_in_has_one_limit_for_all_of_it(edge: Daemon) -> None:
    with await connected(edge) as client:
        ending = asyncio.create_task(ends(client))
        await trickle(client, request("/gen/1k/never", "X: " + "y" * 100), ending)
        assert refused(await ending) == 408


async def trickle(client: socket.socket, data: bytes, ending: asyncio.Task[Any]) -> None:
    """A byte ten times a second, until the edge has enough of it."""
    loop = asyncio.get_running_loop()
    for byte in data:
        if ending.done():
            break
        try:
            await loop.sock_sendall(client, bytes([byte]))
        except (ConnectionError, BrokenPipeError):
            break
        await asyncio.sleep(0.1)


def refused(ended: tuple[bytes, float]) -> int:
    """The status of the one answer that there was, before the edge closed."""
    (reply,) = parse_all(ended[0], ["POST"])
    assert reply.closes
    return reply.status


async def test_a_body_that_does_not_come_has_a_limit_too(edge: Daemon, origin: Origin) -> None:
    """An upload that stops, or nearly: the origin's connection and ours are given up."""
    before = await edge.total("edge_errors_total", reason="client_timeout")

    async def left(beginning: bytes, rest: bytes = b"") -> None:
        with await connected(edge) as client:
            await asyncio.get_running_loop().sock_sendall(client, beginning)
            ending = asyncio.create_task(ends(client))
            await trickle(client, rest, ending)
            assert refused(await ending) == 408

    by_length = request("/echo?stops", "Content-Length: 1000", method="POST")
    in_chunks = request("/echo?stops", "Transfer-Encoding: chunked", method="POST")
    async with asyncio.TaskGroup() as group:
        group.create_task(left(by_length + b"hello"))
        group.create_task(left(in_chunks + b"5\r\nhel"))
        group.create_task(left(by_length, b"x" * 900))
        group.create_task(left(in_chunks, b"1;" + b"x" * 900))
        group.create_task(left(in_chunks, b"0\r\nX: " + b"x" * 900))
        group.create_task(left(by_length + b"x" * 999))
    await edge.eventually("edge_transfers", 0)
    await edge.eventually("edge_errors_total", before + 6, reason="client_timeout")
    for entry in origin.log:
        if entry.target == "/echo?stops":
            assert (await asyncio.wait_for(origin.ended(entry), _SOON_S)).status == 0


@pytest.mark.parametrize("framing", ["Content-Length: 200000", "Transfer-Encoding: chunked"])
async def test_a_body_that_comes_slowly_but_comes_may_take_its_time(edge: Daemon, framing: str) -> None:
    """Four times body_timeout, at several times the least rate, with a pause."""
    loop = asyncio.get_running_loop()
    with await connected(edge) as client:
        await loop.sock_sendall(client, request("/echo", framing, "Connection: close", method="POST"))
        started = time.monotonic()
        for turn in range(20):
            piece = b"x" * 10_000
            await loop.sock_sendall(client, b"2710\r\n" + piece + b"\r\n" if "chunked" in framing else piece)
            await asyncio.sleep(0.7 if turn == 10 else 0.17)
        if "chunked" in framing:
            await loop.sock_sendall(client, b"0\r\n\r\n")
        assert time.monotonic() - started > 3.5
        (reply,) = parse_all((await ends(client))[0], ["POST"])
    assert reply.status == 200
    assert b'"body_bytes": 200000' in reply.body


async def test_a_body_that_is_too_large(edge: Daemon, origin: Origin) -> None:
    """By its length: nobody is asked. In chunks: as soon as it is, and the origin sees no end of it."""
    before = await edge.total("edge_errors_total", reason="body_too_large")
    most = 1 << 20
    largest = request("/echo?largest", f"Content-Length: {most}", "Connection: close", method="POST") + b"x" * most
    too_long = request("/echo?large", f"Content-Length: {most + 1}", "Expect: 100-continue", method="POST")
    too_many = request("/echo?large", "Transfer-Encoding: chunked", method="POST")
    too_many += b"10000\r\n" + b"x" * 65536 + b"\r\n"
    rest = (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 15 + b"1\r\nx\r\n"
    for data, status in ((largest, 200), (too_long, 413), (too_many + rest, 413)):
        with await connected(edge) as client:
            await asyncio.get_running_loop().sock_sendall(client, data)
            assert refused(await ends(client)) == status
    await edge.eventually("edge_errors_total", before + 2, reason="body_too_large")
    assert [entry.request.body_bytes for entry in origin.requests_for("/echo") if "largest" in entry.target] == [most]
    for entry in origin.requests_for("/echo"):
        if entry.target == "/echo?large":
            assert (await asyncio.wait_for(origin.ended(entry), _SOON_S)).status == 0


async def test_who_takes_no_byte_costs_nothing_and_is_left(edge: Daemon) -> None:
    """1. A client asks for 32 MiB, five times, and does not read. 2. The worker is watched for a second; others ask.
    Result: no CPU, no memory, nobody waits; after send_timeout the stuck one is cut off.
    """
    assert len((await get(edge, BIG)).body) == 32 << 20
    small = (await get(edge, "/gen/1k/small")).body
    (worker,) = await edge.pids("worker")
    before_bytes = resident_bytes(worker)
    cut_before = await edge.total("edge_errors_total", reason="client_too_slow")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(await connected(edge)) for _ in range(3)]
        for client in clients:
            await asyncio.get_running_loop().sock_sendall(client, request(BIG) * 5)
        await edge.eventually("edge_transfers", 3)
        before_s = cpu_s(worker)
        await asyncio.sleep(1)
        assert cpu_s(worker) - before_s < 0.1
        assert resident_bytes(worker) - before_bytes < 8 << 20
        started = time.monotonic()
        for _ in range(20):
            assert (await get(edge, "/gen/1k/small")).body == small
        assert time.monotonic() - started < 1
        async with asyncio.timeout(_SOON_S):
            await edge.eventually("edge_errors_total", cut_before + 3, reason="client_too_slow")
        await edge.eventually("edge_transfers", 0)
        for client in clients:
            data, _ = await ends(client)
            assert len(data) < 32 << 20


async def test_who_reads_slowly_but_reads_is_served_to_the_end(edge: Daemon) -> None:
    """Longer than every limit in all, never as long without a byte."""
    path = "/gen/8m/slowly"
    await get(edge, path)
    loop = asyncio.get_running_loop()
    checker = Checker(path)
    with await connected(edge) as client:
        await loop.sock_sendall(client, request(path))
        head, _, body = (await loop.sock_recv(client, 4096)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert checker.feed(body)
        started = time.monotonic()
        while checker.position < 8 << 20:
            data = await loop.sock_recv(client, 1 << 18)
            assert data
            assert checker.feed(data)
            await asyncio.sleep(3.5 * len(data) / (8 << 20))
        assert time.monotonic() - started > 3


async def test_one_connection_more_than_allowed(edge: Daemon) -> None:
    """It is closed at once, the others live on; where one left there is room again."""
    await edge.eventually("edge_connections", 0)
    before = await edge.total("edge_connections_refused_total")
    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(connected(edge)) for _ in range(16)]
    sockets = [client.result() for client in clients]
    loop = asyncio.get_running_loop()

    async def served(client: socket.socket) -> None:
        await loop.sock_sendall(client, request("/gen/1k/small"))
        head, _, body = (await loop.sock_recv(client, 4096)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        while len(body) < 1024:  # a head may come by itself
            more = await loop.sock_recv(client, 4096)
            assert more
            body += more

    with contextlib.ExitStack() as stack:
        for client in sockets:
            stack.enter_context(client)
            await served(client)
        with await connected(edge) as late:
            assert (await ends(late))[0] == b""
        await edge.eventually("edge_connections_refused_total", before + 1)
        await served(sockets[0])
    async with asyncio.timeout(_SOON_S), wire(edge) as client_again:
        assert (await client_again.get("/gen/1k/small")).status == 200
