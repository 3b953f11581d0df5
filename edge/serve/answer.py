"""From a request to its response: route, look up, and put the head together."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.errors import MethodNotAllowed, RequestError, UnknownMethod
from edge.fill.reuse import verdict
from edge.http.conditions import not_modified_fields
from edge.http.cors import CorsPolicy, is_preflight
from edge.http.dates import http_date
from edge.http.directives import NO_DIRECTIVES
from edge.http.fields import Fields
from edge.http.freshness import Reuse, ReuseReason
from edge.http.head import NO_ALIASES, Block
from edge.http.ranges import content_range, multipart_layout, unsatisfied_range
from edge.routing import Route, cors_of
from edge.serve import stored
from edge.serve.heads import (
    CHUNKED,
    NOT_OF_A_PART,
    VIA,
    age_lines,
    cors_lines,
    field_lines,
    response_lines,
    status_line,
)
from edge.serve.objects import FlightView, OpenObject
from edge.serve.plan import Plan, response_plan
from edge.store.record import Record
from edge.terms import Outcome, Source

if TYPE_CHECKING:
    from edge.serve.connection import Connection

Work = Callable[[], None]

_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_KNOWN = _SAFE | {b"POST", b"PUT", b"PATCH", b"DELETE", b"TRACE"}
_FROM_STORE = frozenset((Outcome.HIT, Outcome.REVALIDATED, Outcome.STALE))
ALLOW = "GET, HEAD, OPTIONS"
_ALIASES_MAX = 1024
"""Targets that a block remembers for itself."""


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
    delivery.fate, delivery.also = None, ()
    if not minor and block.body_length == -1:
        raise RequestError("a transfer coding in HTTP/1.0")
    route = worker.router.route(block.host, required=minor)
    if block.route is not route:
        block.route = route
        block.aliases = route.aliases if _may_alias(block, route) else NO_ALIASES
    if connection.method not in _KNOWN and not (route.any_method and connection.method != b"CONNECT"):
        raise UnknownMethod(connection.method.decode("latin-1"))
    if connection.method not in _SAFE and not route.any_method:
        raise MethodNotAllowed(connection.method.decode("latin-1"))
    if route.cors is not None and is_preflight(connection.method, block.fields):
        _answer_preflight(connection, route.cors)
        return
    connection.resource = resource = route.resource(connection.target)
    if connection.method not in (b"GET", b"HEAD") or block.body_length is not None:
        worker.misses.pass_on(connection, route, resource)
        return
    opened = worker.hot.get(resource.key)
    outcome = None if opened is None else usable(connection, route, opened.record)
    if opened is not None and outcome is not None:
        deliver_hot(connection, opened, outcome)
    else:
        stored.look_up(connection, route, resource)


def _may_alias(block: Block, route: Route) -> bool:
    if route.cors is not None and not route.cors.is_constant and "origin" in block.fields:
        return False  # the head depends on who asks
    return (block.is_plain or block.is_from_zero) and not block.closes


def usable(connection: Connection, route: Route, record: Record) -> Outcome | None:
    """How a stored object may answer without the manager, as far as freshness goes; None: it may not."""
    directives = connection.block.directives
    now = connection.worker.now
    if directives is NO_DIRECTIVES:
        return Outcome.HIT if record.fresh_until > now else None
    found = verdict(record, directives, route.site, now)
    if found.reuse is Reuse.FRESH:
        return Outcome.HIT
    return Outcome.STALE if found.reason is ReuseReason.MAX_STALE else None


def _alias(connection: Connection, route: Route, opened: OpenObject) -> None:
    """Let the hot path find it next time."""
    worker, block = connection.worker, connection.block
    if not opened.is_plain or not opened.size:
        return
    worker.hot.keep_small(opened)
    if block.aliases is NO_ALIASES:
        return
    if opened.record.primary and block.aliases is route.aliases:
        # which variant it is depends on the fields: from now on the block remembers for itself
        block.aliases = {}
    bound = 2 * worker.config.limits.open_objects if block.aliases is route.aliases else _ALIASES_MAX
    if len(block.aliases) >= bound:
        block.aliases.clear()
    block.aliases[connection.target] = opened


def deliver_hot(connection: Connection, opened: OpenObject, outcome: Outcome) -> None:
    """A whole object was opened for us and is kept open."""
    if isinstance(connection.block.route, Route) and outcome is Outcome.HIT:
        _alias(connection, connection.block.route, opened)
    deliver(connection, opened, None, outcome)


def _answer_preflight(connection: Connection, cors: CorsPolicy) -> None:
    delivery = connection.delivery
    delivery.outcome, delivery.status = Outcome.HIT, 204
    head = (
        status_line(204)
        + f"Date: {http_date(connection.worker.now)}\r\n".encode()
        + VIA
        + cors.preflight_lines(connection.block.fields)
        + connection.connection_line()
        + b"\r\n"
    )
    delivery.send_bytes(head, connection.delivered)


def deliver(connection: Connection, opened: OpenObject, view: FlightView | None, outcome: Outcome) -> None:
    """Answer from an object that is here, or is arriving."""
    opened.users += 1
    opened.hits += 1
    delivery = connection.delivery
    delivery.outcome = outcome
    delivery.source = opened.source if outcome in _FROM_STORE else Source.ORIGIN
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
    head = _head(connection, opened, plan, size, length, boundary)
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


def _head(connection: Connection, opened: OpenObject, plan: Plan, size: int, length: int, boundary: str) -> bytes:
    record, delivery = opened.record, connection.delivery
    now = connection.worker.now
    cors = cors_of(connection.block.route)
    parts = [status_line(plan.status)]
    if plan.status == 304:
        parts.append(response_lines(not_modified_fields(Fields(record.fields)), cors))
    elif plan.status in (412, 416):
        parts.append(response_lines((("Date", http_date(now)),), cors))
    elif boundary:
        parts.append(response_lines(record.fields, cors, ("content-type", *NOT_OF_A_PART)))
        parts.append(f"Content-Type: multipart/byteranges; boundary={boundary}\r\n".encode())
    else:
        parts.append(opened.lines if plan.status == record.status else opened.part_lines)
    parts.append(cors_lines(cors, connection.block.fields))
    parts.append(field_lines(delivery.also))
    parts.append(age_lines(record, now, opened.source, delivery.fate))
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
