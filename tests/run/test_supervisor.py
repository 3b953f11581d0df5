"""The daemon's life as its operator sees it: what keeps it from starting, what it survives, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Checker, Origin, Step
from tests.serve.wire import get, no_exceptions, parse_head, request, stored, wire

SIZE = 24 << 20
PATH = f"/gen/{SIZE}/long"


@asynccontextmanager
async def refusing(folder: Path, settings: Settings) -> AsyncIterator[Daemon]:
    """A daemon made within the block, which must not start, and must say why and exit 1 by itself."""
    daemon = Daemon(folder, settings)
    yield daemon
    try:
        with pytest.raises(AssertionError, match="the daemon did not start"):
            await daemon.start()
        assert daemon.process is not None
        assert daemon.process.returncode == 1
    finally:
        if daemon.process is not None and daemon.process.returncode is None:
            await daemon.stop()
        daemon.remove()


def told(daemon: Daemon) -> list[str]:
    """What it said to the terminal, besides its log."""
    return [line for line in daemon.output.read_text().splitlines() if line.startswith("edge: ")]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_gone(*pids: int) -> None:
    async with asyncio.timeout(10):
        while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


# what keeps it from starting


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("which", ["port", "control_port"])
async def test_a_port_that_is_taken(tmp_path: Path, workers: int, which: str) -> None:
    """Also by one that would share it: a second daemon must not silently get half of the connections."""
    with socket.socket() as other:
        async with refusing(tmp_path, Settings(["http://o.test"], workers=workers)) as daemon:
            port = getattr(daemon, which)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(("127.0.0.1", port))
            if which == "port":
                other.listen()
    assert told(daemon) == [f"edge: cannot listen on 127.0.0.1:{port}: Address already in use"]
    assert "Traceback" not in daemon.output.read_text()


async def test_a_store_that_is_in_use(origin: Origin, tmp_path: Path) -> None:
    """The second is refused, the first does not notice."""
    async with running(tmp_path, Settings([origin.url])) as first:
        (tmp_path / "second").mkdir()
        async with refusing(tmp_path / "second", Settings([origin.url])) as second:
            own = f'state_dir = "{second.folder}/state"'
            second.config.write_text(second.config.read_text().replace(own, f'state_dir = "{first.folder}/state"'))
        assert told(second) == [f"edge: state_dir: {first.folder}/state is in use by another daemon"]
        assert (await get(first, "/gen/1k/a")).status == 200
        await stored(first, "/gen/1k/a")
        no_exceptions(first)


async def test_a_disk_that_is_none(tmp_path: Path) -> None:
    """It gives up after a few tries, long before the patience for a slow start ends."""
    started = time.monotonic()
    async with refusing(tmp_path, Settings(["http://o.test"], ssd="64MiB")) as daemon:
        (tmp_path / "ssd0").write_text("a file, not a folder")
    assert told(daemon) == ["edge: did not become ready: manager; the log above says why"]
    assert str(tmp_path / "ssd0") in daemon.output.read_text()
    assert time.monotonic() - started < 25


async def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    async with refusing(tmp_path, Settings(["http://o.test"])) as daemon:
        daemon.access_log.mkdir()
    assert told(daemon) == [f"edge: log.access: {daemon.access_log}: Is a directory"]


# how it ends


async def test_a_running_transfer_is_finished(origin: Origin, tmp_path: Path) -> None:
    """1. A client reads a long body slowly. 2. SIGTERM. 3. Probes are told, new clients refused, the old one served.
    Result: its whole body, the end, status 0.
    """
    settings = Settings([origin.url], ram="256MiB", toml="[limits]\ndrain = 30")
    async with running(tmp_path, settings) as edge, wire(edge) as client, wire(edge) as idle:
        assert len((await get(edge, PATH)).body) == SIZE
        await idle.get("/gen/1k/idle")
        await client.send(request(PATH))
        data = await client.reader.readuntil(b"\r\n\r\n")
        reply = parse_head(data)
        assert reply is not None
        assert reply[0].status == 200
        assert edge.process is not None
        edge.process.send_signal(signal.SIGTERM)
        assert await idle.rest() == b""
        async with aiohttp.ClientSession() as session, session.get(f"{edge.control}/readyz") as response:
            assert (response.status, await response.text()) == (503, "draining\n")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", edge.port)
        checker = Checker(PATH)
        while body := await client.reader.read(1 << 20):
            assert checker.feed(body)
            await asyncio.sleep(0.01)
        assert checker.position == SIZE
        client.writer.close()
        async with asyncio.timeout(10):
            assert await edge.process.wait() == 0
        no_exceptions(edge)


async def test_a_miss_under_way_is_finished(origin: Origin, tmp_path: Path) -> None:
    """The manager outlives the workers: what they wait for still comes, and is kept."""
    gate = origin.gate("late")
    path = "/gen/3m/late"
    origin.script(path, [Step(gate=gate, gate_after=1 << 20)])
    settings = Settings([origin.url], ssd="64MiB", ram=None)
    async with running(tmp_path, settings) as edge, wire(edge) as client:
        await client.send(request(path))
        await origin.seen(path)
        await client.reader.readuntil(b"\r\n\r\n")
        assert edge.process is not None
        edge.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        gate.set()
        checker = Checker(path)
        while body := await client.reader.read(1 << 20):
            assert checker.feed(body)
        assert checker.position == 3 << 20
        client.writer.close()
        async with asyncio.timeout(10):
            assert await edge.process.wait() == 0
        no_exceptions(edge)


async def test_a_client_that_is_stuck_does_not_hold_it_up(origin: Origin, tmp_path: Path) -> None:
    """Ctrl-C is an end in good order as well."""
    settings = Settings([origin.url], ram="256MiB", toml="[limits]\ndrain = 1")
    async with running(tmp_path, settings) as edge, wire(edge) as client:
        await get(edge, PATH)
        await client.send(request(PATH) * 4)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await edge.eventually("edge_transfers", 1)
        pids = [one["pid"] for one in (await edge.status())["processes"]]
        started = time.monotonic()
        assert await edge.stop(signal.SIGINT) == 0
        assert 0.9 < time.monotonic() - started < 5
        await until_gone(*pids)
        no_exceptions(edge)


async def test_a_signal_while_it_starts(tmp_path: Path) -> None:
    """Whenever it comes, it is an end in good order."""
    for delay_s in (0.4, 0.8, 1.2):
        edge = Daemon(tmp_path, Settings(["http://o.test"]))
        try:
            starting = asyncio.create_task(edge.start())
            await asyncio.sleep(delay_s)
            assert edge.process is not None
            # before Python has got to us at all, the signal ends it the system's way
            assert await edge.stop() in ((0, -signal.SIGTERM) if delay_s < 1 else (0,))
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            assert "Traceback" not in edge.output.read_text()
        finally:
            edge.remove()


# what it survives


async def test_a_manager_that_is_killed(origin: Origin, tmp_path: Path) -> None:
    """Hits go on without it; misses wait for the next one."""
    async with running(tmp_path, Settings([origin.url])) as edge:
        await get(edge, "/gen/1k/kept")
        await edge.eventually("edge_objects", 1)  # what is not committed yet is fetched again
        assert (await get(edge, "/gen/1k/kept")).is_hit
        (manager,) = await edge.pids("manager")
        os.kill(manager, signal.SIGKILL)
        hit, miss = await asyncio.gather(get(edge, "/gen/1k/kept"), get(edge, "/gen/1k/after"))
        assert hit.is_hit
        assert miss.status == 200
        await edge.eventually("edge_process_restarts_total", 1)
        assert await edge.pids("manager") != [manager]
        assert (await get(edge, "/gen/1k/kept")).is_hit


async def test_a_supervisor_that_is_killed_takes_all_with_it(origin: Origin, tmp_path: Path) -> None:
    """Nobody is left who holds the store or the ports: the next start works at once."""
    async with running(tmp_path, Settings([origin.url], workers=2)) as edge:
        await get(edge, "/gen/1k/kept")
        pids = [one["pid"] for one in (await edge.status())["processes"]]
        assert len(pids) == 4
        assert edge.process is not None
        assert edge.process.pid in pids
        edge.process.kill()
        await edge.process.wait()
        await until_gone(*pids)
        await edge.start()
        assert (await get(edge, "/gen/1k/kept")).status == 200
        no_exceptions(edge)
