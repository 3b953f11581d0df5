"""Response heads as bytes: what stays is made once for an object, what changes by the second once a second."""

from __future__ import annotations

from collections.abc import Iterable

from edge.errors import EdgeError
from edge.http.dates import http_date
from edge.http.statuses import REASONS
from edge.store.record import Record

VIA = b"Via: 1.1 edge\r\n"
CLOSE = b"Connection: close\r\n"
KEEP = b"Connection: keep-alive\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

STATUS_LINES = {code: f"HTTP/1.1 {code} {phrase}\r\n".encode() for code, phrase in REASONS.items()}


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()


def field_lines(fields: Iterable[tuple[str, str]]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in fields]).encode("latin-1")


def stored_lines(record: Record) -> bytes:
    """The fields of a stored response, as every response from it carries them."""
    return field_lines(record.fields) + VIA


def age_lines(record: Record, now: float, status: str) -> bytes:
    """Age (RFC 9111, 5.1) and Cache-Status (RFC 9211); `status` is what follows the cache's name."""
    age_s = int(max(0.0, now - record.response_time) + record.initial_age_s)
    ttl_s = int(record.fresh_until - now)
    return f"Age: {age_s}\r\nCache-Status: edge; {status.replace('TTL', str(ttl_s))}\r\n".encode()


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
