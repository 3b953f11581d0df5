"""What a slow and strict reader finds in a client's bytes: written apart from edge.http, a line at a time."""

from __future__ import annotations

from dataclasses import dataclass

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_VISIBLE = frozenset(range(0x21, 0x7F))
_TEXT = frozenset({9, *range(0x20, 0x7F), *range(0x80, 0x100)})
_DIGITS = frozenset(b"0123456789")
_HEX = frozenset(b"0123456789abcdefABCDEF")


class Wrong(Exception):
    """Not HTTP/1.1 to the letter."""


class Unfinished(Exception):
    """More bytes might make something of it."""


@dataclass
class Asked:
    """A request: its body so far, and whether that is all of it."""

    method: str
    target: str
    body: bytes
    is_whole: bool
    is_last: bool = False
    host: str = ""


def read(data: bytes) -> list[Asked]:
    """The requests that these bytes are, in order, up to the first thing that is none."""
    found: list[Asked] = []
    try:
        while data:
            asked, data = _request(data)
            found.append(asked)
            if not asked.is_whole or asked.is_last:
                break
    except (Wrong, Unfinished):
        pass
    return found


def _line(data: bytes) -> tuple[bytes, bytes]:
    at = data.find(b"\n")
    if at < 0:
        raise Unfinished
    if data[at - 1 : at] != b"\r" or b"\r" in data[: at - 1]:
        raise Wrong
    return data[: at - 1], data[at + 1 :]


def _fields(data: bytes) -> tuple[list[tuple[str, str]], bytes]:
    found: list[tuple[str, str]] = []
    while True:
        line, data = _line(data)
        if not line:
            return found, data
        name, colon, value = line.partition(b":")
        if not colon or not name or not _TOKEN.issuperset(name) or not _TEXT.issuperset(value):
            raise Wrong
        found.append((name.decode().lower(), value.strip(b" \t").decode("latin-1")))


def _request(data: bytes) -> tuple[Asked, bytes]:
    data = data.removeprefix(b"\r\n")
    line, data = _line(data)
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Wrong
    if not parts[0] or not parts[1] or not _TOKEN.issuperset(parts[0]) or not _VISIBLE.issuperset(parts[1]):
        raise Wrong
    fields, data = _fields(data)
    is_1_1 = parts[2] == b"HTTP/1.1"
    hosts = [value for name, value in fields if name == "host"]
    if len(hosts) > 1 or (is_1_1 and not hosts):
        raise Wrong
    options = [one.strip(" \t").lower() for name, value in fields if name == "connection" for one in value.split(",")]
    asked = Asked(parts[0].decode(), parts[1].decode(), b"", False, host="".join(hosts))
    asked.is_last = "close" in options if is_1_1 else "keep-alive" not in options
    lengths = [value for name, value in fields if name == "content-length"]
    codings = [value for name, value in fields if name == "transfer-encoding"]
    if codings:
        if lengths or not is_1_1 or len(codings) > 1 or codings[0].lower() != "chunked":
            raise Wrong
        return _chunks(asked, data)
    if lengths:
        if len(lengths) > 1 or not lengths[0] or not _DIGITS.issuperset(lengths[0].encode("latin-1")):
            raise Wrong
        size = int(lengths[0])
        asked.body, data = data[:size], data[size:]
        asked.is_whole = len(asked.body) == size
        return asked, data
    asked.is_whole = True
    return asked, data


def _chunks(asked: Asked, data: bytes) -> tuple[Asked, bytes]:
    try:
        while True:
            line, data = _line(data)
            digits = line.partition(b";")[0].rstrip(b" \t")
            if not digits or not _HEX.issuperset(digits) or not _TEXT.issuperset(line):
                raise Wrong
            size = int(digits, 16)
            if not size:
                break
            asked.body += data[:size]
            if len(data) < size + 2:
                raise Unfinished
            if data[size : size + 2] != b"\r\n":
                raise Wrong
            data = data[size + 2 :]
        _, data = _fields(data)
    except (Wrong, Unfinished):
        return asked, b""
    asked.is_whole = True
    return asked, data
