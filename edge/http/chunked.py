"""Chunked transfer coding, decoded strictly as it comes (RFC 9112, 7.1)."""

from __future__ import annotations

import re

from edge.errors import RequestError

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_LINE_MAX_BYTES = 1024
_TRAILER_MAX_BYTES = 16384
_TRAILER = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")


class ChunkedDecoder:
    """Feed it what arrives: it gives the data, then what follows the body. Trailers are checked and dropped."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._closing_line = False
        self._in_trailer = False
        self.done = False

    @property
    def rest(self) -> bytes:
        """Bytes behind the body, once it is done."""
        return self._buffer

    def feed(self, data: bytes) -> bytes:
        """The next decoded bytes. Raises RequestError for anything that is not chunked coding to the letter."""
        self._buffer += data
        found: list[bytes] = []
        while not self.done and self._step(found):
            pass
        return b"".join(found)

    def _step(self, found: list[bytes]) -> bool:
        buffer = self._buffer
        if self._in_trailer:
            return self._trailer()
        if self._left:
            piece = buffer[: self._left]
            found.append(piece)
            self._left -= len(piece)
            self._buffer = buffer[len(piece) :]
            self._closing_line = not self._left
            return bool(piece)
        if self._closing_line:
            if not b"\r\n".startswith(buffer[:2]):
                raise RequestError("a chunk that does not end where it should")
            if len(buffer) < 2:
                return False
            self._buffer = buffer[2:]
            self._closing_line = False
            return True
        return self._size_line()

    def _size_line(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > _LINE_MAX_BYTES:
                raise RequestError("a chunk size line without end")
            return False
        line = self._buffer[: end + 1]
        match = _SIZE_LINE.fullmatch(line)
        if match is None or len(line) > _LINE_MAX_BYTES:
            raise RequestError("not a chunk size")
        self._buffer = self._buffer[end + 1 :]
        self._left = int(match[1], 16)
        self._in_trailer = not self._left
        return True

    def _trailer(self) -> bool:
        if self._buffer.startswith(b"\r\n"):
            end = 2
        else:
            end = self._buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(self._buffer) > _TRAILER_MAX_BYTES:
                    raise RequestError("a trailer section without end")
                return False
        if _TRAILER.fullmatch(self._buffer[:end]) is None:
            raise RequestError("not a trailer section")
        self._buffer = self._buffer[end:]
        self.done = True
        return False
