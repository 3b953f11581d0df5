"""The worker process: `python -m edge.run.worker INDEX CONFIG_FD READY_FD LISTENER_FD…`, started by the supervisor."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

from edge.clock import SystemClock
from edge.config import Config
from edge.metrics import Page
from edge.run import child
from edge.serve.worker import Worker
from edge.store.layout import Layout


async def _serve(config: Config) -> None:
    index, ready_fd = int(sys.argv[1]), int(sys.argv[3])
    listeners = [socket.socket(fileno=int(fd)) for fd in sys.argv[4:]]
    page = Page(Layout(config).page(f"worker-{index}"))
    told = child.until_told()
    worker = Worker(config, SystemClock(), page, listeners)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, worker.reopen_log)
    worker.start()
    child.ready(ready_fd)
    await told.wait()
    await worker.drain()


if __name__ == "__main__":
    child.start(f"worker-{sys.argv[1]}", _serve, int(sys.argv[2]))
