"""Parts of large objects: only the slices that are needed come from the origin, once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from loadtest.answer import Request
from loadtest.content import Checker, etag, expected
from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Client, get
from tests.kit.daemon import Daemon, Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
GIB = 1 << 30


def settings(url: str) -> Settings:
    return Settings([url], workers=2, ram="512MiB", ssd="16GiB")


def fetched(origin: Origin, path: str) -> int:
    """Bytes of bodies the origin has sent for a path."""
    return sum(entry.body_bytes for entry in origin.requests_for(path))


@dataclass(frozen=True)
class Case:
    name: str
    field: str
    start: int
    end: int

    @property
    def slices(self) -> int:
        return -(-self.end // MIB) - self.start // MIB


CASES = [
    Case("first-byte", "bytes=0-0", 0, 1),
    Case("start", "bytes=0-1999999", 0, 2_000_000),
    Case("middle", f"bytes={GIB // 2 - 7}-{GIB // 2 + 6}", GIB // 2 - 7, GIB // 2 + 7),
    Case("aligned", f"bytes={5 * MIB}-{7 * MIB - 1}", 5 * MIB, 7 * MIB),
    Case("open-ended", f"bytes={GIB - 1_500_000}-", GIB - 1_500_000, GIB),
    Case("beyond-the-end", f"bytes={GIB - 10}-{GIB + 10}", GIB - 10, GIB),
    Case("suffix", "bytes=-1500000", GIB - 1_500_000, GIB),
    Case("last-byte", "bytes=-1", GIB - 1, GIB),
]


@pytest.mark.rfc("9110-14.2", "9111-3.3")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_cold_range_costs_its_slices(origin: Origin, edge: Daemon, case: Case) -> None:
    path = f"/gen/1g/cold-{case.name}"
    reply = await get(edge.port, path, f"Range: {case.field}")
    assert (reply.status, reply.whole) == (206, True)
    assert reply.field("Content-Range") == f"bytes {case.start}-{case.end - 1}/{GIB}"
    assert reply.body == expected(path, case.start, case.end)
    # a suffix of an object of unknown size is asked for with a slice to spare
    spare = MIB if case.field.startswith("bytes=-") else 0
    assert fetched(origin, path) <= case.slices * MIB + spare
    asked = len(origin.requests_for(path))

    again = await get(edge.port, path, f"Range: {case.field}")
    assert again.body == reply.body
    assert len(origin.requests_for(path)) == asked


@pytest.mark.rfc("9111-3.3", "9111-3.4")
async def test_a_second_range_fetches_just_the_rest(origin: Origin, edge: Daemon) -> None:
    path = "/gen/1g/second"
    await get(edge.port, path, f"Range: bytes={10 * MIB}-{12 * MIB - 1}")
    assert fetched(origin, path) == 2 * MIB
    # one slice before, the two that are here, two behind
    reply = await get(edge.port, path, f"Range: bytes={9 * MIB + 3}-{14 * MIB - 1}")
    assert reply.body == expected(path, 9 * MIB + 3, 14 * MIB)
    assert fetched(origin, path) == 5 * MIB
    assert sorted(entry.range or "" for entry in origin.requests_for(path)[1:]) == [
        f"bytes={12 * MIB}-{14 * MIB - 1}",
        f"bytes={9 * MIB}-{10 * MIB - 1}",
    ]
    assert all(entry.header("If-Range") == etag(path) for entry in origin.requests_for(path)[1:])


@pytest.mark.rfc("9111-3.4")
async def test_a_whole_download_completes_what_ranges_began(origin: Origin, edge: Daemon) -> None:
    path = "/gen/40m/complete"
    size = 40 * MIB
    for start in (3 * MIB, 20 * MIB, 39 * MIB):
        await get(edge.port, path, f"Range: bytes={start}-{start + 9}")
    assert fetched(origin, path) == 3 * MIB
    reply = await get(edge.port, path)
    assert reply.whole
    assert reply.body == expected(path, 0, size)
    assert fetched(origin, path) == size
    hit = await get(edge.port, path)
    assert "hit" in (hit.field("Cache-Status") or "")
    assert hit.body == reply.body
    assert fetched(origin, path) == size


async def test_clients_far_apart_are_fetched_for_at_the_same_time(origin: Origin, edge: Daemon) -> None:
    """1. A client begins at 0; the origin stops behind its first MiB.
    2. A second client wants bytes far ahead of that. It has them while the first fetch stands still.
    """
    path = "/gen/200m/apart"
    gate = asyncio.Event()
    origin.on(path, lambda request: Step() if request.header("Range") else Step(gate=gate, gate_after=MIB))
    async with Client(edge.port) as one:
        one.send(path)
        first = await one.head()
        await one.bytes(first, MIB)
        second = await get(edge.port, path, f"Range: bytes={150 * MIB}-{151 * MIB - 1}")
        assert not gate.is_set()
        assert second.body == expected(path, 150 * MIB, 151 * MIB)
        assert first.body == expected(path, 0, MIB)
        gate.set()
    assert len(origin.requests_for(path)) == 2


async def test_a_whole_download_over_a_far_fetch_has_every_byte_once(origin: Origin, edge: Daemon) -> None:
    """The first fetch ends where the second began, whose part is not fetched twice."""
    path = "/gen/48m/over"
    size = 48 * MIB
    gate = asyncio.Event()
    # in small pieces, so that the origin sees when it is cut short
    slow = Step(gate=gate, gate_after=MIB, drip_bytes=256 << 10, drip_s=0.001)
    origin.on(path, lambda request: Step() if request.header("Range") else slow)
    checker = Checker(path)
    async with Client(edge.port) as one:
        one.send(path)
        first = await one.head()
        await one.bytes(first, MIB)
        second = await get(edge.port, path, f"Range: bytes={30 * MIB}-{31 * MIB - 1}")
        assert second.body == expected(path, 30 * MIB, 31 * MIB)
        gate.set()
        await one.body(first)
    assert first.whole
    assert checker.feed(first.body)
    assert checker.position == size
    # what was in the air when the first fetch was cut short may have been sent for nothing: no more than buffers hold
    assert fetched(origin, path) <= size + 16 * MIB


async def test_many_ranges_at_once(origin: Origin, edge: Daemon) -> None:
    path = "/gen/64m/many"
    spans = [((index * 7919 * 4099) % (60 * MIB), 50_000 + index * 31_337) for index in range(60)]

    async def one(start: int, length: int) -> None:
        reply = await get(edge.port, path, f"Range: bytes={start}-{start + length - 1}")
        assert (reply.status, reply.whole) == (206, True)
        assert reply.body == expected(path, start, start + length)

    await asyncio.gather(*(one(start, length) for start, length in spans))
    assert fetched(origin, path) <= 66 * MIB
    whole = await get(edge.port, path)
    assert whole.whole
    assert whole.body == expected(path, 0, 64 * MIB)


class TestWhatIsAnswered:
    """Conditions and ranges mean the same on a miss and on a hit, and the connection is in step afterwards."""

    @pytest.mark.rfc("9110-15.5.17")
    async def test_a_range_behind_the_end(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2m/behind"
        async with Client(edge.port) as client:
            for _ in range(2):
                reply = await client.get(path, f"Range: bytes={2 * MIB}-")
                assert (reply.status, reply.field("Content-Range")) == (416, f"bytes */{2 * MIB}")
                assert reply.whole
            assert (await client.get(path)).body == expected(path, 0, 2 * MIB)
            reply = await client.get(path, f"Range: bytes={9 * MIB}-")
            assert reply.status == 416
        assert fetched(origin, path) <= 4 * MIB

    @pytest.mark.rfc("9110-15.5.17")
    async def test_a_range_behind_the_end_does_not_spoil_the_object_for_others(
        self, origin: Origin, edge: Daemon
    ) -> None:
        """Were the 416 taken for the object's answer, or the object for an uncacheable one, others would suffer."""
        path = "/gen/2m/spoilt"
        origin.on(path, lambda _: Step(add=(("X-Always", "1"),)))
        assert (await get(edge.port, path, f"Range: bytes={3 * MIB}-{4 * MIB}")).status == 416
        assert (await get(edge.port, path)).body == expected(path, 0, 2 * MIB)
        asked = len(origin.requests_for(path))
        assert (await get(edge.port, path)).body == expected(path, 0, 2 * MIB)
        assert len(origin.requests_for(path)) == asked

    @pytest.mark.rfc("9110-15.5.17", "9111-3")
    async def test_a_416_that_may_be_cached_is_not_the_object(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/2m/cacheable-416"

        def answer(request: Request) -> Step:
            asked = request.header("Range")
            if asked == f"bytes={3 * MIB}-{4 * MIB - 1}":
                return Step(
                    status=416,
                    body=b"no",
                    headers={"Cache-Control": "max-age=600", "Content-Range": f"bytes */{2 * MIB}"},
                )
            return Step()

        origin.on(path, answer)
        assert (await get(edge.port, path, f"Range: bytes={3 * MIB}-{4 * MIB - 1}")).status == 416
        reply = await get(edge.port, path)
        assert (reply.status, reply.body) == (200, expected(path, 0, 2 * MIB))

    async def test_an_empty_object(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/0/empty"
        async with Client(edge.port) as client:
            assert (await client.get(path, "Range: bytes=0-9")).status == 416
            for _ in range(2):
                reply = await client.get(path)
                assert (reply.status, reply.body, reply.field("Content-Length")) == (200, b"", "0")
            assert (await client.get(path, "Range: bytes=0-9")).status == 416
            assert (await client.get(path, "Range: bytes=-5")).status == 200

    @pytest.mark.rfc("9110-13.2.2", "9111-4.3.2")
    @pytest.mark.parametrize("warm", [False, True], ids=["miss", "hit"])
    async def test_conditions(self, origin: Origin, edge: Daemon, warm: bool) -> None:
        path = f"/gen/100k/conditions-{warm}"
        tag, body = etag(path), expected(path, 0, 100 << 10)
        if warm:
            await get(edge.port, path)
        async with Client(edge.port) as client:
            reply = await client.get(path, f"If-None-Match: {tag}")
            assert (reply.status, reply.body) == (304, b"")
            assert reply.field("ETag") == tag
            reply = await client.get(path, 'If-None-Match: "other"')
            assert (reply.status, reply.body) == (200, body)
            reply = await client.get(path, "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT")
            assert reply.status == 304
            assert (await client.get(path)).body == body
        assert len(origin.requests_for(path)) == 1

    @pytest.mark.rfc("9110-13.1.5")
    @pytest.mark.parametrize("warm", [False, True], ids=["miss", "hit"])
    async def test_if_range(self, origin: Origin, edge: Daemon, warm: bool) -> None:
        path = f"/gen/3m/if-range-{warm}"
        tag, body = etag(path), expected(path, 0, 3 * MIB)
        if warm:
            await get(edge.port, path)
        async with Client(edge.port) as client:
            reply = await client.get(path, f"Range: bytes={2 * MIB}-{2 * MIB + 9}", f"If-Range: {tag}")
            assert (reply.status, reply.body) == (206, body[2 * MIB : 2 * MIB + 10])
            reply = await client.get(path, "Range: bytes=7-16", 'If-Range: "other"')
            assert (reply.status, reply.whole) == (200, True)
            assert reply.body == body
            reply = await client.get(path, "Range: bytes=-9", f"If-Range: {tag}")
            assert (reply.status, reply.body) == (206, body[-9:])

    @pytest.mark.rfc("9110-13.1.5", "9111-3.3")
    async def test_if_range_on_an_object_that_is_here_in_part(self, origin: Origin, edge: Daemon) -> None:
        """What is here is not all that is asked for: the rest is fetched, holes are not sent."""
        path = "/gen/50m/partial-if-range"
        await get(edge.port, path, "Range: bytes=0-9")
        assert fetched(origin, path) == MIB
        start = 30 * MIB + 17
        for _ in range(2):
            reply = await get(edge.port, path, f"Range: bytes={start}-{start + 999}", f"If-Range: {etag(path)}")
            assert (reply.status, reply.whole) == (206, True)
            assert reply.body == expected(path, start, start + 1000)
        reply = await get(edge.port, path, "Range: bytes=5-9", 'If-Range: "other"')
        assert (reply.status, reply.whole) == (200, True)
        assert reply.body == expected(path, 0, 50 * MIB)

    @pytest.mark.rfc("9110-15.3.7.2", "9110-14.6")
    async def test_several_ranges(self, origin: Origin, edge: Daemon) -> None:
        """With all of it, or with a part for each: never with other bytes."""
        path = "/gen/100k/several"
        async with Client(edge.port) as client:
            for _ in range(3):
                reply = await client.get(path, "Range: bytes=0-9,20-29")
                assert reply.whole
                if reply.status == 200:
                    assert reply.body == expected(path, 0, 100 << 10)
                else:
                    assert reply.status == 206
                    assert (reply.field("Content-Type") or "").startswith("multipart/byteranges; boundary=")
                    assert b"\r\n\r\n" + expected(path, 0, 10) + b"\r\n" in reply.body
                    assert b"\r\n\r\n" + expected(path, 20, 30) + b"\r\n" in reply.body
        assert len(origin.requests_for(path)) == 1

    @pytest.mark.rfc("9110-13.1.2")
    async def test_a_condition_on_a_body_of_unknown_length(self, origin: Origin, edge: Daemon) -> None:
        """A 304 has no body, not even an empty chunked one: the next answer on the connection is in its place."""
        path = "/gen/64k/unknown-304"
        gate = asyncio.Event()
        origin.script(path, [Step(framing="chunked", gate=gate, gate_after=1000)])
        async with Client(edge.port) as client:
            client.send(path, f"If-None-Match: {etag(path)}")
            reply = await client.head()
            assert reply.status == 304
            gate.set()
            reply = await client.get(path)
            assert (reply.status, reply.body) == (200, expected(path, 0, 64 << 10))

    @pytest.mark.rfc("9112-6.3", "9112-9.3")
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_http_1_0(self, origin: Origin, edge: Daemon, framing: str) -> None:
        path = f"/gen/300k/old-{framing}"
        body = expected(path, 0, 300 << 10)
        origin.script(path, [Step(framing=framing)])  # type: ignore[arg-type]
        for lines in ([], ["Connection: keep-alive"]):
            async with Client(edge.port) as client:
                for _ in range(2 if lines else 1):
                    reply = await client.get(path, *lines, version="1.0")
                    assert (reply.status, reply.whole) == (200, True)
                    assert reply.field("Transfer-Encoding") is None
                    assert reply.body == body
                reply = await client.get(path, "Range: bytes=9-", version="1.0") if lines else reply
                assert reply.body == (body[9:] if lines else body)
                assert await client.ended()
        assert len(origin.requests_for(path)) == 1

    @pytest.mark.rfc("9112-6.3")
    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    async def test_http_1_0_on_a_miss(self, origin: Origin, edge: Daemon, framing: str) -> None:
        path = f"/gen/300k/old-cold-{framing}"
        origin.script(path, [Step(framing=framing)])  # type: ignore[arg-type]
        reply = await get(edge.port, path, version="1.0")
        assert (reply.status, reply.whole) == (200, True)
        assert reply.field("Transfer-Encoding") is None
        assert reply.body == expected(path, 0, 300 << 10)
