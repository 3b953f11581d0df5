"""Behind a flight: what its progress and its end mean to the deliveries that follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import EdgeError
from edge.serve import answer
from edge.serve.objects import FlightView
from edge.serve.plan import Plan, response_plan
from edge.serve.stored import with_refusal
from edge.store.record import Held, Record
from edge.terms import Reason

if TYPE_CHECKING:
    from edge.serve.connection import Connection

_TIMEOUTS = frozenset((Reason.ORIGIN_TIMEOUT, Reason.ORIGIN_STALLED))


class RemoteError(EdgeError):
    """What the manager said of a failure."""

    def __init__(self, status: int, reason: Reason) -> None:
        super().__init__("", reason)
        self.status = status  # type: ignore[misc]


def wake(view: FlightView) -> None:
    """More is here: those who wait for it go on."""
    if not view.deliveries:
        return
    waiting, view.deliveries = view.deliveries, set()
    for delivery in waiting:
        if delivery.view is view:
            delivery.more()


def land(view: FlightView, size: int, reason: Reason | None) -> None:
    """The flight has ended: what is here is all there will be of it."""
    view.has_landed = True
    view.size = size
    view.reason = reason
    wake(view)
    awaiting, view.awaiting = view.awaiting, []
    for connection in awaiting:
        if connection.delivery.view is view:
            _answer_landed(connection, view)
    view.object.let_go()


def _answer_landed(connection: Connection, view: FlightView) -> None:
    """The length is known, or will never be: now the head can be sent."""
    delivery = connection.delivery
    delivery.is_waiting = False
    if view.reason is not None:
        connection.refuse(RemoteError(504 if view.reason in _TIMEOUTS else 502, view.reason))
        return
    delivery.object = delivery.view = None
    view.object.users -= 1  # deliver() counts it again
    with_refusal(connection, lambda: answer.deliver(connection, view.object, view, delivery.outcome))


def lacking(connection: Connection, record: Record) -> Plan | None:
    """What a request comes to, where that is not all here."""
    plan = response_plan(connection.method.decode("ascii"), connection.block, record, record.size)
    held = Held(record.size, record.slice_size, record.held)
    return plan if held.missing(plan.start, plan.end) else None
