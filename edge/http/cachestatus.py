"""Cache-Status: how this cache handled a request (RFC 9211)."""

import re
from dataclasses import dataclass
from enum import StrEnum

_TOKEN_TEXT = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")  # RFC 8941, 3.3.4
_PRINTABLE = re.compile(r"[\x20-\x7e]*")

TTL_MAX_S = 999_999_999_999_999  # the digits of a Structured Field's Integer (RFC 8941, 3.3.1)


class Forward(StrEnum):
    """Why the request went on towards the origin (RFC 9211, 2.2); the most specific that is known."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    MISS = "miss"
    REQUEST = "request"
    STALE = "stale"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One cache's part in a response: a hit, or why the request was forwarded and what came of it.

    ValueError for a combination RFC 9211, 2 excludes. `ttl_s` is whole seconds, negative once stale.
    """

    hit: bool = False
    fwd: Forward | None = None
    fwd_status: int | None = None
    ttl_s: int | None = None
    stored: bool = False
    collapsed: bool | None = None
    key: str | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        if self.hit and self.fwd is not None:
            raise ValueError("a hit is not forwarded")
        if self.fwd is None and (self.fwd_status is not None or self.stored or self.collapsed is not None):
            raise ValueError("fwd-status, stored and collapsed need fwd")

    def render(self, cache: str) -> str:
        """The list member; `cache` as `identifier` gives it."""
        parts = [cache]
        if self.hit:
            parts.append("hit")
        if self.fwd is not None:
            parts.append(f"fwd={self.fwd.value}")
            if self.fwd_status is not None:
                parts.append(f"fwd-status={self.fwd_status}")
        if self.ttl_s is not None:
            parts.append(f"ttl={max(-TTL_MAX_S, min(self.ttl_s, TTL_MAX_S))}")
        if self.stored:
            parts.append("stored")
        if self.collapsed is not None:
            parts.append("collapsed" if self.collapsed else "collapsed=?0")
        if self.key is not None:
            parts.append(f"key={_string(self.key)}")
        if self.detail is not None:
            parts.append(f"detail={identifier(self.detail)}")
        return "; ".join(parts)


def identifier(name: str) -> str:
    """A cache's name as a Token where it is one, else as a String."""
    return name if _TOKEN_TEXT.fullmatch(name) else _string(name)


def appended(existing: str | None, member: str) -> str:
    """The field's value with this cache last: nearest to the client, those before untouched (RFC 9211, 2)."""
    return f"{existing}, {member}" if existing else member


def _string(text: str) -> str:
    if not _PRINTABLE.fullmatch(text):
        text = "".join(
            character if " " <= character <= "~" else "".join(f"%{octet:02X}" for octet in _octets(character))
            for character in text
        )
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _octets(character: str) -> bytes:
    return character.encode("utf-8", "surrogatepass")
