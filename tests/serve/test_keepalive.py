"""Connections that live on: many requests, in any pieces, and every way of ending one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Origin, Step, expected
from tests.serve.wire import exchange, get, no_exceptions, parse_all, request, stored, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


WARM = "/gen/1k/warm"
BODY = expected(WARM, 0, 1024)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    async with running(tmp_path_factory.mktemp("edge"), Settings([origin.url], ram="256MiB")) as daemon:
        assert (await get(daemon, WARM)).body == BODY
        await stored(daemon, WARM)
        yield daemon
        no_exceptions(daemon)


@pytest.mark.rfc("9112-9.3")
async def test_many_requests_on_one_connection(edge: Daemon) -> None:
    before = await edge.total("edge_connections_accepted_total")
    async with wire(edge) as client:
        for _ in range(50):
            reply = await client.get(WARM)
            assert (reply.status, reply.body, reply.is_hit) == (200, BODY, True)
    assert await edge.total("edge_connections_accepted_total") == before + 1


@pytest.mark.rfc("9112-9.3.2")
@pytest.mark.parametrize("pieces", [0, 1, 2, 3, 17, 64, 1000, 1449])
async def test_thirty_requests_in_one_write(edge: Daemon, pieces: int) -> None:
    """Hits, misses, HEAD, ranges, conditions and errors of which each has its answer, in order, wherever it is cut."""
    asked: list[tuple[bytes, str, int, bytes]] = []
    etag = (await get(edge, WARM)).field("etag")
    for number in range(5):
        miss = f"/gen/2k/pipe-{pieces}-{number}"
        asked += [
            (request(WARM, "X: 1"), "GET", 200, BODY),
            (request(miss, "X: 1"), "GET", 200, expected(miss, 0, 2048)),
            (request(WARM, "Range: bytes=10-19"), "GET", 206, BODY[10:20]),
            (request(WARM, method="HEAD"), "HEAD", 200, b""),
            (request(WARM, f"If-None-Match: {etag}"), "GET", 304, b""),
            (request("/../up"), "GET", 400, b"400 bad_target\n"),
        ]
    assert len(asked) == 30
    data = b"".join(one[0] for one in asked)
    async with wire(edge) as client:
        sending = asyncio.create_task(client.send(data, pieces=pieces))
        replies = [await client.reply(method) for _, method, _, _ in asked]
        await sending
    assert [(reply.status, reply.body) for reply in replies] == [(status, body) for _, _, status, body in asked]


@pytest.mark.rfc("9112-9.3.2")
async def test_more_requests_than_are_read_ahead(edge: Daemon, origin: Origin) -> None:
    """A client may send 40 MB while its first request waits: most of it is left in its own socket, till it is read."""
    gate = origin.gate("ahead")
    origin.script("/ahead", [Step(body=b"first", gate=gate)])
    one = request(WARM, *[f"X-{number}: {'x' * 1000}" for number in range(20)])
    count = (40 << 20) // len(one)
    (worker,) = await edge.pids("worker")
    async with wire(edge) as client:
        await client.send(request("/ahead"))
        await origin.seen("/ahead")
        before = resident_bytes(worker)
        sending = asyncio.create_task(client.send(one * count))
        await asyncio.sleep(0.3)
        assert not sending.done()
        assert resident_bytes(worker) - before < 4 << 20
        gate.set()
        assert (await client.reply()).body == b"first"
        for _ in range(count):
            assert (await client.reply()).body == BODY
        await sending


@pytest.mark.rfc("9110-9.3.2")
async def test_head_has_the_fields_of_get_and_no_body(edge: Daemon) -> None:
    async with wire(edge) as client:
        whole = await client.get(WARM)
        head = await client.get(WARM, method="HEAD")
        again = await client.get(WARM)
    same = ("content-length", "etag", "last-modified", "content-type", "accept-ranges")
    assert [head.field(name) for name in same] == [whole.field(name) for name in same]
    assert head.field("content-length") == "1024"
    assert again.body == BODY


@pytest.mark.rfc("9112-9.6")
async def test_connection_close_is_the_end(edge: Daemon, origin: Origin) -> None:
    """What follows a request that closes is not answered, not even asked for."""
    for target in (WARM, "/gen/1k/closing"):
        data = request(target, "Connection: close") + request("/gen/1k/behind") + request("/behind", method="POST")
        (reply,) = await exchange(edge, data, ["GET"])
        assert reply.status == 200
        assert reply.closes
    assert not origin.requests_for("/gen/1k/behind")
    assert not origin.requests_for("/behind")


@pytest.mark.rfc("9112-9.6")
async def test_behind_a_closing_request_that_came_with_others(edge: Daemon, origin: Origin) -> None:
    """1. A miss is under way; hits, a closing hit and more lie behind it. 2. It is answered.
    Result: the answers up to the closing one, and nothing of what is behind it.
    """
    gate = origin.gate("closing")
    origin.script("/closing", [Step(body=b"slow", gate=gate)])
    behind = request(WARM) * 3 + request(WARM, "Connection: close") + request("/gen/1k/behind") * 3
    async with wire(edge) as client:
        await client.send(request("/closing"))
        await origin.seen("/closing")
        await client.send(behind)
        gate.set()
        replies = parse_all(await client.rest(), ["GET"] * 5)
    assert [reply.body for reply in replies] == [b"slow", *[BODY] * 4]
    assert not origin.requests_for("/gen/1k/behind")


@pytest.mark.rfc("9112-9.3")
async def test_http_1_0(edge: Daemon) -> None:
    """It closes unless asked otherwise, needs no Host, and the answer says which it is."""
    (reply,) = await exchange(edge, request(WARM, version="1.0") + request(WARM))
    assert reply.closes
    data = request(WARM, "Connection: keep-alive", version="1.0") * 2 + request(WARM, version="1.0")
    replies = await exchange(edge, data, ["GET"] * 3)
    assert [reply.field("connection") for reply in replies] == ["keep-alive", "keep-alive", "close"]
    (reply,) = await exchange(edge, f"GET {WARM} HTTP/1.0\r\n\r\n".encode())
    assert (reply.status, len(reply.body)) == (200, 1024)


@pytest.mark.rfc("9110-7.2")
async def test_a_host_is_owed_even_where_http_1_0_had_none(edge: Daemon) -> None:
    """1. HTTP/1.0 without Host, kept alive, twice. 2. The same fields and target as HTTP/1.1. Result: 400."""
    old = f"GET {WARM} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode()
    replies = await exchange(edge, old + old + old.replace(b"1.0", b"1.1"), ["GET"] * 3)
    assert [reply.status for reply in replies] == [200, 200, 400]


@pytest.mark.rfc("9112-6.3")
async def test_a_body_of_unknown_length_for_http_1_0(edge: Daemon, origin: Origin) -> None:
    origin.script("/unknown", [Step(body=b"x" * 5000, framing="chunked")])
    (reply,) = await exchange(edge, request("/unknown", version="1.0"))
    assert reply.field("transfer-encoding") is None
    assert reply.body == b"x" * 5000


@pytest.mark.rfc("9112-2.2")
async def test_an_empty_line_before_a_request(edge: Daemon) -> None:
    """One is forgiven, each time; two are no beginning of a request."""
    async with wire(edge) as client:
        for _ in range(3):
            await client.send(b"\r\n" + request(WARM))
            assert (await client.reply()).body == BODY
        await client.send(b"\r")
        await asyncio.sleep(0.05)
        await client.send(b"\n" + request(WARM))
        assert (await client.reply()).body == BODY
    for pieces in (0, 1):
        (reply,) = await exchange(edge, b"\r\n\r\n" + request(WARM), pieces=pieces)
        assert (reply.status, reply.closes) == (400, True)


@pytest.mark.rfc("9112-2.2")
@pytest.mark.parametrize("target", [WARM, "/gen/3k/bytewise"])
async def test_a_request_in_single_bytes(edge: Daemon, target: str) -> None:
    async with wire(edge) as client:
        for _ in range(2):
            await client.send(request(target, "Accept: */*"), pieces=1)
            reply = await client.reply()
            assert (reply.status, len(reply.body)) == (200, int(target[5]) * 1024)


async def test_one_block_of_fields_and_then_others(edge: Daemon) -> None:
    """The block of the request before is known; one that only begins like it is another."""
    async with wire(edge) as client:
        await client.get(WARM, "X: 1")
        assert (await client.get(WARM, "X: 1")).status == 200
        assert (await client.get(WARM, "X: 1", "Range: bytes=0-0")).status == 206
        assert (await client.get(WARM, "X: 1")).status == 200
        assert (await client.get(WARM, "X: 1", host="b.test")).is_hit is False


# half-closed


@pytest.mark.rfc("9112-9.6")
@pytest.mark.parametrize("target", [WARM, "/gen/1m/halfway", "/slow-half"])
async def test_a_client_that_sends_no_more_still_gets_its_answer(edge: Daemon, origin: Origin, target: str) -> None:
    gate = origin.gate("half")
    origin.script("/slow-half", [Step(body=b"at last", gate=gate)])
    async with wire(edge) as client:
        await client.send(request(target))
        client.end()
        await asyncio.sleep(0.1)
        gate.set()
        (reply,) = parse_all(await client.rest(), ["GET"])
    assert reply.status == 200


@pytest.mark.rfc("9112-9.6")
async def test_all_that_was_sent_before_the_half_close_is_answered(edge: Daemon, origin: Origin) -> None:
    gate = origin.gate("half-many")
    origin.script("/half-many", [Step(body=b"slow", gate=gate)])
    last = b"GET /never-finished HTTP/1.1\r\nHo"
    async with wire(edge) as client:
        await client.send(request(WARM) + request("/half-many") + request(WARM) * 3 + request("/gen/2k/half") + last)
        client.end()
        await asyncio.sleep(0.1)
        gate.set()
        replies = parse_all(await client.rest(), ["GET"] * 6)
    assert [len(reply.body) for reply in replies] == [1024, 4, 1024, 1024, 1024, 2048]


@pytest.mark.rfc("9112-9.6")
async def test_an_upload_half_closed_behind_its_body(edge: Daemon, origin: Origin) -> None:
    async with wire(edge) as client:
        await client.send(request("/echo", "Content-Length: 5", method="POST") + b"hello")
        client.end()
        (reply,) = parse_all(await client.rest(), ["POST"])
    assert b'"body_bytes": 5' in reply.body


@pytest.mark.rfc("9112-8")
async def test_an_upload_broken_off_has_no_answer(edge: Daemon, origin: Origin) -> None:
    async with wire(edge) as client:
        await client.send(request("/broken-off", "Content-Length: 5", method="POST") + b"hell")
        client.end()
        assert not await client.rest()
    await edge.eventually("edge_transfers", 0)


# bodies of requests


@pytest.mark.rfc("9112-6.3", "9112-9.3.2")
@pytest.mark.parametrize("pieces", [0, 5])
async def test_requests_with_bodies_between_others(edge: Daemon, origin: Origin, pieces: int) -> None:
    """A body is never taken for a request, however much it looks like one."""
    inner = request("/gen/1k/inner")
    chunks = b"%x\r\n%b\r\n0\r\nX: y\r\n\r\n" % (len(inner), inner)
    data = (
        request(WARM)
        + request("/echo", f"Content-Length: {len(inner)}", method="POST")
        + inner
        + request(WARM)
        + request("/echo", "Transfer-Encoding: chunked", method="PUT")
        + chunks
        + request("/echo", "Content-Length: 0", method="POST")
        + request("/echo", f"Content-Length: {len(inner)}")
        + inner
        + request(WARM, "Connection: close")
    )
    methods = ["GET", "POST", "GET", "PUT", "POST", "GET", "GET"]
    replies = await exchange(edge, data, methods, pieces=pieces)
    assert [reply.status for reply in replies] == [200] * 7
    sizes = [0 if b'"body_bytes": 0' in reply.body else len(inner) for reply in replies if b"body_bytes" in reply.body]
    assert sizes == [len(inner), len(inner), 0, len(inner)]
    assert not origin.requests_for("/gen/1k/inner")


@pytest.mark.rfc("9112-7.1")
async def test_a_body_that_is_no_chunked_coding(edge: Daemon) -> None:
    data = request("/echo", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhelloXX" + request(WARM)
    (reply,) = await exchange(edge, data, ["POST"])
    assert reply.status == 400
    assert reply.closes


@pytest.mark.rfc("9110-10.1.1")
async def test_continue_is_said_once_and_only_to_who_can_hear_it(edge: Daemon) -> None:
    async with wire(edge) as client:
        await client.send(request("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST"))
        assert (await client.reply("POST")).status == 100
        await client.send(b"hello")
        assert (await client.reply("POST")).status == 200
    data = request("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST", version="1.0") + b"hello"
    (reply,) = await exchange(edge, data, ["POST"])
    assert reply.status == 200


@pytest.mark.rfc("9110-13.1.2", "9112-6.3")
async def test_a_condition_on_what_is_still_arriving_with_unknown_length(edge: Daemon, origin: Origin) -> None:
    """A 304 has no body, whatever the body it speaks of will come to."""
    gate = origin.gate("growing")
    step = Step(body=b"y" * 300_000, framing="chunked", headers={"ETag": '"g"'}, gate=gate, gate_after=200_000)
    origin.script("/growing", [step])
    async with wire(edge) as first, wire(edge) as second:
        await first.send(request("/growing"))
        await origin.seen("/growing")
        await second.send(
            request("/growing", 'If-None-Match: "g"') + request("/growing", "If-None-Match: *") + request(WARM)
        )
        statuses = [(await second.reply()).status for _ in range(3)]
        gate.set()
        assert (await first.reply()).body == b"y" * 300_000
    assert statuses == [304, 304, 200]
