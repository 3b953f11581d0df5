"""An origin whose answer is none, or an error: short errors, not to be stored, counted and logged by their reason."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.content import expected
from loadtest.faults import GARBAGE, Step
from loadtest.origin import Origin
from tests.kit.client import Client, get
from tests.kit.daemon import Daemon, Settings
from tests.kit.errors import errors, is_not_stored, was_refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
STALL_S = 0.5


def settings(url: str) -> Settings:
    return Settings(
        [url],
        workers=2,
        ram="512MiB",
        toml=f"[fill]\nattempts = 2\nfirst_byte_timeout = {STALL_S}\nstall_timeout = {STALL_S}\nbypass_memory = 5\n",
    )


class TestAHeadThatIsNone:
    @pytest.mark.rfc("9110-15.6.5")
    async def test_silence(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/silence"
        never = asyncio.Event()
        origin.script(path, [Step(gate=never)])
        counted = await errors(edge, "origin_timeout")
        reply = await get(edge.port, path)
        assert await was_refused(edge, counted, path, reply, 504)
        never.set()
        assert await is_not_stored(origin, edge, path)

    @pytest.mark.rfc("9110-15.6.3")
    @pytest.mark.parametrize(
        ("name", "step", "reason"),
        [
            ("garbage", Step(raw=GARBAGE), "origin_protocol"),
            ("nothing", Step(raw=b""), "origin_reset"),
            ("half-a-head", Step(raw=b"HTTP/1.1 200 OK\r\nContent-"), "origin_reset"),
            ("no-status", Step(raw=b"HTTP/1.1 OK\r\n\r\n"), "origin_protocol"),
            ("large-field", Step(padding_bytes=70_000), "origin_protocol"),
            ("many-fields", Step(add=tuple((f"X-{n}", "y" * 3000) for n in range(60))), "origin_protocol"),
            ("two-lengths", Step(add=(("Content-Length", "5"),)), "origin_protocol"),
            ("304", Step(status=304), "origin_protocol"),
            ("206", Step(status=206, headers={"Content-Range": f"bytes 0-{(100 << 10) - 1}/{100 << 10}"}), None),
            ("206-without-range", Step(status=206), "origin_protocol"),
        ],
    )
    async def test_refused(self, origin: Origin, edge: Daemon, name: str, step: Step, reason: str | None) -> None:
        path = f"/gen/100k/head-{name}"
        origin.script(path, [step])
        counted = await errors(edge, reason or "origin_protocol")
        async with Client(edge.port) as client:
            reply = await client.get(path)
            assert await was_refused(edge, counted, path, reply, 502)
            # the connection is in step afterwards
            origin.script(path, [Step()])
            reply = await client.get(path)
            assert (reply.status, reply.body) == (200, expected(path, 0, 100 << 10))

    @pytest.mark.rfc("9110-14.4")
    @pytest.mark.parametrize(
        ("name", "headers"),
        [
            ("another", {"Content-Range": f"bytes 0-{MIB - 1}/{4 * MIB}"}),
            ("none", {"Content-Range": None}),
            ("nonsense", {"Content-Range": "bytes what"}),
            ("longer", {"Content-Range": f"bytes {MIB}-{3 * MIB - 1}/{4 * MIB}"}),
            ("shorter", {"Content-Range": f"bytes {MIB}-{MIB + 99}/{4 * MIB}"}),
        ],
    )
    async def test_a_wrong_content_range(
        self, origin: Origin, edge: Daemon, name: str, headers: dict[str, str | None]
    ) -> None:
        path = f"/gen/4m/wrong-{name}"
        origin.script(path, [Step(status=206, body=bytes(MIB), headers=headers)])
        counted = await errors(edge, "origin_protocol")
        reply = await get(edge.port, path, f"Range: bytes={MIB}-{2 * MIB - 1}")
        assert await was_refused(edge, counted, path, reply, 502)
        origin.script(path, [Step()])
        assert (await get(edge.port, path)).body == expected(path, 0, 4 * MIB)

    @pytest.mark.rfc("9110-14.4")
    async def test_a_wrong_content_range_on_a_resumption(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2000k/wrong-resumption"
        wrong = Step(status=206, body=bytes(2048000 - 700_000), headers={"Content-Range": "bytes 0-1347999/2048000"})
        origin.script(path, [Step(reset_after=700_000), wrong, Step()])
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.body == expected(path, 0, 2000 << 10)

    async def test_the_client_may_go_on_with_its_connection(self, origin: Origin, edge: Daemon) -> None:
        origin.script("/gen/100k/bad", [Step(raw=GARBAGE)])
        async with Client(edge.port) as client:
            for _ in range(2):
                assert (await client.get("/gen/100k/bad")).status == 502
                reply = await client.get("/gen/100k/good")
                assert reply.body == expected("/gen/100k/good", 0, 100 << 10)


class TestAnErrorOfTheOrigin:
    @pytest.mark.rfc("9111-3")
    async def test_is_passed_on_and_not_kept(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/503"
        origin.script(path, [Step(status=503, headers={"Retry-After": "7"}, body=b"busy")])
        reply = await get(edge.port, path)
        assert (reply.status, reply.body, reply.field("Retry-After")) == (503, b"busy", "7")
        assert await is_not_stored(origin, edge, path)

    async def test_does_not_bring_the_herd_with_it(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/herd-503"
        gate = asyncio.Event()
        origin.script(path, [Step(status=503, body=b"busy", gate=gate)])
        before = await edge.total("edge_fill_collapsed_requests_total")
        clients = [asyncio.create_task(get(edge.port, path)) for _ in range(50)]
        await edge.eventually("edge_fill_collapsed_requests_total", before + 49)
        gate.set()
        assert [reply.status for reply in await asyncio.gather(*clients)] == [503] * 50
        assert len(origin.requests_for(path)) == 1

    async def test_a_slow_error_page_holds_nobody_up(self, origin: Origin, edge: Daemon) -> None:
        """1. A client is being given an error page that does not come to its end.
        2. Another asks for the same object. It is not kept waiting for the first.
        """
        path = "/gen/100k/slow-error"
        gate = asyncio.Event()
        origin.script(path, [Step(status=503, body=b"x" * 1000, gate=gate, gate_after=10), Step()])
        async with Client(edge.port) as one:
            one.send(path)
            first = await one.head()
            assert first.status == 503
            second = await get(edge.port, path)
            assert (second.status, second.body) == (200, expected(path, 0, 100 << 10))
            gate.set()
            assert (await one.body(first)).body == b"x" * 1000

    @pytest.mark.rfc("9111-3")
    @pytest.mark.parametrize("status", [404, 410, 403, 302, 204])
    async def test_other_statuses_are_passed_on(self, origin: Origin, edge: Daemon, status: int) -> None:
        path = f"/gen/100k/status-{status}"
        body = b"" if status == 204 else b"so it is"
        none = {"Cache-Control": None, "ETag": None, "Last-Modified": None, "Location": "/elsewhere"}
        origin.script(path, [Step(status=status, body=body, headers=none)])
        async with Client(edge.port) as client:
            for _ in range(2):
                reply = await client.get(path)
                assert (reply.status, bytes(reply.body), reply.whole) == (status, body, True)
                assert reply.field("Location") == "/elsewhere"
