"""What is not open here but in the store: looked up in the index, opened where no disk is waited for."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, NamedTuple

from edge.errors import DiskError, EdgeError
from edge.routing import Resource, Route
from edge.serve import answer
from edge.serve.objects import OpenObject, open_file
from edge.serve.plan import response_plan
from edge.store.disk import Disk
from edge.store.record import Held, Record
from edge.store.variants import key_of_variant
from edge.terms import Outcome

if TYPE_CHECKING:
    from edge.serve.connection import Connection


def look_up(connection: Connection, route: Route, resource: Resource) -> None:
    """Open what the index has, if it is fresh and holds what is wanted; else ask the manager."""
    worker = connection.worker
    key, record = resource.key, worker.store.lookup(resource.key)
    if record is not None and record.is_marker:
        key = key_of_variant(resource.url, record.selecting, connection.block.end_to_end)
        opened = worker.hot.get(key)
        if opened is not None and (outcome := answer.usable(connection, route, opened.record)) is not None:
            answer.deliver_hot(connection, opened, outcome)
            return
        record = worker.store.lookup(key)
    if record is not None and (outcome := answer.usable(connection, route, record)) and _holds(connection, record):
        disk = worker.store.place(record)
        if disk is not None:
            _open(Found(connection, route, resource, key, record, disk, outcome))
            return
    worker.misses.want(connection, route, resource)


class Found(NamedTuple):
    """What the index has for a request."""

    connection: Connection
    route: Route
    resource: Resource
    key: bytes
    """The object's own: of the resource, or of one of its variants."""
    record: Record
    disk: Disk
    outcome: Outcome


def _holds(connection: Connection, record: Record) -> bool:
    if record.complete:
        return True
    if connection.method == b"HEAD":
        return record.size >= 0
    plan = response_plan(connection.method.decode(), connection.block, record, record.size)
    held = Held(record.size, record.slice_size, record.held)
    return not any(held.missing(start, end) for start, end in plan.spans)


def _open(found: Found) -> None:
    connection, disk = found.connection, found.disk
    if disk.in_memory:
        try:
            fd = open_file(disk, found.key, found.record)
        except DiskError as error:
            _not_there(found, error)
            return
        _opened(found, fd)
        return
    delivery = connection.delivery
    delivery.is_waiting = True
    generation = delivery.generation
    task = disk.in_pool(open_file, disk, found.key, found.record)

    def done(task: asyncio.Future[int]) -> None:
        error = None if task.cancelled() else task.exception()
        is_ours = delivery.is_busy and delivery.generation == generation
        if error is None and not task.cancelled():
            if not is_ours:
                os.close(task.result())
                return
            delivery.is_waiting = False
            with_refusal(connection, lambda: _opened(found, task.result()))
        elif is_ours and isinstance(error, DiskError):
            delivery.is_waiting = False
            with_refusal(connection, lambda: _not_there(found, error))

    task.add_done_callback(done)


def _opened(found: Found, fd: int) -> None:
    connection, record, disk = found.connection, found.record, found.disk
    opened = OpenObject(found.key, record, fd, disk.tier, disk, found.route.cors)
    if record.complete:
        connection.worker.hot.put(opened)
        answer.deliver_hot(connection, opened, found.outcome)
    else:
        answer.deliver(connection, opened, None, found.outcome)
        opened.let_go()


def _not_there(found: Found, error: DiskError) -> None:
    worker = found.connection.worker
    worker.page.error(error.reason)
    worker.misses.tell_lost(found.key, found.record.generation, found.disk.number, error.reason)
    worker.misses.want(found.connection, found.route, found.resource)


def with_refusal(connection: Connection, work: answer.Work) -> None:
    """Do what answers a request later than at once: its errors are the request's all the same."""
    try:
        work()
    except EdgeError as error:
        connection.refuse(error)
