"""The origin says what it should, and breaks what it is told to, seen from bare sockets."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadtest.answer import Request
from loadtest.content import etag, expected
from loadtest.faults import GARBAGE, Step
from loadtest.origin import Origin
from tests.loadtest.client import Client, get

PATH = "/gen/100k/a.m4s"
SIZE = 100 * 1024


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "master.m3u8").write_text("#EXTM3U\n")
    (tmp_path / "public" / "a b.vtt").write_text("WEBVTT\n")
    (tmp_path / "secret").write_text("no\n")
    async with Origin(str(tmp_path / "public")) as started:
        yield started


class TestContent:
    async def test_generated_bytes_come_with_all_a_cache_needs(self, origin: Origin) -> None:
        reply = await get(origin, PATH)
        assert reply.status == 200
        assert reply.body == expected(PATH, 0, SIZE)
        assert reply.header("ETag") == etag(PATH)
        assert reply.header("Content-Type") == "video/iso.segment"
        assert reply.header("Cache-Control") == "public, max-age=3600"
        assert reply.header("Accept-Ranges") == "bytes"

    async def test_files_have_their_media_types_and_manifests_a_shorter_life(self, origin: Origin) -> None:
        reply = await get(origin, "/master.m3u8?token=1")
        assert (reply.status, reply.body) == (200, b"#EXTM3U\n")
        assert reply.header("Content-Type") == "application/vnd.apple.mpegurl"
        assert reply.header("Cache-Control") == "public, max-age=60"
        assert (await get(origin, "/a%20b.vtt")).header("Content-Type") == "text/vtt"

    @pytest.mark.parametrize("path", ["/missing", "/../secret", "/%2e%2e/secret", "/", "/a%00b"])
    async def test_what_is_not_under_the_folder_is_not_found(self, origin: Origin, path: str) -> None:
        assert (await get(origin, path)).status == 404

    async def test_a_link_does_not_lead_out_of_the_folder(self, origin: Origin, tmp_path: Path) -> None:
        (tmp_path / "public" / "link").symlink_to(tmp_path / "secret")
        os.mkfifo(tmp_path / "public" / "pipe")
        assert (await get(origin, "/link")).status == 404
        assert (await get(origin, "/pipe")).status == 404

    async def test_head_and_other_methods(self, origin: Origin) -> None:
        async with Client(origin) as client:
            reply = await client.get(PATH, method="HEAD")
            assert (reply.status, reply.header("Content-Length")) == (200, str(SIZE))
            assert (await client.get(PATH, method="DELETE")).status == 405
        assert origin.log[0].body_bytes == 0
        assert origin.tally.connections == 1


class TestRules:
    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [
            ("0-0", 0, 1),
            ("100-199", 100, 200),
            ("102300-", 102_300, SIZE),
            ("-5", SIZE - 5, SIZE),
            ("9-999999", 9, SIZE),
        ],
    )
    async def test_a_range(self, origin: Origin, asked: str, start: int, end: int) -> None:
        reply = await get(origin, PATH, f"Range: bytes={asked}")
        assert reply.status == 206
        assert reply.header("Content-Range") == f"bytes {start}-{end - 1}/{SIZE}"
        assert reply.body == expected(PATH, start, end)
        assert origin.log[0].range == f"bytes={asked}"

    @pytest.mark.parametrize("asked", ["0-1,5-6", "5-2", "-", "x"])
    async def test_ranges_it_does_not_do_are_ignored(self, origin: Origin, asked: str) -> None:
        assert (await get(origin, PATH, f"Range: bytes={asked}")).status == 200

    @pytest.mark.parametrize("asked", ["102400-", "-0"])
    async def test_a_range_of_nothing(self, origin: Origin, asked: str) -> None:
        reply = await get(origin, PATH, f"Range: bytes={asked}")
        assert (reply.status, reply.header("Content-Range")) == (416, f"bytes */{SIZE}")

    async def test_conditions(self, origin: Origin) -> None:
        first = await get(origin, PATH)
        tag, modified = first.header("ETag"), first.header("Last-Modified")
        for line in (f"If-None-Match: {tag}", f'If-None-Match: "x", W/{tag}', "If-None-Match: *"):
            reply = await get(origin, PATH, line)
            assert (reply.status, reply.body, reply.header("ETag")) == (304, b"", tag)
        assert (await get(origin, PATH, f"If-Modified-Since: {modified}")).status == 304
        assert (await get(origin, PATH, 'If-None-Match: "x"', f"If-Modified-Since: {modified}")).status == 200
        asked = "Range: bytes=0-9"
        assert (await get(origin, PATH, asked, f"If-Range: {tag}")).status == 206
        assert (await get(origin, PATH, asked, f"If-Range: {modified}")).status == 206
        assert (await get(origin, PATH, asked, 'If-Range: "x"')).status == 200
        assert (await get(origin, PATH, asked, f"If-Range: W/{tag}")).status == 200

    async def test_a_new_version_has_another_etag_and_other_bytes(self, origin: Origin) -> None:
        origin.publish(PATH, 3)
        reply = await get(origin, PATH, f"If-None-Match: {etag(PATH)}")
        assert (reply.status, reply.header("ETag")) == (200, etag(PATH, 3))
        assert reply.body == expected(PATH, 0, SIZE, version=3)


class TestSteps:
    async def test_a_script_is_played_in_order_and_its_last_step_stays(self, origin: Origin) -> None:
        origin.script("/a", [Step(status=503), Step(status=502), Step(body=b"ok", headers={"ETag": None, "Vary": "x"})])
        replies = [await get(origin, "/a") for _ in range(4)]
        assert [reply.status for reply in replies] == [503, 502, 200, 200]
        assert (replies[3].body, replies[3].header("ETag"), replies[3].header("Vary")) == (b"ok", None, "x")
        assert [entry.status for entry in origin.log] == [503, 502, 200, 200]

    async def test_a_handler_may_take_its_time_and_what_it_raises_is_raised_at_the_end(self) -> None:
        async def handler(request: Request) -> Step:
            await asyncio.sleep(0)
            return Step(body=request.target.encode())

        origin = await Origin().start()
        origin.on("*", handler)
        assert (await get(origin, "/x?y")).body == b"/x?y"
        origin.script("/broken", [Step(headers={"X": "\N{SNOWMAN}"})])
        with pytest.raises(asyncio.IncompleteReadError):
            await get(origin, "/broken")
        with pytest.raises(UnicodeEncodeError):
            await origin.stop()

    async def test_a_query_chooses_too(self, origin: Origin) -> None:
        burst = f"{PATH}?status=503&first=2&add=Set-Cookie:a=1&add=Set-Cookie:b=2"
        replies = [await get(origin, burst) for _ in range(3)]
        assert [reply.status for reply in replies] == [503, 503, 200]
        assert [value for name, value in replies[0].headers if name == "Set-Cookie"] == ["a=1", "b=2"]
        reply = await get(origin, f"{PATH}?set=Cache-Control:no-store&drop=ETag&padding_bytes=1k")
        assert (reply.header("Cache-Control"), reply.header("ETag")) == ("no-store", None)
        assert len(reply.header("X-Padding") or "") == 1024
        assert (await get(origin, f"{PATH}?location=/b")).status == 302
        assert (await get(origin, f"{PATH}?status=many")).status == 400
        tags = [(await get(origin, f"{PATH}?flip=2")).header("ETag") for _ in range(4)]
        assert tags == [etag(PATH, 0), etag(PATH, 0), etag(PATH, 1), etag(PATH, 1)]

    async def test_framings(self, origin: Origin) -> None:
        async with Client(origin) as client:
            reply = await client.get(f"{PATH}?framing=chunked&drip_bytes=30k")
            assert reply.header("Content-Length") is None
            assert reply.body == expected(PATH, 0, SIZE)
            assert (await client.get("/gen/0/a?framing=chunked")).body == b""
            reply = await client.get(f"{PATH}?framing=close")
            assert reply.body == expected(PATH, 0, SIZE)
            assert client.reader.at_eof()

    async def test_a_range_may_be_ignored_or_answered_wrongly(self, origin: Origin) -> None:
        asked = "Range: bytes=0-9"
        assert (await get(origin, f"{PATH}?ranges=0", asked)).status == 200
        reply = await get(origin, f"{PATH}?set=Content-Range:bytes%2010-19/50", asked)
        assert (reply.status, reply.header("Content-Range")) == (206, "bytes 10-19/50")

    async def test_early_hints_come_first(self, origin: Origin) -> None:
        async with Client(origin) as client:
            client.send(f"{PATH}?interim=103&interim=103")
            assert [(await client.head()).status for _ in range(3)] == [103, 103, 200]

    async def test_gates_hold_the_answer_until_they_are_opened(self, origin: Origin) -> None:
        head_gate, body_gate = origin.gate("head"), asyncio.Event()
        origin.script(PATH, [Step(gate=head_gate), Step(gate=body_gate, gate_after=1000)])
        async with Client(origin) as client:
            client.send(PATH)
            entry = await origin.seen(PATH)
            assert (entry.status, entry.ending) == (0, "open")
            assert (await get(origin, "/_origin/open/head")).status == 200
            await client.body(await client.head())
            assert (await origin.ended(entry)).ending == "sent"
            client.send(PATH)
            reply = await client.head()
            await client.reader.readexactly(1000)
            entry = await origin.seen(PATH, 2)
            assert (entry.body_bytes, entry.ending) == (1000, "open")
            body_gate.set()
            await client.reader.readexactly(SIZE - 1000)
            assert reply.status == 200


class TestBreaks:
    async def test_a_cut_ends_cleanly_and_short(self, origin: Origin) -> None:
        async with Client(origin) as client:
            client.send(f"{PATH}?cut_after=70k")
            assert (await client.head()).header("Content-Length") == str(SIZE)
            assert await client.reader.read() == expected(PATH, 0, 70 * 1024)
        assert (origin.log[0].ending, origin.bytes_sent) == ("cut", 70 * 1024)

    @pytest.mark.parametrize("after", [0, 70_000])
    async def test_a_reset_comes_behind_what_was_sent(self, origin: Origin, after: int) -> None:
        async with Client(origin) as client:
            client.send(f"{PATH}?reset_after={after}")
            await client.head()
            assert await client.reader.readexactly(after) == expected(PATH, 0, after)
            with pytest.raises(ConnectionResetError):
                await client.reader.read()
        assert origin.log[0].ending == "reset"

    async def test_a_stall_lasts_until_the_client_leaves(self, origin: Origin) -> None:
        async with Client(origin) as client:
            client.send(f"{PATH}?stall_after=10")
            await client.head()
            assert await client.reader.readexactly(10) == expected(PATH, 0, 10)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.05)
        while origin.tally.open:
            await origin.tally.news()
        assert origin.log[0].ending == "stalled"

    async def test_more_than_was_announced(self, origin: Origin) -> None:
        async with Client(origin) as client:
            reply = await client.get(f"{PATH}?surplus=5")
            assert reply.body == expected(PATH, 0, SIZE)
            assert await client.reader.readexactly(5) == b"xxxxx"
        assert origin.bytes_sent == SIZE + 5

    async def test_garbage_and_silence(self, origin: Origin) -> None:
        async with Client(origin) as client:
            client.send(f"{PATH}?garbage=1")
            assert await client.reader.read() == GARBAGE
        origin.script(PATH, [Step(raw=b""), Step(raw=b"HTTP/1.1 2", reset_after=0)])
        async with Client(origin) as client:
            client.send(PATH)
            assert await client.reader.read() == b""
        async with Client(origin) as client:
            client.send(PATH)
            assert await client.reader.readexactly(10) == b"HTTP/1.1 2"
            with pytest.raises(ConnectionResetError):
                await client.reader.read()

    async def test_a_client_that_leaves_is_noted_and_nothing_more(
        self, origin: Origin, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Client(origin) as client:
            client.send("/gen/1g/a")
            await client.head()
            client.writer.transport.abort()
        entry = await origin.ended(origin.log[0])
        assert entry.ending == "left"
        assert entry.body_bytes < 1 << 30
        while origin.tally.open:
            await origin.tally.news()
        assert capfd.readouterr().err == ""
        assert caplog.records == []


class TestBodies:
    @pytest.mark.parametrize("method", ["POST", "PUT"])
    async def test_echo_tells_what_came(self, origin: Origin, method: str) -> None:
        body = expected("/upload", 0, 300_000)
        async with Client(origin) as client:
            for lines, sent in (
                ([f"Content-Length: {len(body)}"], body),
                (["Transfer-Encoding: chunked"], b"3e8\r\n%b\r\n%x;a=b\r\n%b\r\n0\r\nT: 1\r\n\r\n" % _halves(body)),
            ):
                reply = await client.get("/echo?a=b", "X-Own: 1", *lines, method=method, body=sent)
                told = json.loads(reply.body)
                assert (told["method"], told["target"]) == (method, "/echo?a=b")
                assert ["X-Own", "1"] in told["headers"]
                assert (told["body_bytes"], told["body_sha256"]) == (len(body), hashlib.sha256(body).hexdigest())

    async def test_a_client_that_waits_for_100_gets_it(self, origin: Origin) -> None:
        async with Client(origin) as client:
            client.send("/echo", "Expect: 100-continue", "Content-Length: 2", method="PUT")
            assert (await client.head()).status == 100
            client.writer.write(b"hi")
            reply = await client.head()
            assert json.loads(await client.body(reply))["body_bytes"] == 2

    @pytest.mark.parametrize(
        "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\nA: %b\r\n\r\n"]
    )
    async def test_what_is_no_request_is_refused(self, origin: Origin, sent: bytes) -> None:
        async with Client(origin) as client:
            client.writer.write(sent.replace(b"%b", b"a" * 200_000))
            assert (await client.head()).status == 400


class TestCounts:
    async def test_every_request_and_byte_is_counted_but_its_own_pages_are_not(self, origin: Origin) -> None:
        async with Client(origin) as client:
            await client.get(PATH)
            await client.get(PATH + "?x=1", "Range: bytes=0-9")
            await client.get("/missing")
            told = json.loads((await client.get("/_origin/stats")).body)
            assert told["requests"] == origin.requests == 3
            assert told["by_path"][PATH] == {"requests": 2, "bytes": SIZE + 10, "statuses": {"200": 1, "206": 1}}
            assert told["open_connections"] == told["connections"] == 1
            told = json.loads((await client.get("/_origin/reset")).body)
            assert (told["requests"], told["bytes"], told["by_path"]) == (0, 0, {})

    async def test_it_may_go_and_come_back_on_the_same_port(self, origin: Origin) -> None:
        async with Client(origin) as client:
            await client.get(PATH)
            await origin.stop()
            assert await client.reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await get(origin, PATH)
        await origin.start()
        assert (await get(origin, PATH)).status == 200
        assert origin.requests == 2


def _halves(body: bytes) -> tuple[bytes, int, bytes]:
    return body[:1000], len(body) - 1000, body[1000:]
