"""What is for one client alone goes through: bodies up and down, never gathered, never made up."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadtest.content import Checker, expected, pieces
from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Client, get, send_chunked
from tests.kit.daemon import Daemon, Settings, running
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
STALL_S = 1.0


def settings(url: str) -> Settings:
    fill = f"[fill]\nstall_timeout = {STALL_S}\nfirst_byte_timeout = {STALL_S}\n"
    safe = f'[[sites]]\nname = "safe"\nhosts = ["safe.test"]\nmethods = "safe"\norigins = ["{url}"]\n'
    return Settings([url], workers=1, toml=fill + safe)


async def resident_bytes(edge: Daemon) -> int:
    """The manager's memory, tmpfs not counted."""
    (pid,) = await edge.pids("manager")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()  # noqa: ASYNC240 - no disk behind it
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


class TestUploads:
    @pytest.mark.rfc("9112-6.1", "9112-6.2")
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_ten_mebibytes(self, origin: Origin, edge: Daemon, method: str, framing: str) -> None:
        size = 10 * MIB
        digest = hashlib.sha256(expected("/up", 0, size)).hexdigest()

        async def body() -> AsyncIterator[bytes]:
            for piece in pieces("/up", 0, size):
                yield bytes(piece)

        async with Client(edge.port) as client:
            if framing == "length":
                client.send("/echo", f"Content-Length: {size}", method=method)
                async for piece in body():
                    client.writer.write(piece)
                    await client.writer.drain()
            else:
                client.send("/echo", "Transfer-Encoding: chunked", method=method)
                await send_chunked(client, body())
            reply = await client.body(await client.head())
            assert (reply.status, reply.whole) == (200, True)
            echo = json.loads(reply.body)
            assert (echo["method"], echo["body_bytes"], echo["body_sha256"]) == (method, size, digest)
            # the connection is in step afterwards
            assert (await client.get("/gen/1k/after-upload")).body == expected("/gen/1k/after-upload", 0, 1024)
        sent = origin.requests_for("/echo")[-1]
        assert (sent.header("Content-Length") is not None) == (framing == "length")

    async def test_many_at_once_hold_little_memory(self, origin: Origin, edge: Daemon) -> None:
        size = 20 * MIB
        before = await resident_bytes(edge)
        most = 0

        async def one() -> int:
            async with Client(edge.port) as client:
                client.send("/echo", f"Content-Length: {size}", method="PUT")
                for piece in pieces("/up", 0, size):
                    client.writer.write(piece)
                    await client.writer.drain()
                return int(json.loads((await client.body(await client.head())).body)["body_bytes"])

        uploads = [asyncio.create_task(one()) for _ in range(8)]
        while not all(upload.done() for upload in uploads):
            most = max(most, await resident_bytes(edge))
            await asyncio.sleep(0.02)
        assert [upload.result() for upload in uploads] == [size] * 8
        assert most - before < 60 * MIB

    @pytest.mark.rfc("9112-9.3.2")
    async def test_pipelined_behind_an_upload(self, origin: Origin, edge: Daemon) -> None:
        async with Client(edge.port) as client:
            client.send("/echo", "Content-Length: 5", method="POST")
            client.writer.write(b"hello")
            client.send("/gen/1k/pipelined")
            reply = await client.body(await client.head())
            assert json.loads(reply.body)["body_bytes"] == 5
            reply = await client.body(await client.head())
            assert reply.body == expected("/gen/1k/pipelined", 0, 1024)

    async def test_an_empty_body(self, origin: Origin, edge: Daemon) -> None:
        async with Client(edge.port) as client:
            for lines in (["Content-Length: 0"], []):
                reply = await client.get("/echo", *lines, method="POST")
                assert json.loads(reply.body)["body_bytes"] == 0

    @pytest.mark.rfc("9110-10.1.1")
    async def test_expect_100_continue(self, origin: Origin, edge: Daemon) -> None:
        async with Client(edge.port) as client:
            client.send("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST")
            assert (await client.head()).status == 100
            client.writer.write(b"hello")
            reply = await client.body(await client.head())
            assert json.loads(reply.body)["body_bytes"] == 5

    @pytest.mark.rfc("9112-8")
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_that_breaks_off_is_no_whole_body_to_the_origin(
        self, origin: Origin, edge: Daemon, framing: str
    ) -> None:
        """The origin logs a request when its body is in: this one never is, and its connection ends."""
        before = len(origin.requests_for("/echo"))
        connections = origin.tally.connections
        async with Client(edge.port) as client:
            line = "Content-Length: 100000" if framing == "length" else "Transfer-Encoding: chunked"
            client.send("/echo", line, method="POST")
            client.writer.write(b"x" * 10 if framing == "length" else b"a\r\nxxxxxxxxxx\r\n")
            await client.writer.drain()

            async def arrived() -> bool:
                return origin.tally.connections > connections

            # a connection that is kept may be used, then none is opened: give it the time to be
            try:
                await until(arrived, within_s=0.3)
            except TimeoutError:
                pass
            open_before = origin.tally.open
            client.leave()

        async def ended() -> bool:
            return origin.tally.open < open_before

        await until(ended)
        assert len(origin.requests_for("/echo")) == before

    @pytest.mark.rfc("9112-7.1")
    async def test_that_is_no_body_is_refused(self, origin: Origin, edge: Daemon) -> None:
        before = len(origin.requests_for("/echo"))
        async with Client(edge.port) as client:
            client.send("/echo", "Transfer-Encoding: chunked", method="POST")
            client.writer.write(b"5\r\nhello\r\nnonsense\r\n")
            reply = await client.body(await client.head())
            assert reply.status == 400
            assert await client.ended()
        assert len(origin.requests_for("/echo")) == before

    async def test_an_answer_that_comes_before_the_body_has(self, origin: Origin, edge: Daemon) -> None:
        """The origin refuses a large body without reading it: the client has its word, then the connection ends."""
        refusals: list[asyncio.StreamWriter] = []

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            refusals.append(writer)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n")
            await writer.drain()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        folder = edge.folder / "early"
        folder.mkdir()
        async with server, running(folder, Settings([url], workers=1)) as other:
            for _ in range(3):
                async with Client(other.port) as client:
                    client.send("/up", f"Content-Length: {50 * MIB}", method="POST")
                    client.writer.write(bytes(MIB))
                    reply = await client.body(await client.head())
                    assert (reply.status, reply.body) == (413, b"no\n")
                    assert await client.ended()
            # nothing is left behind, of the origin's connections neither

            async def gone() -> bool:
                return len(refusals) == 3 and all(writer.transport.is_closing() for writer in refusals)

            await until(gone)

    async def test_an_origin_that_never_answers_an_upload(self, origin: Origin, edge: Daemon) -> None:
        never = asyncio.Event()
        origin.script("/gen/1k/never", [Step(gate=never)])
        async with Client(edge.port) as client:
            client.send("/gen/1k/never", "Content-Length: 5", method="POST")
            client.writer.write(b"hello")
            reply = await client.body(await client.head())
            assert (reply.status, reply.body) == (504, b"504 origin_timeout\n")
        assert len(origin.requests_for("/gen/1k/never")) == 1
        never.set()

    @pytest.mark.rfc("9110-9.2.2")
    async def test_an_unsafe_request_goes_out_once(self, origin: Origin, edge: Daemon) -> None:
        origin.script("/gen/1k/unsafe", [Step(raw=b"")])
        for method, lines in (("POST", ["Content-Length: 0"]), ("DELETE", []), ("PUT", ["Content-Length: 0"])):
            before = len(origin.requests_for("/gen/1k/unsafe"))
            reply = await get(edge.port, "/gen/1k/unsafe", *lines, method=method)
            assert reply.status == 502
            assert len(origin.requests_for("/gen/1k/unsafe")) == before + 1


@pytest.mark.rfc("9110-9.3.2")
class TestHead:
    async def test_cold_and_hot(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/head"
        async with Client(edge.port) as client:
            cold = await client.get(path, method="HEAD")
            assert (cold.status, cold.field("Content-Length")) == (200, str(100 << 10))
            assert origin.requests_for(path)[0].method == "HEAD"
            assert (await client.get(path)).body == expected(path, 0, 100 << 10)
            asked = len(origin.requests_for(path))
            hot = await client.get(path, method="HEAD")
            assert (hot.status, hot.field("Content-Length")) == (200, str(100 << 10))
            assert hot.field("ETag") == cold.field("ETag")
            hot = await client.get(path, f"If-None-Match: {cold.field('ETag')}", method="HEAD")
            assert hot.status == 304
            assert (await client.get(path)).whole
        assert len(origin.requests_for(path)) == asked

    async def test_of_what_is_for_one(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/head-private"
        origin.script(path, [Step(headers={"Cache-Control": "private"})])
        async with Client(edge.port) as client:
            for method in ("HEAD", "GET", "HEAD"):
                reply = await client.get(path, method=method)
                assert (reply.status, reply.field("Content-Length")) == (200, str(100 << 10))
                assert reply.whole


class TestOneForOne:
    async def test_a_slow_client_holds_little_memory(self, origin: Origin, edge: Daemon) -> None:
        """150 MiB that are not cached, to a client that does not read: the origin waits, and nobody holds them."""
        path = "/gen/150m/slow-client"
        origin.script(path, [Step(headers={"Cache-Control": "no-store"})])
        before = await resident_bytes(edge)
        async with Client(edge.port) as client:
            client.send(path)
            reply = await client.head()
            await origin.seen(path)
            entry = origin.requests_for(path)[0]
            sent = -1
            while sent != entry.body_bytes:  # until the origin gets no further
                sent = entry.body_bytes
                await asyncio.sleep(0.25)
            assert entry.body_bytes < 100 * MIB  # what the kernels of three hops hold for it
            assert await resident_bytes(edge) - before < 20 * MIB
            # it is the client's own affair how slow it is: the origin's silence is not counted meanwhile
            await asyncio.sleep(1.5 * STALL_S)
            checker = Checker(path)
            while checker.position < 150 * MIB:
                assert checker.feed(await client.reader.read(MIB))
        assert reply.status == 200

    @pytest.mark.rfc("9112-7.1", "9112-8")
    async def test_chunked_and_its_break(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/1000k/private-chunked"
        private: dict[str, str | None] = {"Cache-Control": "private"}
        origin.script(
            path,
            [
                Step(headers=private, framing="chunked"),
                Step(headers=private, framing="chunked", cut_after=500_000),
                Step(headers=private, cut_after=500_000),
                Step(headers=private, stall_after=500_000),
            ],
        )
        body = expected(path, 0, 1000 << 10)
        whole = await get(edge.port, path)
        assert (whole.whole, whole.field("Transfer-Encoding")) == (True, "chunked")
        assert whole.body == body
        for _ in range(3):
            cut = await get(edge.port, path)
            assert (cut.status, cut.whole) == (200, False)
            assert cut.body == body[: len(cut.body)]

    @pytest.mark.rfc("9110-13.1", "9110-14.2")
    async def test_ranges_and_conditions_are_the_origins(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/1000k/private-range"
        origin.script(path, [Step(headers={"Cache-Control": "private"})])
        async with Client(edge.port) as client:
            await client.get(path)
            reply = await client.get(path, "Range: bytes=1000-1999")
            assert (reply.status, reply.body) == (206, expected(path, 1000, 2000))
            reply = await client.get(path, f"If-None-Match: {reply.field('ETag')}")
            assert (reply.status, reply.body) == (304, b"")
            reply = await client.get(path, "Range: bytes=9999999-")
            assert reply.status == 416
            assert (await client.get(path)).body == expected(path, 0, 1000 << 10)


@pytest.mark.rfc("9110-15.5.6")
async def test_only_safe_methods(origin: Origin, edge: Daemon) -> None:
    before = origin.requests
    hidden = b"GET /gen/1k/smuggled HTTP/1.1\r\nHost: safe.test\r\n\r\n"
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        async with Client(edge.port) as client:
            client.send("/gen/1k/safe", f"Content-Length: {len(hidden)}", method=method, host="safe.test")
            client.writer.write(hidden)
            reply = await client.body(await client.head())
            assert reply.status == 405
            assert reply.field("Allow") == "GET, HEAD, OPTIONS"
            assert reply.field("Cache-Control") == "no-store"
            assert await client.ended()
    assert origin.requests == before
    reply = await get(edge.port, "/gen/1k/safe", host="safe.test")
    assert reply.body == expected("/gen/1k/safe", 0, 1024)
