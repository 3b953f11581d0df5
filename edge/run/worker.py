"""The worker process: `python -m edge.run.worker INDEX CONFIG_FD READY_FD SECRET_FD LISTENER_FD…`.

The supervisor starts it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

from edge.clock import SystemClock
from edge.config import Config
from edge.metrics import Page
from edge.run import child
from edge.serve.tickets import SECRET_BYTES
from edge.serve.worker import Worker
from edge.store.layout import Layout


async def _serve(config: Config) -> None:
    index, ready_fd, secret_fd = int(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
    listeners = [socket.socket(fileno=int(fd)) for fd in sys.argv[5:]]
    ticket_secret = os.pread(secret_fd, SECRET_BYTES, 0)
    os.close(secret_fd)
    page = Page(Layout(config).page(f"worker-{index}"))
    told = child.until_told()
    worker = Worker(config, SystemClock(), page, listeners, ticket_secret)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, worker.reopen_log)
    worker.start()
    child.ready(ready_fd)
    await told.wait()
    await worker.drain()


if __name__ == "__main__":
    child.start(f"worker-{sys.argv[1]}", _serve, int(sys.argv[2]))
