"""Reads one HTTP/1 request off a stream: head, body of either kind, and the 100 that a client may wait for."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace

from loadtest.answer import Request

HEAD_BYTES_MAX = 64 * 1024
_READ_BYTES = 256 * 1024


class RequestError(Exception):
    """Bytes that are no request this origin understands."""


async def read_request(
    reader: asyncio.StreamReader, write: Callable[[bytes], object], connection: int
) -> Request | None:
    """The next request with its body counted and digested; None when the client has closed in between."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            raise RequestError("cut short") from exc
        return None
    except asyncio.LimitOverrunError as exc:
        raise RequestError("headers too large") from exc
    request = _parsed(block, connection)
    if (request.header("Expect") or "").lower() == "100-continue":
        write(b"HTTP/1.1 100 Continue\r\n\r\n")
    sha = hashlib.sha256()
    size = await _read_body(reader, request, sha.update)
    return replace(request, body_bytes=size, body_sha256=sha.hexdigest())


def _parsed(block: bytes, connection: int) -> Request:
    first, *lines = block[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise RequestError(f"no request line: {first[:100]!r}")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Request(words[0], words[1], (1, int(words[2][-1])), headers, connection=connection)


async def _read_body(reader: asyncio.StreamReader, request: Request, update: Callable[[bytes], object]) -> int:
    if (request.header("Transfer-Encoding") or "").lower() == "chunked":
        return await _read_chunked(reader, update)
    length = request.header("Content-Length") or "0"
    if not length.isdigit():
        raise RequestError(f"no length: {length!r}")
    await _read_exactly(reader, int(length), update)
    return int(length)


async def _read_chunked(reader: asyncio.StreamReader, update: Callable[[bytes], object]) -> int:
    total = 0
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError as exc:
            raise RequestError(f"no chunk size: {line!r}") from exc
        if size == 0:
            break
        await _read_exactly(reader, size, update)
        await reader.readexactly(2)
        total += size
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return total


async def _read_exactly(reader: asyncio.StreamReader, size: int, update: Callable[[bytes], object]) -> None:
    while size:
        data = await reader.read(min(size, _READ_BYTES))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        update(data)
        size -= len(data)
