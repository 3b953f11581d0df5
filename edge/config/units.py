"""Quantities as people write them: "64MiB", "30s", "0.0.0.0:80"."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?B)?", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def size_bytes(text: object) -> int:
    """Bytes of "512M", "8GiB", "1.5 TB" or a plain number; K, M, G, T and P are powers of 1024 either way."""
    if isinstance(text, bool):
        raise ValueError('a size is a number of bytes or text such as "64MiB"')
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError('a size is a number of bytes or text such as "64MiB"')
    return int(float(match[1]) * 1024 ** _POWERS[match[2].upper()])


def duration_s(text: object) -> float:
    """Seconds of "250ms", "30s", "15m", "2h", "7d", "1w" or a plain number of seconds."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError('a duration is a number of seconds or text such as "250ms", "30s", "15m", "2h", "7d"')
    return float(match[1]) * _SECONDS[match[2]]


def split_address(text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:80", "[::]:80" or ":80" (every address)."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError('an address is "HOST:PORT", such as "0.0.0.0:80" or "[::]:80"')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError('an IPv6 address needs brackets: "[::1]:80"')
    return host, int(port)


def _address(text: object) -> object:
    if not isinstance(text, str):
        raise ValueError('an address is text: "HOST:PORT"')
    split_address(text)
    return text


Bytes = Annotated[int, BeforeValidator(size_bytes)]
Seconds = Annotated[float, BeforeValidator(duration_s)]
Address = Annotated[str, BeforeValidator(_address)]
