"""A bare HTTP client: what came over the wire, as it came, and whether it came whole."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_BUFFER_BYTES = 1 << 20
_READ_BYTES = 256 << 10
_PATIENCE_S = 20.0


@dataclass
class Reply:
    """A response. `whole` is false when the connection broke before the end that the head announced."""

    status: int
    fields: list[tuple[str, str]]
    version: str = "1.1"
    received: bytearray = dataclasses.field(default_factory=bytearray)
    """The body, decoded, as far as it has come."""
    whole: bool = False
    closes: bool = False
    """The end of the body was the end of the connection."""

    @property
    def body(self) -> bytes:
        return bytes(self.received)

    def field(self, name: str) -> str | None:
        """All values of a field, joined; None when it is absent."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        return ", ".join(values) if values else None


class Client:
    """One connection. Everything waits for a while and then fails: nothing here hangs."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port, limit=_BUFFER_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def leave(self) -> None:
        """Break the connection at once."""
        self.writer.transport.abort()

    def send(
        self, target: str, *lines: str, method: str = "GET", version: str = "1.1", host: str | None = "test"
    ) -> None:
        """Send a request's head."""
        named = [f"Host: {host}"] if host is not None else []
        head = "\r\n".join([f"{method} {target} HTTP/{version}", *named, *lines])
        self.writer.write(f"{head}\r\n\r\n".encode("latin-1"))

    async def head(self) -> Reply:
        """The next response's head. IncompleteReadError when the connection ends before it."""
        async with asyncio.timeout(_PATIENCE_S):
            block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = block.removesuffix("\r\n\r\n").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        version, status = first.split(" ")[:2]
        return Reply(int(status), [(name, value.strip()) for name, _, value in pairs], version.removeprefix("HTTP/"))

    async def bytes(self, reply: Reply, upto: int) -> Reply:
        """The body until `upto` bytes of it are there, or it breaks. For bodies of known length."""
        async with asyncio.timeout(_PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while len(reply.received) < upto:
                    piece = await self.reader.read(min(_READ_BYTES, upto - len(reply.received)))
                    if not piece:
                        break
                    reply.received += piece
        return reply

    async def chunk(self, reply: Reply) -> bool:
        """The next chunk of a chunked body; False when it was the last."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        reply.received += await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return size > 0

    async def body(self, reply: Reply, method: str = "GET") -> Reply:
        """The rest of the body, to its end or its break."""
        length = reply.field("Content-Length")
        if method == "HEAD" or reply.status in (204, 304) or reply.status < 200:
            reply.whole = True
        elif reply.field("Transfer-Encoding") is not None:
            assert reply.field("Transfer-Encoding") == "chunked"
            assert length is None
            async with asyncio.timeout(_PATIENCE_S):
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    while await self.chunk(reply):
                        pass
                    reply.whole = True
        elif length is not None:
            await self.bytes(reply, int(length))
            reply.whole = len(reply.received) == int(length)
        else:
            reply.closes = True
            async with asyncio.timeout(_PATIENCE_S):
                with contextlib.suppress(ConnectionError):
                    while piece := await self.reader.read(_READ_BYTES):
                        reply.received += piece
                    reply.whole = True
        return reply

    async def get(
        self, target: str, *lines: str, method: str = "GET", version: str = "1.1", host: str | None = "test"
    ) -> Reply:
        """A whole exchange."""
        self.send(target, *lines, method=method, version=version, host=host)
        return await self.body(await self.head(), method)

    async def ended(self) -> bool:
        """Whether the other side ends the connection, with nothing more sent."""
        async with asyncio.timeout(_PATIENCE_S):
            try:
                return not await self.reader.read(1)
            except ConnectionError:
                return True


async def get(
    port: int, target: str, *lines: str, method: str = "GET", version: str = "1.1", host: str | None = "test"
) -> Reply:
    """One request on a connection of its own."""
    async with Client(port) as client:
        return await client.get(target, *lines, method=method, version=version, host=host)


async def send_chunked(client: Client, pieces: AsyncIterator[bytes]) -> None:
    """A request's body in chunked coding, with its end."""
    async for piece in pieces:
        client.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.writer.drain()
    client.writer.write(b"0\r\n\r\n")
    await client.writer.drain()
