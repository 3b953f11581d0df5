"""A bare client: it shows what came over the wire, right or wrong."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from loadtest.origin import Origin


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Client:
    """One connection to an origin."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self._origin.host, self._origin.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    def send(self, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> None:
        head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *lines])
        self.writer.write(f"{head}\r\n\r\n".encode() + body)

    async def head(self) -> Reply:
        block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = block.removesuffix("\r\n\r\n").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return Reply(int(first.split(" ")[1]), [(name, value) for name, value in pairs])

    async def body(self, reply: Reply) -> bytes:
        if reply.header("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return body
        length = reply.header("Content-Length")
        if length is not None:
            return await self.reader.readexactly(int(length))
        if reply.header("Connection") == "close":
            return await self.reader.read()
        return b""

    async def get(self, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Reply:
        self.send(target, *lines, method=method, body=body)
        reply = await self.head()
        if method != "HEAD":
            reply.body = await self.body(reply)
        return reply


async def get(origin: Origin, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Reply:
    async with Client(origin) as client:
        return await client.get(target, *lines, method=method, body=body)
