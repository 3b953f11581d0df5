"""A client that sends exactly the bytes it is told to, and reads answers to the letter."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tests.kit.daemon import Daemon

PATIENCE_S = 15.0
_HEAD = re.compile(
    rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]*\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\t -~\x80-\xff]*\r\n)*)\r\n"
)


@dataclass
class Reply:
    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""

    def field(self, name: str) -> str | None:
        """The one value of a field; two are a mistake wherever this is asked."""
        values = [value for key, value in self.fields if key == name.lower()]
        assert len(values) < 2, f"{name}: {values}"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        return self.field("connection") == "close"

    @property
    def is_hit(self) -> bool:
        return "; hit" in (self.field("cache-status") or "")


def parse_head(data: bytes) -> tuple[Reply, int] | None:
    """A reply's head at the beginning of `data`, and where it ends. An incomplete one is None, a wrong one fails."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    match = _HEAD.fullmatch(data, 0, end)
    assert match is not None, data[:200]
    lines = match[2].decode("latin-1").split("\r\n")[:-1]
    pairs = [line.partition(":") for line in lines]
    return Reply(int(match[1]), [(name.lower(), value.strip()) for name, _, value in pairs]), end


def parse_reply(data: bytes, method: str) -> tuple[Reply, int] | None:
    """A whole reply at the beginning of `data`, by the framing of RFC 9112, 6.3."""
    found = parse_head(data)
    if found is None:
        return None
    reply, at = found
    length, coding = reply.field("content-length"), reply.field("transfer-encoding")
    assert length is None or coding is None
    if method == "HEAD" or reply.status in (204, 304) or reply.status < 200:
        return reply, at
    if coding is not None:
        assert coding == "chunked"
        while (line := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line], 16)
            if len(data) < line + 2 + size + 2:
                return None
            reply.body += data[line + 2 : line + 2 + size]
            at = line + 2 + size + 2
            assert data[at - 2 : at] == b"\r\n"
            if not size:
                return reply, at
        return None
    assert length is not None, "a body that only the connection's end delimits"
    end = at + int(length)
    reply.body = data[at:end]
    return (reply, end) if len(data) >= end else None


def parse_all(data: bytes, methods: Sequence[str]) -> list[Reply]:
    """All replies in `data`, which must be nothing but whole replies, one for each of the first methods."""
    replies: list[Reply] = []
    while data:
        assert len(replies) < len(methods), f"more replies than requests: {data[:200]!r}"
        found = parse_reply(data, methods[len(replies)])
        assert found is not None, f"not a whole reply: {data[:200]!r}"
        replies.append(found[0])
        data = data[found[1] :]
    return replies


class Wire:
    """One connection to the edge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._data = b""

    async def send(self, data: bytes, *, pieces: int = 0) -> None:
        """Write; `pieces`: that many bytes at a time, each a segment of its own as far as that can be had."""
        for start in range(0, len(data), pieces or len(data) or 1):
            self.writer.write(data[start : start + (pieces or len(data))])
            await self.writer.drain()
            if pieces:
                await asyncio.sleep(0.0005)

    def end(self) -> None:
        """Send nothing more, but go on reading."""
        self.writer.write_eof()

    async def reply(self, method: str = "GET") -> Reply:
        async with asyncio.timeout(PATIENCE_S):
            while (found := parse_reply(self._data, method)) is None:
                data = await self.reader.read(1 << 18)
                assert data, f"closed in the middle of a reply: {self._data[:200]!r}"
                self._data += data
        self._data = self._data[found[1] :]
        return found[0]

    async def rest(self) -> bytes:
        """Everything until the edge closes."""
        async with asyncio.timeout(PATIENCE_S):
            data, self._data = self._data + await self.reader.read(), b""
        return data

    async def get(self, target: str, *lines: str, method: str = "GET", host: str = "edge.test") -> Reply:
        await self.send(request(target, *lines, method=method, host=host))
        return await self.reply(method)


def request(target: str, *lines: str, method: str = "GET", host: str = "edge.test", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", f"Host: {host}", *lines, "", ""]).encode("latin-1")


@contextlib.asynccontextmanager
async def wire(edge: Daemon) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=1 << 22)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def exchange(edge: Daemon, data: bytes, methods: Sequence[str] = ("GET",), *, pieces: int = 0) -> list[Reply]:
    """Send, and read until the edge closes: the replies."""
    async with wire(edge) as client:
        await client.send(data, pieces=pieces)
        return parse_all(await client.rest(), methods)


async def get(edge: Daemon, target: str, *lines: str, method: str = "GET", host: str = "edge.test") -> Reply:
    async with wire(edge) as client:
        return await client.get(target, *lines, method=method, host=host)


async def stored(edge: Daemon, target: str, host: str = "edge.test") -> Reply:
    """A hit for this target: what was just fetched is still being put away for a moment."""
    async with asyncio.timeout(PATIENCE_S):
        while not (reply := await get(edge, target, host=host)).is_hit:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    return reply


def no_exceptions(edge: Daemon) -> None:
    """Nothing in the daemon's own log that only a mistake of ours can have put there."""
    text = edge.output.read_text()
    assert "Traceback" not in text, text
    assert "Exception" not in text, text
    assert "process died" not in text, text
