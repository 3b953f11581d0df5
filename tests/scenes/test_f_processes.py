"""Processes that die: what is here goes on being served, the rest comes back within seconds, nothing is wrong."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from loadtest.content import Checker, expected
from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Client, get
from tests.kit.daemon import Daemon, Settings
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20


def settings(url: str) -> Settings:
    return Settings([url], workers=2, ram="512MiB", ssd="4GiB")


async def kill(edge: Daemon, role: str) -> int:
    """End one process of a role, the hard way."""
    pid = (await edge.pids(role))[0]
    os.kill(pid, signal.SIGKILL)
    return pid


async def committed(edge: Daemon, path: str) -> None:
    """Wait until what was stored so far is in the index, where a crash cannot undo it.

    The first batch seen to be written may have been gathered before; the next one holds it.
    """
    for number in range(2):
        count = (await edge.status())["objects"]
        assert (await get(edge.port, f"{path}-and-later-{number}")).whole

        async def more(before: int = count) -> bool:
            return bool((await edge.status())["objects"] > before)

        await until(more)


async def has_successor(edge: Daemon, role: str, dead: int) -> None:
    """Wait until another process has taken a dead one's place, and all are ready."""

    async def replaced() -> bool:
        try:
            status = await edge.status()
        except OSError:
            return False
        return status["ready"] and dead not in [one["pid"] for one in status["processes"] if one["role"] == role]

    await until(replaced)


class TestTheManager:
    async def test_is_killed_under_all_kinds_of_requests(self, origin: Origin, edge: Daemon) -> None:
        """1. An object is stored. These are under way: a fill; a fill of unknown length; an answer for one; a request
           that waits for the origin's head; a DELETE and a POST that wait for their answers.
        2. The manager is killed.
        3. Hits go on. What can go on does, with the right bytes, and the client sees nothing. What cannot is cut, or
           told so. What is unsafe is not done twice. A new miss is answered.
        """
        hit = "/gen/1m/hit"
        for _ in range(4):
            assert (await get(edge.port, hit)).whole
        await committed(edge, hit)
        answered = await edge.total("edge_requests_total")
        never = asyncio.Event()
        private: dict[str, str | None] = {"Cache-Control": "private"}
        origin.script("/gen/20m/cold", [Step(gate=never, gate_after=5 * MIB), Step()])
        origin.script("/gen/20m/chunked", [Step(framing="chunked", stall_after=MIB)])
        origin.script("/gen/20m/private", [Step(headers=private, stall_after=MIB)])
        for name in ("waits", "delete", "post"):
            origin.script(f"/gen/1m/{name}", [Step(gate=never), Step()])
        async with (
            Client(edge.port) as cold,
            Client(edge.port) as chunked,
            Client(edge.port) as alone,
            Client(edge.port) as delete,
            Client(edge.port) as post,
        ):
            cold.send("/gen/20m/cold")
            chunked.send("/gen/20m/chunked")
            alone.send("/gen/20m/private")
            delete.send("/gen/1m/delete", method="DELETE")
            post.send("/gen/1m/post", "Content-Length: 5", method="POST")
            post.writer.write(b"hello")
            waiting = [asyncio.create_task(get(edge.port, "/gen/1m/waits")) for _ in range(5)]
            filled, unknown, passed = await cold.head(), await chunked.head(), await alone.head()
            await cold.bytes(filled, 4 * MIB)
            while len(unknown.body) < 500_000:
                await chunked.chunk(unknown)
            await alone.bytes(passed, 500_000)
            for name in ("waits", "delete", "post"):
                await origin.seen(f"/gen/1m/{name}")

            dead = await kill(edge, "manager")

            for _ in range(20):
                reply = await get(edge.port, hit)
                assert (reply.status, reply.body) == (200, expected(hit, 0, MIB))
            for client, reply, path in (
                (chunked, unknown, "/gen/20m/chunked"),
                (alone, passed, "/gen/20m/private"),
            ):
                await client.body(reply)
                assert not reply.whole
                assert reply.body == expected(path, 0, len(reply.body))
            for client in (delete, post):
                reply = await client.body(await client.head())
                assert (reply.status, reply.body) == (503, b"503 manager_gone\n")
            await cold.body(filled)
            assert filled.whole
            assert filled.body == expected("/gen/20m/cold", 0, 20 * MIB)
            for reply in await asyncio.gather(*waiting):
                assert (reply.status, reply.body) == (200, expected("/gen/1m/waits", 0, MIB))
            miss = await get(edge.port, "/gen/2m/after-the-kill")
            assert (miss.status, miss.body) == (200, expected("/gen/2m/after-the-kill", 0, 2 * MIB))

        await has_successor(edge, "manager", dead)
        assert await edge.total("edge_requests_total") >= answered
        assert len(origin.requests_for(hit)) == 1
        assert [len(origin.requests_for(f"/gen/1m/{name}")) for name in ("waits", "delete", "post")] == [2, 1, 1]
        again = await get(edge.port, "/gen/20m/cold")
        assert again.body == expected("/gen/20m/cold", 0, 20 * MIB)

    async def test_under_load(self, origin: Origin, edge: Daemon) -> None:
        """Hits, misses and ranges all the while: every body is right or honestly cut, and soon all are whole."""
        stop = asyncio.Event()
        tally = {"whole": 0, "cut": 0, "refused": 0}

        async def client(number: int) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                path = f"/gen/3m/load-{number}-{turn % 5}"
                try:
                    reply = await get(edge.port, path)
                except (ConnectionError, asyncio.IncompleteReadError):
                    tally["cut"] += 1
                    continue
                if reply.status != 200:
                    tally["refused"] += 1
                    continue
                checker = Checker(path)
                assert checker.feed(reply.body)
                tally["whole" if reply.whole else "cut"] += 1

        clients = [asyncio.create_task(client(number)) for number in range(6)]
        dead = await kill(edge, "manager")
        await has_successor(edge, "manager", dead)
        before = dict(tally)

        async def served() -> bool:
            return tally["whole"] > before["whole"] + 30

        await until(served)
        stop.set()
        await asyncio.gather(*clients)
        assert tally["refused"] == 0


class TestAWorker:
    async def test_takes_only_its_own_with_it(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/1m/worker"
        body = expected(path, 0, MIB)
        for _ in range(10):
            assert (await get(edge.port, path)).body == body

        async def settled() -> bool:
            return await edge.total("edge_requests_total", outcome="hit") >= 9

        await until(settled)
        answered = await edge.total("edge_requests_total")
        sent = await edge.total("edge_response_bytes_total")
        dead = await kill(edge, "worker")
        lost = 0
        for _ in range(30):
            try:
                reply = await get(edge.port, path)
            except (ConnectionError, asyncio.IncompleteReadError):
                lost += 1  # it was in the dead one's queue
                continue
            assert (reply.status, reply.body) == (200, body)
        await has_successor(edge, "worker", dead)
        assert lost <= 2
        assert len(await edge.pids("worker")) == 2
        assert await edge.total("edge_requests_total") >= answered
        assert await edge.total("edge_response_bytes_total") >= sent
        for _ in range(10):
            assert (await get(edge.port, path)).body == body

    async def test_that_dies_lets_go_of_its_fills(self, origin: Origin, edge: Daemon) -> None:
        """The clients of a dead worker are gone: what they alone wanted is not fetched to its end."""
        path = "/gen/400m/orphan"
        gate = asyncio.Event()
        origin.script(path, [Step(gate=gate, gate_after=2 * MIB, drip_bytes=256 << 10, drip_s=0.001)])
        async with Client(edge.port) as client:
            client.send(path)
            await client.bytes(await client.head(), MIB)
            for pid in await edge.pids("worker"):
                os.kill(pid, signal.SIGKILL)
            while await client.reader.read(MIB):
                pass
            gate.set()
            entry = await origin.ended(origin.requests_for(path)[0])
        assert entry.ending == "left"
        assert entry.body_bytes < 100 * MIB
