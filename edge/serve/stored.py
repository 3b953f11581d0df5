"""What is not open here but in the store: looked up in the index, opened where no disk is waited for."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from edge.errors import DiskError, EdgeError
from edge.serve import answer
from edge.serve.objects import OpenObject, open_file
from edge.serve.plan import response_plan
from edge.serve.router import Resource, Route
from edge.store.disk import Disk
from edge.store.record import Held, Record
from edge.terms import Outcome

if TYPE_CHECKING:
    from edge.serve.connection import Connection


def look_up(connection: Connection, route: Route, resource: Resource) -> None:
    """Open what the index has, if it is fresh and holds what is wanted; else ask the manager."""
    worker = connection.worker
    record = worker.store.lookup(resource.key)
    if record is not None and record.fresh_until > worker.now and _holds(connection, record):
        disk = worker.store.place(record)
        if disk is not None:
            _open(connection, route, resource, record, disk)
            return
    worker.misses.want(connection, route, resource)


def _holds(connection: Connection, record: Record) -> bool:
    if record.complete:
        return True
    plan = response_plan(connection.method.decode(), connection.block, record, record.size)
    held = Held(record.size, record.slice_size, record.held)
    return not any(held.missing(start, end) for start, end in plan.spans)


def _open(connection: Connection, route: Route, resource: Resource, record: Record, disk: Disk) -> None:
    if disk.in_memory:
        try:
            fd = open_file(disk, resource.key, record)
        except DiskError as error:
            _not_there(connection, route, resource, record, disk, error)
            return
        _opened(connection, resource, record, disk, fd)
        return
    delivery = connection.delivery
    delivery.is_waiting = True
    generation = delivery.generation
    task = disk.in_pool(open_file, disk, resource.key, record)

    def done(task: asyncio.Future[int]) -> None:
        error = None if task.cancelled() else task.exception()
        is_ours = delivery.is_busy and delivery.generation == generation
        if error is None and not task.cancelled():
            if not is_ours:
                os.close(task.result())
                return
            delivery.is_waiting = False
            with_refusal(connection, lambda: _opened(connection, resource, record, disk, task.result()))
        elif is_ours and isinstance(error, DiskError):
            delivery.is_waiting = False
            with_refusal(connection, lambda: _not_there(connection, route, resource, record, disk, error))

    task.add_done_callback(done)


def _opened(connection: Connection, resource: Resource, record: Record, disk: Disk, fd: int) -> None:
    opened = OpenObject(resource.key, record, fd, disk.tier, disk)
    if record.complete:
        connection.worker.hot.put(opened)
        answer.deliver_hot(connection, opened, Outcome.HIT)
    else:
        answer.deliver(connection, opened, None, Outcome.HIT)
        opened.let_go()


def _not_there(
    connection: Connection, route: Route, resource: Resource, record: Record, disk: Disk, error: DiskError
) -> None:
    worker = connection.worker
    worker.page.error(error.reason)
    worker.misses.tell_lost(resource.key, record.generation, disk.number, error.reason)
    worker.misses.want(connection, route, resource)


def with_refusal(connection: Connection, work: answer.Work) -> None:
    """Do what answers a request later than at once: its errors are the request's all the same."""
    try:
        work()
    except EdgeError as error:
        connection.refuse(error)
