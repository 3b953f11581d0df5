"""One server in one process or several, on one port, until SIGTERM or Ctrl-C."""

import asyncio
import os
import signal
import socket
from typing import Protocol

import uvloop

_BACKLOG = 1024


class Server(Protocol):
    siblings: list[int]  # private ports of all the processes

    @property
    def url(self) -> str: ...

    async def start(self, *listening: socket.socket) -> object: ...

    async def stop(self) -> None: ...


async def _serve(server: Server, sockets: list[socket.socket], watched_fd: int | None) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    if watched_fd is not None:
        loop.add_reader(watched_fd, over.set)  # readable when the first process is gone, however it went
    await server.start(*sockets)
    if watched_fd is None:
        print(f"origin: {server.url}", flush=True)
    await over.wait()
    await server.stop()


def _bound(host: str, port: int, count: int) -> list[socket.socket]:
    """A listening socket for each process, all on one port."""
    first = socket.create_server((host, port), backlog=_BACKLOG, reuse_port=count > 1)
    port = first.getsockname()[1]
    others = (socket.create_server((host, port), backlog=_BACKLOG, reuse_port=True) for _ in range(count - 1))
    return [first, *others]


def run(server: Server, host: str, port: int, count: int) -> None:
    """Serve in `count` processes, this one among them. OSError when the address is not to be had."""
    public = _bound(host, port, count)
    private = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)] if count > 1 else []
    server.siblings = [sock.getsockname()[1] for sock in private]
    watched_fd, held_fd = os.pipe()
    own, children = 0, []
    for number in range(1, count):
        child = os.fork()
        if child == 0:
            own = number
            os.close(held_fd)
            break
        children.append(child)
    for number in range(count):
        if number != own:
            public[number].close()
            private[number].close()
    uvloop.run(_serve(server, [public[own], *private[own : own + 1]], watched_fd if own else None))
    if own == 0:
        os.close(held_fd)
        for child in children:
            os.waitpid(child, 0)
