"""What the store here cannot answer, asked of the manager."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from edge import ipc
from edge.errors import BodyTooLarge, EdgeError, ManagerGone, Overloaded
from edge.fill.messages import (
    Arrived,
    Failed,
    FromManager,
    Hinted,
    Hot,
    Identity,
    Landed,
    Leave,
    Lost,
    Opened,
    Passed,
    Passing,
    Uploaded,
    Want,
)
from edge.http.fields import Fields
from edge.http.validators import strongest
from edge.routing import Resource, Route, cors_of
from edge.serve import answer
from edge.serve.following import RemoteError, lacking, land, wake
from edge.serve.heads import field_lines, status_line
from edge.serve.objects import FlightView, OpenObject
from edge.serve.plan import span_of, wanted_range
from edge.serve.relay import Relay
from edge.serve.stored import with_refusal
from edge.serve.upload import Upload
from edge.terms import Reason, TierName

if TYPE_CHECKING:
    from edge.serve.connection import Connection
    from edge.serve.worker import Worker

_RECONNECT_S = 0.05
_PATIENCE_S = 5.0
"""How long clients wait for a manager that is being replaced."""
_RESUMPTIONS = 3
_PENDING_MAX = 20_000
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))


class Misses:
    def __init__(self, worker: Worker, manager_socket: str) -> None:
        self._worker = worker
        self._path = manager_socket
        self._channel: ipc.Channel[FromManager] | None = None
        self._ids = itertools.count(1)
        self._pending: dict[int, tuple[Connection, Want]] = {}
        """Asked and not yet answered."""
        self._served: dict[int, Connection] = {}
        """Answered, and following a flight or a pipe."""
        self._relays: dict[int, Relay] = {}
        self._views: dict[int, FlightView] = {}
        self._gone_since: float | None = None

    # asking

    def tell_lost(self, key: bytes, generation: int, disk: int, reason: Reason) -> None:
        """A file that the index names is not there, or cannot be read."""
        self._send(Lost(key, generation, disk, reason))

    def lost(self, opened: OpenObject, reason: Reason) -> None:
        """A file that was open cannot be read."""
        self._worker.hot.forget(opened)
        number = opened.disk.number if opened.disk is not None else opened.record.home
        self.tell_lost(opened.key, opened.record.generation, number, reason)

    def hot(self, opened: OpenObject) -> None:
        """Asked for repeatedly: the manager may want it in RAM."""
        self._send(Hot(opened.key))

    def want(self, connection: Connection, route: Route, resource: Resource) -> None:
        """Ask for what a request is after."""
        block = connection.block
        start, end = span_of(wanted_range(block)) if block.range is not None else (None, None)
        if block.fields.get("if-range") is not None:
            # whether the range will be served is known when the object is: its beginning tells
            start, end = (0, 1) if start is not None else (start, end)
        self._ask(connection, route, resource, start=start, end=end, shared=connection.method == b"GET")

    def _ask(
        self,
        connection: Connection,
        route: Route,
        resource: Resource,
        *,
        start: int | None = None,
        end: int | None = None,
        shared: bool,
        continues: Identity | None = None,
        body_length: int | None = None,
        body: tuple[int, ...] = (),
    ) -> None:
        if len(self._pending) >= _PENDING_MAX:
            raise Overloaded("too many requests wait for the manager")
        number = next(self._ids)
        want = Want(
            number,
            resource.key,
            route.site.name,
            resource.url,
            connection.method.decode("latin-1"),
            connection.block.host or "",
            resource.target,
            connection.block.end_to_end.pairs,
            shared,
            start,
            end,
            body_length,
            continues,
        )
        connection.request = number
        connection.asked = (
            None if start is None and end is None else (start if start is not None else -1, end or 1 << 62)
        )
        connection.delivery.is_waiting = True
        connection.stop_writing()
        self._pending[number] = (connection, want)
        self._send(want, body)

    def want_span(self, connection: Connection, start: int, end: int) -> None:
        """The object turned out otherwise than the request assumed: ask for the bytes it comes to."""
        self._drop_request(connection)
        route = connection.block.route
        assert isinstance(route, Route)
        assert connection.resource is not None
        delivery = connection.delivery
        opened, delivery.object, delivery.view = delivery.object, None, None
        self._ask(connection, route, connection.resource, start=start, end=end, shared=True)
        if opened is not None:
            opened.release()

    def covers(self, connection: Connection, start: int, end: int) -> bool:
        """Whether the manager was asked for all of [start, end)."""
        asked = connection.asked
        if asked is None:
            return True
        if asked[0] < 0:  # a suffix: what it comes to was reckoned there as it was here
            return connection.block.range is not None and connection.delivery.status == 206
        return asked[0] <= start and end <= asked[1]

    def await_landing(self, connection: Connection, view: FlightView) -> None:
        """Answer when the body's length is known."""
        connection.delivery.is_waiting = True
        view.awaiting.append(connection)

    def resume(self, connection: Connection) -> bool:
        """Go on with a response under way from wherever its bytes can be had; whether that is possible."""
        connection.resumptions += 1
        return connection.resumptions <= _RESUMPTIONS and self.want_rest(connection)

    def want_rest(self, connection: Connection) -> bool:
        """Ask for what is left of the range under way, of the same representation; whether that is possible."""
        delivery = connection.delivery
        opened = delivery.object
        route, resource = connection.block.route, connection.resource
        if opened is None or not isinstance(route, Route) or delivery.chunked:
            return False
        if resource is None or resource.key != opened.key:
            connection.resource = resource = route.resource(connection.target)
        validators = strongest(Fields(opened.record.fields))
        if not validators or opened.record.size < 0:
            return False
        self._drop_request(connection)
        identity = Identity(opened.record.size, validators.etag, validators.last_modified)
        self._ask(
            connection,
            route,
            resource,
            start=delivery.position,
            end=delivery.end,
            shared=True,
            continues=identity,
        )
        return True

    def pass_on(self, connection: Connection, route: Route, resource: Resource) -> None:
        """A request for the origin alone, with its body."""
        length = connection.block.body_length
        if length is None:
            self._ask(connection, route, resource, shared=False)
            return
        if length > self._worker.config.limits.body_max:
            raise BodyTooLarge(f"a body of {length} bytes")
        if self._channel is None:
            raise ManagerGone
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._ask(connection, route, resource, shared=False, body_length=length, body=(reader,))
        except EdgeError:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        connection.upload = Upload(connection, writer, length)
        connection.upload.start()

    def uploaded(self, connection: Connection) -> None:
        """The request's body is in its pipe, whole."""
        self._send(Uploaded(connection.request))

    def leave(self, connection: Connection) -> None:
        """The connection's request needs nothing more."""
        self._drop_request(connection)

    def _drop_request(self, connection: Connection) -> None:
        number, connection.request = connection.request, 0
        if not number:
            return
        is_pending = self._pending.pop(number, None) is not None
        is_served = self._served.pop(number, None) is not None
        relay = self._relays.pop(number, None)
        if relay is not None:
            relay.close()
        if is_pending or is_served:
            self._send(Leave(number))

    # the manager

    def connect(self) -> None:
        """Connect to the manager, now and whenever it has been replaced."""
        worker = self._worker
        try:
            sock = ipc.connect(self._path)
        except OSError:
            now = worker.clock.monotonic()
            self._gone_since = self._gone_since or now
            if now - self._gone_since > _PATIENCE_S:
                self._fail_pending(ManagerGone())
            worker.loop.call_later(_RECONNECT_S, self.connect)
            return
        self._gone_since = None
        self._channel = ipc.Channel(sock, FromManager, self._receive, self._disconnected)
        for _, want in list(self._pending.values()):
            if want.body_length is None:
                self._channel.send(want)

    def _disconnected(self) -> None:
        self._channel = None
        self._gone_since = self._worker.clock.monotonic()
        views, self._views = self._views, {}
        for number, (_connection, want) in list(self._pending.items()):
            if want.body_length is not None or want.method not in _REPEATABLE:
                self._fail(number, ManagerGone())  # it may have been done: it is not done twice
        for relay in list(self._relays.values()):
            relay.finished(Reason.MANAGER_GONE)
        for view in views.values():
            land(view, view.size, Reason.MANAGER_GONE)
        self._worker.loop.call_soon(self.connect)

    def _send(self, message: Want | Leave | Hot | Lost | Uploaded, descriptors: tuple[int, ...] = ()) -> None:
        if self._channel is not None:
            self._channel.send(message, descriptors)

    def _receive(self, message: FromManager, descriptors: list[int]) -> None:
        match message:
            case Arrived():
                view = self._views.get(message.flight)
                if view is not None:
                    view.add(message.start, message.end)
                    wake(view)
            case Opened():
                self._opened(message, descriptors[0])
            case Landed():
                landed = self._views.pop(message.flight, None)
                if landed is not None:
                    land(landed, message.size, message.reason)
            case Passing():
                self._passing(message, descriptors)
            case Passed():
                relay = self._relays.get(message.id)
                if relay is not None:
                    relay.finished(message.reason)
            case Hinted():
                self._hinted(message)
            case Failed():
                self._fail(message.id, RemoteError(message.status, message.reason))

    def _hinted(self, message: Hinted) -> None:
        connection, _ = self._pending.get(message.id, (None, None))
        # a client of HTTP/1.0 knows of no informational responses (RFC 9110, 15.2)
        if (
            connection is None
            or connection.minor == b"0"
            or connection.delivery.out
            or connection.delivery.first_byte_s
        ):
            return
        data = status_line(message.status) + field_lines(message.fields) + b"\r\n"
        try:
            sent = connection.send(data, 0)
        except BlockingIOError:
            return  # nobody is owed a hint
        except OSError:
            connection.client_left()
            return
        if sent < len(data):
            connection.break_off(Reason.CLIENT_TOO_SLOW)

    def _opened(self, message: Opened, fd: int) -> None:
        connection, want = self._pending.pop(message.id, (None, None))
        if connection is None or want is None:
            os.close(fd)
            return
        connection.delivery.is_waiting = False
        record = message.record
        connection.delivery.fate, connection.delivery.also = message.fate, message.also
        view = self._views.get(message.flight)
        if view is not None:
            os.close(fd)
            opened = view.object
        else:
            disk = self._worker.store.place(record)
            cors = cors_of(connection.block.route)
            opened = OpenObject(message.key, record, fd, TierName(message.tier), disk, cors)
            if message.flight:
                view = self._views[message.flight] = FlightView(message.flight, opened)
        if view is None:
            connection.request = 0
        else:
            for start, end in message.runs:
                view.add(start, end)
            self._served[message.id] = connection
        if want.continues is not None:
            self._continue(connection, opened, view)
        elif view is None and (plan := lacking(connection, record)) is not None:
            # what was asked for is here, but not what the request comes to: If-Range has been judged only now
            route = connection.block.route
            assert isinstance(route, Route)
            assert connection.resource is not None
            self._ask(connection, route, connection.resource, start=plan.start, end=plan.end, shared=True)
        elif view is None and record.complete:
            self._worker.hot.put(opened)
            with_refusal(connection, lambda: answer.deliver_hot(connection, opened, message.outcome))
            return
        else:
            with_refusal(connection, lambda: answer.deliver(connection, opened, view, message.outcome))
        if view is None:
            opened.let_go()

    @staticmethod
    def _continue(connection: Connection, opened: OpenObject, view: FlightView | None) -> None:
        delivery = connection.delivery
        opened.users += 1
        if delivery.object is not None:
            delivery.object.release()
        delivery.object, delivery.view = opened, view
        delivery.pump()

    def _passing(self, message: Passing, descriptors: list[int]) -> None:
        connection, want = self._pending.pop(message.id, (None, None))
        if connection is None or want is None or want.continues is not None:
            for fd in descriptors:
                os.close(fd)
            if connection is not None:  # in the middle of a body no other head can be sent
                connection.break_off(Reason.ORIGIN_CHANGED)
            return
        connection.delivery.is_waiting = False
        self._served[message.id] = connection
        relay = Relay(connection, message, descriptors[0] if descriptors else -1)
        self._relays[message.id] = relay
        relay.start()

    def _fail(self, number: int, error: EdgeError) -> None:
        connection, want = self._pending.pop(number, (None, None))
        if connection is None or want is None:
            return
        connection.request = 0
        connection.delivery.is_waiting = False
        connection.refuse(error)

    def _fail_pending(self, error: EdgeError) -> None:
        for number in list(self._pending):
            self._fail(number, error)

    def sweep(self) -> None:
        """Let go of flights nobody here follows any more."""
        for number, view in list(self._views.items()):
            if not view.object.users:
                del self._views[number]
                view.object.let_go()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
