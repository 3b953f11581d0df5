"""What worker and manager processes have in common: configuration from the supervisor, signals, readiness."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from edge.config import Config, config_from_json
from edge.limits import raise_open_files
from edge.logs import setup

_PR_SET_PDEATHSIG = 1


def start(role: str, main: Callable[[Config], Awaitable[None]], config_fd: int) -> None:
    """Run a process of the daemon until its `main` returns."""
    # a supervisor that was killed must not leave processes behind that hold the store
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # all processes share this descriptor's position, so none may move it
    config = config_from_json(os.pread(config_fd, os.fstat(config_fd).st_size, 0))
    os.close(config_fd)
    setup(config.log.level, role)
    raise_open_files()
    gc.collect()
    gc.freeze()
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(main, config))
    sys.exit(0)


async def _main(main: Callable[[Config], Awaitable[None]], config: Config) -> None:
    await main(config)


def ready(fd: int) -> None:
    """Tell the supervisor that this process does its work."""
    os.write(fd, b"1")
    os.close(fd)


def until_told() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, event.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # a terminal's Ctrl-C reaches all: the supervisor decides
    return event
