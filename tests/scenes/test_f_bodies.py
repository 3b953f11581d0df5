"""Bodies that break, change or have no length: a client gets a whole right body or is told; nothing wrong is kept."""

from __future__ import annotations

import asyncio
import fcntl
import termios
from functools import partial

import pytest

from loadtest.answer import Request
from loadtest.content import etag, expected
from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Client, get
from tests.kit.daemon import Daemon, Settings
from tests.kit.errors import errors, is_not_stored, was_refused
from tests.kit.until import landed, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
STALL_S = 0.5
NO_VALIDATORS: dict[str, str | None] = {"ETag": None, "Last-Modified": None}
RESUMES = "edge_fill_resumes_total"


def settings(url: str) -> Settings:
    return Settings(
        [url],
        workers=2,
        ram="512MiB",
        toml=f"[fill]\nattempts = 2\nfirst_byte_timeout = {STALL_S}\nstall_timeout = {STALL_S}\nbypass_memory = 5\n",
    )


async def is_across(origin: Origin) -> bool:
    """Whether the edge's kernel has all that the origin has written."""
    sockets = [connection.transport.get_extra_info("socket") for connection in origin._connections]
    waiting = [fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)) for sock in sockets]
    return not any(int.from_bytes(count, "little") for count in waiting)


@pytest.mark.rfc("9112-8")
class TestABodyThatBreaks:
    @pytest.mark.rfc("9110-13.1.5")
    @pytest.mark.parametrize("fault", ["reset_after", "cut_after"])
    async def test_is_resumed_where_it_broke(self, origin: Origin, edge: Daemon, fault: str) -> None:
        path, at = f"/gen/3000k/resumed-{fault}", MIB + 12_345
        origin.script(path, [Step(**{fault: at}), Step()])  # type: ignore[arg-type]
        before = await edge.total(RESUMES)
        reply = await get(edge.port, path)
        assert (reply.status, reply.whole) == (200, True)
        assert reply.body == expected(path, 0, 3000 << 10)
        assert await edge.total(RESUMES) == before + 1
        first, second = origin.requests_for(path)
        assert first.range is None
        assert second.range == f"bytes={at}-{(3000 << 10) - 1}"
        assert second.header("If-Range") == etag(path)
        assert (await get(edge.port, path)).body == reply.body
        assert len(origin.requests_for(path)) == 2

    async def test_is_resumed_for_a_range_too(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/8000k/range-resumed"
        origin.script(path, [Step(reset_after=700_000), Step()])
        reply = await get(edge.port, path, f"Range: bytes={2 * MIB}-{4 * MIB - 1}")
        assert (reply.status, reply.whole) == (206, True)
        assert reply.body == expected(path, 2 * MIB, 4 * MIB)
        assert [entry.range for entry in origin.requests_for(path)] == [
            f"bytes={2 * MIB}-{4 * MIB - 1}",
            f"bytes={2 * MIB + 700_000}-{4 * MIB - 1}",
        ]

    async def test_that_breaks_again_and_again_is_whole_in_the_end(self, origin: Origin, edge: Daemon) -> None:
        """Progress earns new patience: only tries without a byte count."""
        path = "/gen/3000k/again"
        origin.script(path, [*[Step(reset_after=400_000) for _ in range(7)], Step()])
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.body == expected(path, 0, 3000 << 10)

    async def test_is_resumed_by_an_origin_without_ranges(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2000k/no-ranges"
        origin.script(path, [Step(reset_after=700_000, ranges=False), Step(ranges=False)])
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.body == expected(path, 0, 2000 << 10)

    async def test_without_validators_is_told_to_the_client(self, origin: Origin, edge: Daemon) -> None:
        """Nothing says that a second answer's bytes would belong to the first's."""
        path = "/gen/2000k/no-validators"
        origin.script(path, [Step(reset_after=700_000, headers=NO_VALIDATORS), Step(headers=NO_VALIDATORS)])
        counted = await errors(edge, "origin_reset")
        reply = await get(edge.port, path)
        assert reply.status == 200
        assert not reply.whole
        assert reply.body == expected(path, 0, len(reply.body))
        assert await counted.counted()
        assert await is_not_stored(origin, edge, path)

    @pytest.mark.parametrize("fault", ["reset_after", "cut_after"])
    async def test_of_unknown_length_is_told_to_the_client(self, origin: Origin, edge: Daemon, fault: str) -> None:
        path = f"/gen/2000k/chunked-{fault}"
        origin.script(path, [Step(framing="chunked", **{fault: 700_000})])  # type: ignore[arg-type]
        reply = await get(edge.port, path)
        assert reply.status == 200
        assert reply.field("Transfer-Encoding") == "chunked"
        assert not reply.whole
        assert reply.body == expected(path, 0, len(reply.body))
        assert await is_not_stored(origin, edge, path)

    async def test_of_unknown_length_is_an_error_to_an_old_client(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2000k/chunked-old"
        origin.script(path, [Step(framing="chunked", reset_after=700_000)])
        counted = await errors(edge, "origin_reset")
        reply = await get(edge.port, path, version="1.0")
        assert await was_refused(edge, counted, path, reply, 502)

    async def test_that_never_goes_on_is_given_up(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2000k/for-good"
        origin.script(path, [Step(reset_after=700_000), Step(reset_after=0)])
        counted = await errors(edge, "origin_reset")
        reply = await get(edge.port, path)
        assert not reply.whole
        assert reply.body == expected(path, 0, len(reply.body))
        assert await counted.counted()
        assert len(origin.requests_for(path)) < 15

    async def test_shorter_than_it_says(self, origin: Origin, edge: Daemon) -> None:
        """Content-Length larger than what comes is a break like any other."""
        path = "/gen/2000k/short"
        origin.script(path, [Step(cut_after=1_000_000), Step()])
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.body == expected(path, 0, 2000 << 10)

    async def test_that_stalls_is_resumed(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2000k/stall"
        origin.script(path, [Step(stall_after=700_000), Step()])
        counted = await errors(edge, "origin_stalled")
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.body == expected(path, 0, 2000 << 10)
        assert await counted.counted()

    async def test_that_stalls_for_good_is_cut(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2000k/stall-for-good"
        origin.script(path, [Step(stall_after=700_000, headers=NO_VALIDATORS)])
        began = asyncio.get_running_loop().time()
        reply = await get(edge.port, path)
        assert not reply.whole
        assert reply.body == expected(path, 0, 700_000)
        assert asyncio.get_running_loop().time() - began < 10 * STALL_S
        assert await is_not_stored(origin, edge, path)

    @pytest.mark.rfc("9112-6.3")
    async def test_longer_than_it_says(self, origin: Origin, edge: Daemon) -> None:
        """What comes behind the body's end belongs to nothing, and is never taken for another answer."""
        path, other = "/gen/100k/surplus", "/gen/100k/behind-surplus"
        evil = b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=99\r\nETag: "e"\r\n\r\nEVIL'
        origin.script(path, [Step(surplus=evil)])
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.body == expected(path, 0, 100 << 10)
        await until(partial(is_across, origin))
        await landed(edge)  # its answer comes from the loop that reads the origin's connections
        assert (await get(edge.port, path)).body == reply.body
        for name in ("-one", "-two", "-three"):
            assert (await get(edge.port, other + name)).body == expected(other + name, 0, 100 << 10)


@pytest.mark.rfc("9111-3.4", "9110-13.1.5")
class TestAnObjectThatChanges:
    async def test_between_the_break_and_the_resumption(self, origin: Origin, edge: Daemon) -> None:
        """The client has the old beginning: it is cut. Nobody ever has the old beginning with the new end."""
        path = "/gen/3000k/flip"
        origin.script(path, [Step(reset_after=1_500_000), Step(version=1)])
        counted = await errors(edge, "origin_changed")
        reply = await get(edge.port, path)
        assert not reply.whole
        assert reply.body == expected(path, 0, len(reply.body))
        assert await counted.counted()
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.field("ETag") == etag(path, 1)
        assert reply.body == expected(path, 0, 3000 << 10, version=1)

    async def test_between_one_range_and_the_next(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/8000k/flip-ranges"
        origin.script(path, [Step(), Step(version=1)])
        one = await get(edge.port, path, "Range: bytes=0-9")
        assert one.body == expected(path, 0, 10)
        two = await get(edge.port, path, f"Range: bytes={3 * MIB}-{3 * MIB + 9}")
        assert (two.status, two.whole, two.field("ETag")) == (206, True, etag(path, 1))
        assert two.body == expected(path, 3 * MIB, 3 * MIB + 10, version=1)
        whole = await get(edge.port, path)
        assert whole.whole
        assert whole.field("ETag") == etag(path, 1)
        assert whole.body == expected(path, 0, 8000 << 10, version=1)

    async def test_into_something_uncacheable(self, origin: Origin, edge: Daemon) -> None:
        """A client in the middle of a body is never sent another answer's head as its bytes."""
        path = "/gen/3000k/gone"
        origin.script(
            path, [Step(reset_after=1_500_000), Step(status=404, body=b"gone", headers={"Cache-Control": "no-store"})]
        )
        reply = await get(edge.port, path)
        assert reply.status == 200
        assert not reply.whole
        assert reply.body == expected(path, 0, len(reply.body))

    async def test_under_a_far_client(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/60000k/flip-far"
        gate = asyncio.Event()

        def answer(request: Request) -> Step:
            return Step(version=1) if request.header("Range") else Step(gate=gate, gate_after=MIB)

        origin.on(path, answer)
        async with Client(edge.port) as one:
            one.send(path)
            first = await one.head()
            await one.bytes(first, MIB)
            second = await get(edge.port, path, f"Range: bytes={40 * MIB}-{40 * MIB + 999}")
            assert (second.status, second.whole, second.field("ETag")) == (206, True, etag(path, 1))
            assert second.body == expected(path, 40 * MIB, 40 * MIB + 1000, version=1)
            gate.set()
            await one.body(first)
        assert not first.whole
        assert first.body == expected(path, 0, len(first.body))

    async def test_a_part_that_cannot_be_had_is_an_error_and_no_broken_answer(
        self, origin: Origin, edge: Daemon
    ) -> None:
        """The object is here in part, the rest is not to be had: no head is sent that nothing follows."""
        path = "/gen/8000k/rest-gone"
        origin.script(path, [Step(), Step(raw=b"")])
        assert (await get(edge.port, path, "Range: bytes=0-9")).status == 206
        counted = await errors(edge, "origin_reset")
        async with Client(edge.port) as client:
            reply = await client.get(path, f"Range: bytes={3 * MIB}-{3 * MIB + 9}")
            assert await was_refused(edge, counted, path, reply, 502)
            # what is here is served all the same
            reply = await client.get(path, "Range: bytes=5-9")
            assert (reply.status, reply.body) == (206, expected(path, 5, 10))


@pytest.mark.rfc("9110-14.2")
class TestAnOriginWithoutRanges:
    async def test_a_range_is_served_from_the_whole(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/3000k/rangeless"
        origin.on(path, lambda _: Step(ranges=False))
        reply = await get(edge.port, path, "Range: bytes=2000000-2000999")
        assert (reply.status, reply.body) == (206, expected(path, 2_000_000, 2_001_000))
        assert (await get(edge.port, path)).body == expected(path, 0, 3000 << 10)
        assert len(origin.requests_for(path)) == 1

    async def test_a_far_client(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/30000k/rangeless-far"
        origin.on(path, lambda _: Step(ranges=False))
        reply = await get(edge.port, path, "Range: bytes=-1000")
        assert (reply.status, reply.body) == (206, expected(path, (30_000 << 10) - 1000, 30_000 << 10))


class TestBodiesWithoutALength:
    @pytest.mark.rfc("9112-7.1", "9111-3.3")
    async def test_chunked_and_whole_is_kept(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2000k/chunked-whole"
        origin.script(path, [Step(framing="chunked")])
        one, two = await get(edge.port, path), await get(edge.port, path)
        assert one.whole
        assert one.body == two.body == expected(path, 0, 2000 << 10)
        assert two.field("Content-Length") == str(2000 << 10)
        assert len(origin.requests_for(path)) == 1

    @pytest.mark.rfc("9112-6.3", "9111-3.3")
    async def test_ended_by_close_is_passed_and_not_kept(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2000k/close"
        origin.script(path, [Step(framing="close")])
        for count in (1, 2):
            reply = await get(edge.port, path)
            assert (reply.status, reply.closes) == (200, True)
            assert reply.body == expected(path, 0, 2000 << 10)
            assert len(origin.requests_for(path)) == count

    async def test_without_end_does_not_fill_the_memory(self, origin: Origin, edge: Daemon) -> None:
        """The largest object of this RAM tier is 64 MiB: what is longer is not kept."""
        path = "/gen/90000k/endless"
        origin.script(path, [Step(framing="chunked")])
        reply = await get(edge.port, path)
        assert reply.body == expected(path, 0, len(reply.body))
        again = await get(edge.port, path)
        assert again.whole
        assert again.body == expected(path, 0, 90_000 << 10)
