"""From a request to its response: route, look up, and put the head together."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.errors import MethodNotAllowed, RequestError, UnknownMethod
from edge.http.dates import http_date
from edge.http.head import Block
from edge.http.ranges import content_range, multipart_layout, unsatisfied_range
from edge.serve import stored
from edge.serve.heads import CHUNKED, VIA, age_lines, field_lines, status_line
from edge.serve.objects import FlightView, OpenObject
from edge.serve.plan import Plan, response_plan
from edge.serve.router import Route
from edge.terms import Outcome, Source

if TYPE_CHECKING:
    from edge.serve.connection import Connection

Work = Callable[[], None]

_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_KNOWN = _SAFE | {b"POST", b"PUT", b"PATCH", b"DELETE", b"TRACE"}
ALLOW = "GET, HEAD, OPTIONS"
_NOT_MODIFIED_FIELDS = frozenset(
    ("cache-control", "content-location", "date", "etag", "expires", "last-modified", "vary")
)
_FORWARDED = {
    Outcome.MISS: "fwd=uri-miss; stored",
    Outcome.PARTIAL: "fwd=partial; stored",
    Outcome.REVALIDATED: "fwd=stale; fwd-status=304",
    Outcome.STALE: "hit; ttl=TTL",
    Outcome.BYPASS: "fwd=uri-miss",
    Outcome.ERROR: "fwd=uri-miss",
}


def answer(connection: Connection, block: Block) -> None:
    """Route a request and answer it, from what is open, from the store, or by way of the manager.

    Raises RequestError for what cannot be answered.
    """
    worker = connection.worker
    minor = connection.minor == b"1"
    connection.keeps = worker.accepts and (not block.closes if minor else block.keeps_alive_1_0)
    connection.resumptions = 0
    delivery = connection.delivery
    delivery.outcome, delivery.source, delivery.status = Outcome.ERROR, Source.EDGE, 0
    if not minor and block.body_length == -1:
        raise RequestError("a transfer coding in HTTP/1.0")
    route = worker.router.route(block.host, required=minor)
    block.route = route
    if (block.is_plain or block.is_from_zero) and not block.closes:
        block.aliases = route.aliases
    if connection.method not in _KNOWN and not (route.any_method and connection.method != b"CONNECT"):
        raise UnknownMethod(connection.method.decode("latin-1"))
    if connection.method not in _SAFE and not route.any_method:
        raise MethodNotAllowed(connection.method.decode("latin-1"))
    connection.resource = resource = route.resource(connection.target)
    if connection.method not in (b"GET", b"HEAD") or block.body_length is not None:
        worker.misses.pass_on(connection, route, resource)
        return
    opened = worker.hot.get(resource.key)
    if opened is not None and opened.fresh_until > worker.now:
        _alias(connection, route, opened)
        deliver(connection, opened, None, Outcome.HIT)
    else:
        stored.look_up(connection, route, resource)


def _alias(connection: Connection, route: Route, opened: OpenObject) -> None:
    if len(route.aliases) >= 2 * connection.worker.config.limits.open_objects:
        route.aliases.clear()
    if opened.is_plain and opened.size:
        connection.worker.hot.keep_small(opened)
        route.aliases[connection.target] = opened


def deliver_hot(connection: Connection, opened: OpenObject, outcome: Outcome) -> None:
    """A whole object was opened for us and is kept open."""
    if isinstance(connection.block.route, Route):
        _alias(connection, connection.block.route, opened)
    deliver(connection, opened, None, outcome)


def deliver(connection: Connection, opened: OpenObject, view: FlightView | None, outcome: Outcome) -> None:
    """Answer from an object that is here, or is arriving."""
    opened.users += 1
    opened.hits += 1
    delivery = connection.delivery
    delivery.outcome = outcome
    delivery.source = opened.source if outcome is Outcome.HIT or outcome is Outcome.REVALIDATED else Source.ORIGIN
    size = view.size if view is not None else opened.size
    method = connection.method.decode("ascii")
    plan = response_plan(method, connection.block, opened.record, size)
    delivery.status = plan.status
    if (
        view is not None
        and plan.end > plan.start
        and not connection.worker.misses.covers(connection, plan.start, plan.end)
    ):
        delivery.object, delivery.view = opened, view
        connection.worker.misses.want_span(connection, plan.start, plan.end)
        return
    layout, boundary = None, ""
    if plan.parts:
        boundary = f"edge-{os.urandom(12).hex()}"
        layout = multipart_layout(plan.parts, size, opened.record.field("content-type"), boundary)
    length = layout.length if layout is not None else plan.end - plan.start
    head = _head(connection, opened, plan, size, length, outcome, boundary)
    if connection.method == b"HEAD" or plan.status in (304, 412) or (plan.end == plan.start and size >= 0):
        delivery.send_file(head, opened, view, 0, 0)
    elif size < 0 and view is not None:
        _deliver_unknown(connection, head, opened, view)
    elif layout is not None:
        delivery.send_parts(head, opened, view, layout)
    else:
        delivery.send_file(head, opened, view, plan.start, plan.end)


def _deliver_unknown(connection: Connection, head: bytes, opened: OpenObject, view: FlightView) -> None:
    if connection.minor == b"1":
        connection.delivery.send_chunks(head, opened, view)
    else:
        # HTTP/1.0 cannot be told where a body of unknown length ends, but by closing: wait until it is known
        connection.delivery.object, connection.delivery.view = opened, view
        connection.worker.misses.await_landing(connection, view)


def _head(
    connection: Connection,
    opened: OpenObject,
    plan: Plan,
    size: int,
    length: int,
    outcome: Outcome,
    boundary: str,
) -> bytes:
    record = opened.record
    now = connection.worker.now
    detail = f"hit; ttl=TTL; detail={opened.source}" if outcome is Outcome.HIT else _FORWARDED[outcome]
    parts = [status_line(plan.status)]
    if plan.status == 304:
        parts.append(field_lines(pair for pair in record.fields if pair[0].lower() in _NOT_MODIFIED_FIELDS) + VIA)
    elif plan.status in (412, 416):
        parts.append(f"Date: {http_date(now)}\r\n".encode() + VIA)
    elif boundary:
        parts.append(field_lines(pair for pair in record.fields if pair[0].lower() != "content-type") + VIA)
        parts.append(f"Content-Type: multipart/byteranges; boundary={boundary}\r\n".encode())
    else:
        parts.append(opened.lines)
    parts.append(age_lines(record, now, detail))
    if plan.status == 416:
        parts.append(f"Content-Range: {unsatisfied_range(size)}\r\n".encode())
    if plan.status == 206 and not boundary:
        parts.append(f"Content-Range: {content_range(plan.start, plan.end, size)}\r\n".encode())
    if plan.status != 304 and (size >= 0 or plan.status == 412):
        parts.append(b"Content-Length: %d\r\nAccept-Ranges: bytes\r\n" % length)
    elif plan.status != 304 and connection.minor == b"1":
        parts.append(CHUNKED)
    parts.append(connection.connection_line())
    parts.append(b"\r\n")
    return b"".join(parts)
