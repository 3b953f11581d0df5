"""Chunked transfer coding, decoded strictly as it comes (RFC 9112, 7.1)."""

from __future__ import annotations

import re

from edge.errors import RequestError

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:%b)*\r\n" % _EXTENSION)
"""Extensions are read to the letter and mean nothing here (RFC 9112, 7.1.1)."""
_LINE_MAX_BYTES = 1024
_TRAILER_MAX_BYTES = 16384
_TRAILER = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")


class ChunkedDecoder:
    """Feed it what arrives: it gives the data, then what follows the body. Trailers are checked and dropped."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        """What lies before it in the buffer is dealt with."""
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
        self._buffer = self._buffer[self._at :]
        self._at = 0
        return b"".join(found)

    def _step(self, found: list[bytes]) -> bool:
        if self._in_trailer:
            return self._trailer()
        start = self._at
        if self._left:
            piece = self._buffer[start : start + self._left]
            found.append(piece)
            self._left -= len(piece)
            self._at += len(piece)
            self._closing_line = not self._left
            return bool(piece)
        if self._closing_line:
            line = self._buffer[start : start + 2]
            if not b"\r\n".startswith(line):
                raise RequestError("a chunk that does not end where it should")
            if len(line) < 2:
                return False
            self._at += 2
            self._closing_line = False
            return True
        return self._size_line()

    def _size_line(self) -> bool:
        end = self._buffer.find(b"\n", self._at) + 1
        if not end:
            if len(self._buffer) - self._at > _LINE_MAX_BYTES:
                raise RequestError("a chunk size line without end")
            return False
        match = _SIZE_LINE.fullmatch(self._buffer, self._at, end)
        if match is None or end - self._at > _LINE_MAX_BYTES:
            raise RequestError("not a chunk size")
        self._at = end
        self._left = int(match[1], 16)
        self._in_trailer = not self._left
        return True

    def _trailer(self) -> bool:
        start = self._at
        if self._buffer.startswith(b"\r\n", start):
            end = start + 2
        else:
            end = self._buffer.find(b"\r\n\r\n", start) + 4
            if (end if end >= 4 else len(self._buffer)) - start > _TRAILER_MAX_BYTES:
                raise RequestError("a trailer section without end")
            if end < 4:
                return False
        if _TRAILER.fullmatch(self._buffer, start, end) is None:
            raise RequestError("not a trailer section")
        self._at = end
        self.done = True
        return False
