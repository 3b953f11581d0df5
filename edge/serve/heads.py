"""Response heads as bytes: what stays is made once for an object, what changes by the second once a second."""

from __future__ import annotations

from collections.abc import Container, Iterable

from edge.errors import EdgeError
from edge.fill.messages import Fate
from edge.http.cachestatus import CacheStatus
from edge.http.cors import PREFIX as CORS_PREFIX
from edge.http.cors import CorsPolicy
from edge.http.dates import http_date
from edge.http.fields import Fields
from edge.http.statuses import REASONS
from edge.store.record import Record
from edge.terms import Source

CACHE = "edge"
"""This cache's name in Cache-Status and Via."""
VIA = b"Via: 1.1 edge\r\n"
CLOSE = b"Connection: close\r\n"
KEEP = b"Connection: keep-alive\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

NOT_OF_A_PART = ("content-digest", "content-md5", "content-range")
"""Fields of a 200 that would be wrong on a part of it: digests of the content (RFC 9530, 2), and what only means
something on a 206 (RFC 9110, 14.4).
"""

STATUS_LINES = {code: f"HTTP/1.1 {code} {phrase}\r\n".encode() for code, phrase in REASONS.items()}


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()


def field_lines(fields: Iterable[tuple[str, str]]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in fields]).encode("latin-1")


def response_lines(fields: Iterable[tuple[str, str]], cors: CorsPolicy | None, without: Container[str] = ()) -> bytes:
    """An origin's fields as every response carries them; where CORS is ours, the origin's word on it is not."""
    kept = [pair for pair in fields if pair[0].lower() not in without]
    if cors is None:
        return field_lines(kept) + VIA
    return field_lines(pair for pair in kept if not pair[0].lower().startswith(CORS_PREFIX)) + VIA + cors.shared_lines


def cors_lines(cors: CorsPolicy | None, request: Fields) -> bytes:
    """What a response has beside `response_lines`, where that depends on the web site which asks."""
    return b"" if cors is None or cors.is_constant else cors.own_lines(request.get("origin"))


def age_lines(record: Record, now: float, source: Source, fate: Fate | None) -> bytes:
    """Age (RFC 9111, 5.1), to the nearest second, and Cache-Status (RFC 9211)."""
    age_s = record.age_s(now)
    ttl_s = int(record.lifetime_s - age_s)
    if fate is not None:
        return f"Age: {int(age_s + 0.5)}\r\n".encode() + forwarded_line(fate, ttl_s)
    before, after = _HITS[source]
    return f"Age: {int(age_s + 0.5)}\r\nCache-Status: {before}{ttl_s}{after}\r\n".encode()


def forwarded_line(fate: Fate, ttl_s: int | None = None) -> bytes:
    """Cache-Status of an answer that the origin was asked for; `ttl_s` where it is from the store."""
    status = CacheStatus(
        fwd=fate.forward,
        fwd_status=fate.status or None,
        ttl_s=ttl_s,
        stored=fate.stored,
        collapsed=fate.collapsed or None,
    )
    return f"Cache-Status: {status.render(CACHE)}\r\n".encode()


def _around_ttl(source: Source) -> tuple[str, str]:
    before, _, after = CacheStatus(hit=True, ttl_s=0, detail=source.value).render(CACHE).partition("ttl=0")
    return f"{before}ttl=", after


_HITS = {source: _around_ttl(source) for source in Source}
"""A hit's Cache-Status, but for the ttl: made anew for every object in every second that it is asked for."""


def error_response(error: EdgeError, now: float, *, close: bool, allow: str = "", head_only: bool = False) -> bytes:
    """A short answer of our own. It tells the reason's name and nothing of the cause."""
    body = f"{error.status} {error.reason}\n".encode()
    head = (
        status_line(error.status)
        + f"Date: {http_date(now)}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n".encode()
        + b"Cache-Control: no-store\r\n"
        + VIA
        + (f"Allow: {allow}\r\n".encode() if allow else b"")
        + (f"Retry-After: {_RETRY_AFTER_S}\r\n".encode() if error.status == 503 else b"")
        + (CLOSE if close else b"")
        + b"\r\n"
    )
    return head if head_only else head + body


_RETRY_AFTER_S = 1
