"""The manager process: `python -m edge.run.manager CONFIG_FD READY_FD SOCKET_FD CONTROL_FD SUPERVISOR_PID`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from typing import Any

from edge import ipc
from edge.clock import SystemClock
from edge.config import Config
from edge.control.app import Control
from edge.fill.base import Base
from edge.fill.flights import Flights
from edge.fill.messages import FromWorker
from edge.fill.origin import OriginClient
from edge.logs import get_logger
from edge.metrics import HEARTBEAT, Page
from edge.run import child
from edge.store.layout import Layout
from edge.store.mover import Mover
from edge.store.recover import recover
from edge.store.tiers import Store

_HEARTBEAT_S = 1.0
_log = get_logger()


async def _manage(config: Config) -> None:
    _, _, ready_fd, socket_fd, control_fd, supervisor = sys.argv[:6]
    told = child.until_told()
    clock = SystemClock()
    page = Page(Layout(config).page("manager"))
    page.clear_gauges()
    store = Store(config, clock, page)
    origins = OriginClient(config, clock, page)
    mover = Mover(store)
    flights = Flights(Base(config, clock, page, store, origins), mover)
    control = Control(config, clock, store, flights, int(supervisor))
    _accept_workers(socket.socket(fileno=int(socket_fd)), flights)
    await control.start(socket.socket(fileno=int(control_fd)))
    background = [
        asyncio.create_task(work, name=name)
        for name, work in (
            ("index", store.run()),
            ("recovery", recover(store)),
            ("mover", mover.run()),
            ("heartbeat", _beat(page, store)),
        )
    ]
    child.ready(int(ready_fd))
    await _until(told, background)
    # in the order that lets nothing begin what the next step would have to undo
    await control.close()
    await flights.close()
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await origins.close()
    store.close()


async def _until(told: asyncio.Event, background: list[asyncio.Task[Any]]) -> None:
    """Wait to be told, or until something in the background broke: then better a new process than half of one."""
    waiting = asyncio.create_task(told.wait())
    pending: set[asyncio.Task[Any]] = {waiting, *background}
    while not waiting.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiting}:
            if task.exception() is not None:
                _log.critical("background work broke", task=task.get_name(), exc_info=task.exception())
                sys.stderr.flush()
                os._exit(1)  # an orderly end would wait for threads and tasks that may wait for what is broken


def _accept_workers(listener: socket.socket, flights: Flights) -> None:
    loop = asyncio.get_running_loop()
    listener.setblocking(False)

    def accept() -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = listener.accept()
            channel: ipc.Channel[FromWorker]
            channel = ipc.Channel(
                sock,
                FromWorker,
                lambda message, descriptors: flights.receive(channel, message, descriptors),
                lambda: flights.gone(channel),
            )

    loop.add_reader(listener.fileno(), accept)


async def _beat(page: Page, store: Store) -> None:
    while True:
        page.set(HEARTBEAT, int(store.clock.wall()))
        store.save_usage()
        await asyncio.sleep(_HEARTBEAT_S)


if __name__ == "__main__":
    child.start("manager", _manage, int(sys.argv[1]))
