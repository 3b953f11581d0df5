"""How long a client is waited for, and what a slow one costs the others: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Checker, Origin
from tests.serve.wire import get, no_exceptions, request, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

_LIMITS = "[limits]\nhead_timeout = 1\nidle_timeout = 1\nsend_timeout = 2\nconnections = 16"
_SOON_S = 8.0
"""Far more than any of these limits, far less than their defaults."""
BIG = "/gen/32m/big"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as started:
        yield started


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
    """When the limit is reached, and only then; nothing is said to a client that asked for nothing."""

    async def left(beginning: bytes) -> None:
        with await connected(edge) as client:
            await asyncio.get_running_loop().sock_sendall(client, beginning)
            data, took_s = await ends(client)
        assert data.count(b"HTTP/1.1 200 OK") == beginning.count(b"\r\n\r\n")
        assert data.count(b"HTTP/1.1") == data.count(b"HTTP/1.1 200 OK")
        assert took_s > 0.9

    half_a_head = b"GET /gen/1k/a HTTP/1.1\r\nHost: a"
    async with asyncio.TaskGroup() as group:
        for beginning in (b"", half_a_head, b"G", b"\r\n", request("/gen/1k/waiting") + b"GET /"):
            group.create_task(left(beginning))


async def test_a_head_that_trickles_in_has_one_limit_for_all_of_it(edge: Daemon) -> None:
    loop = asyncio.get_running_loop()
    with await connected(edge) as client:
        ending = asyncio.create_task(ends(client))
        for byte in request("/gen/1k/never", "X: " + "y" * 100):
            if ending.done():
                break
            try:
                await loop.sock_sendall(client, bytes([byte]))
            except (ConnectionError, BrokenPipeError):
                break
            await asyncio.sleep(0.1)
        assert (await ending)[0] == b""


async def test_a_body_that_does_not_come_has_a_limit_too(edge: Daemon) -> None:
    """An upload that stops: the origin's connection and ours are given up."""
    with await connected(edge) as client:
        data = request("/echo", "Content-Length: 10", method="POST") + b"hello"
        await asyncio.get_running_loop().sock_sendall(client, data)
        assert (await ends(client))[0] == b""
    await edge.eventually("edge_transfers", 0)


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
