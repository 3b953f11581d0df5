"""The access log: a line of JSON for each request, whatever the client wrote, and no response that waits for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Origin, Step
from tests.serve.wire import exchange, get, no_exceptions, request, stored, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALWAYS = {"time", "client", "method", "target", "status", "bytes", "outcome", "source", "first_byte_s", "duration_s"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    settings = Settings([origin.url], hosts=["edge.test"], methods="safe")
    async with running(tmp_path_factory.mktemp("edge"), settings) as daemon:
        yield daemon
        no_exceptions(daemon)


async def lines(edge: Daemon, mark: str, count: int = 1) -> list[dict[str, Any]]:
    """The lines of requests whose user agent is `mark`, as soon as there are that many."""
    async with asyncio.timeout(10):
        while len(found := [line for line in edge.log_lines() if line.get("user_agent") == mark]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert len(found) == count
    return found


async def test_a_line_for_each_request(edge: Daemon) -> None:
    agent = "User-Agent: each"
    async with wire(edge) as client:
        await client.get("/gen/2k/each?a=1", agent)
        await stored(edge, "/gen/2k/each?a=1")
        await client.get("/gen/2k/each?a=1", agent)
        await client.get("/gen/2k/each?a=1", agent, "Range: bytes=5-14", "Referer: http://page.test/")
        await client.get("/gen/2k/each?a=1", agent, method="HEAD")
        etag = (await client.get("/gen/2k/each?a=1", agent)).field("etag")
        await client.get("/gen/2k/each?a=1", agent, f"If-None-Match: {etag}")
        await client.get("/missing", agent)
        await client.get("/%", agent)
        await client.get("/gen/2k/each", agent, host="other.test")
        await client.get("/gen/2k/each", agent, method="POST")
    found = await lines(edge, "each", 10)
    told = [(one["method"], one["status"], one["bytes"], one["outcome"], one["source"]) for one in found]
    assert told == [
        ("GET", 200, 2048, "miss", "origin"),
        ("GET", 200, 2048, "hit", "ram"),
        ("GET", 206, 10, "hit", "ram"),
        ("HEAD", 200, 0, "hit", "ram"),
        ("GET", 200, 2048, "hit", "ram"),
        ("GET", 304, 0, "hit", "ram"),
        ("GET", 404, 14, *told[6][3:]),
        ("GET", 400, 0, "error", "edge"),
        ("GET", 421, 0, "error", "edge"),
        ("POST", 405, 0, "error", "edge"),
    ]
    assert [one.get("reason") for one in found] == [None] * 7 + ["bad_target", "unknown_host", "method_not_allowed"]
    for one in found:
        optional = set(one) - ALWAYS
        assert optional <= {"host", "range", "user_agent", "referer", "reason"}
        assert set(one) >= ALWAYS
        assert abs(one["time"] - time.time()) < 60
        assert one["client"] == "127.0.0.1"
        assert 0 <= one["first_byte_s"] <= one["duration_s"] < 10
    assert found[2]["range"] == "bytes=5-14"
    assert found[2]["referer"] == "http://page.test/"
    assert found[0]["target"] == "/gen/2k/each?a=1"
    assert found[8]["host"] == "other.test"
    assert "range" not in found[3]


AGENTS = ['"quoted"', "back\\slash\\", "tab\there", "caf\xe9 \x80\xff", "</script>\\u0000", '\\"', "{}", "x" * 2000]
TARGETS = ['/gen/1k/"a"', "/gen/1k/a\\b", '/gen/1k/\\"', "/gen/1k/{}'<>|^`", '/../"', "/gen/1k/" + "x" * 5000]


async def test_whatever_the_client_calls_itself(edge: Daemon) -> None:
    for agent in AGENTS:
        await get(edge, "/gen/1k/agents", f"User-Agent: {agent}")
    for agent in AGENTS:
        (found,) = await lines(edge, agent)
        assert found["target"] == "/gen/1k/agents"


async def test_whatever_the_target(edge: Daemon) -> None:
    for target in TARGETS:
        await get(edge, target, "User-Agent: targets")
    assert [found["target"] for found in await lines(edge, "targets", len(TARGETS))] == TARGETS


async def test_what_was_never_understood_has_a_line_of_its_own(edge: Daemon) -> None:
    """It says nothing that the request did not: neither the request before nor any default."""
    before = len(edge.log_lines())
    ahead = request("/gen/1k/ahead", "User-Agent: ahead", method="HEAD")
    await exchange(edge, ahead + b"\x00\xff\r\n\r\n", ["HEAD", "GET"])
    await exchange(edge, b"\x16\x03\x01\r\n")
    await exchange(edge, request("/gen/1k/x", "Bad : field", 'Good: "yes"'))
    await lines(edge, "ahead")
    async with asyncio.timeout(10):
        while len(edge.log_lines()) < before + 4:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    refused = [one for one in edge.log_lines()[before:] if one.get("user_agent") != "ahead"]
    assert [(one["status"], one["reason"], one["outcome"]) for one in refused] == [(400, "bad_request", "error")] * 3
    assert not any("host" in one for one in refused)
    assert [(one["method"], one["target"]) for one in refused[:2]] == [("", "")] * 2


async def test_a_client_that_does_not_wait_is_no_hit(edge: Daemon, origin: Origin) -> None:
    """1. A client asks for what the origin is slow with. 2. It leaves. Result: an error without status, not a hit."""
    gate = origin.gate("unawaited")
    origin.script("/unawaited", [Step(body=b"x", gate=gate)])
    before = await edge.total("edge_requests_total", outcome="hit")
    async with wire(edge) as client:
        await client.send(request("/unawaited", "User-Agent: unawaited"))
        await origin.seen("/unawaited")
        sock = client.writer.get_extra_info("socket")
        # a reset: an end alone may be that of a client that still reads
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        (found,) = await lines(edge, "unawaited")
    gate.set()
    assert (found["status"], found["outcome"], found["reason"]) == (0, "error", "client_left")
    assert await edge.total("edge_requests_total", outcome="hit") == before
    assert await edge.total("edge_requests_total", code_class="1xx") == 0


async def test_a_signal_begins_a_new_file(edge: Daemon) -> None:
    """1. The file is renamed. 2. SIGUSR1. Result: a new file of the old name, and no line lost."""
    rotated = edge.folder / "access.log.1"
    await get(edge, "/gen/1k/rotate", "User-Agent: first")
    await lines(edge, "first")
    edge.access_log.rename(rotated)
    assert edge.process is not None
    edge.process.send_signal(signal.SIGUSR1)
    async with asyncio.timeout(10):
        while not edge.access_log.exists():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    await get(edge, "/gen/1k/rotate", "User-Agent: second")
    await lines(edge, "second")
    old = [json.loads(line) for line in rotated.read_text().splitlines()]
    assert [one["user_agent"] for one in old if one["target"] == "/gen/1k/rotate"] == ["first"]


# a log that cannot be written


async def flooded(edge: Daemon) -> float:
    """Five hundred requests, and how long they took."""
    await get(edge, "/gen/1k/flood")
    data = request("/gen/1k/flood", "User-Agent: " + "f" * 400)
    started = time.monotonic()
    async with wire(edge) as client:
        for _ in range(500):
            await client.send(data)
            assert (await client.reply()).status == 200
    return time.monotonic() - started


async def dropped(edge: Daemon, at_least: int) -> None:
    async with asyncio.timeout(15):
        while await edge.total("edge_access_log_dropped_lines_total") < at_least:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


async def test_a_full_disk_delays_nobody(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "access.log").symlink_to("/dev/full")
    async with running(tmp_path, Settings([origin.url])) as edge:
        assert await flooded(edge) < 5
        await dropped(edge, 501)
        assert await edge.total("edge_access_log_dropped_lines_total") == 501
        no_exceptions(edge)


async def test_a_pipe_that_nobody_reads_delays_nobody(origin: Origin, tmp_path: Path) -> None:
    """Neither the start nor a response nor the end; and whoever comes to read finds whole lines."""
    pipe = tmp_path / "access.log"
    os.mkfifo(pipe)
    async with running(tmp_path, Settings([origin.url])) as edge:
        assert await flooded(edge) < 5
        await dropped(edge, 100)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            text = b""
            while data := _read(reader):
                text += data
        finally:
            os.close(reader)
        assert all(json.loads(line)["status"] == 200 for line in text.splitlines())
        assert text.endswith(b"}\n")
        started = time.monotonic()
        assert await edge.stop() == 0
        assert time.monotonic() - started < 10
        no_exceptions(edge)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""
