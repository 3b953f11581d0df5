"""A whole worker in this process, over a real store; in the manager's place, one that remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge import ipc
from edge.config import Config
from edge.fill.messages import Failed, Fate, FromWorker, Leave, Passed, Passing, Uploaded, Want
from edge.http.cachestatus import Forward
from edge.metrics import Page
from edge.serve.connection import Connection
from edge.serve.secure import SecureConnection
from edge.serve.tickets import SECRET_BYTES
from edge.serve.worker import Worker
from edge.store.layout import Layout
from edge.terms import Reason
from tests.store import making

PEER = "client"

FATE = Fate(Forward.URI_MISS, 200)


class Clock:
    """The store's objects were made at a time that stands still; patience runs on."""

    wall = staticmethod(lambda: making.NOW + 10.0)
    monotonic = staticmethod(time.monotonic)


@dataclass
class Wanted:
    """A request as the manager was asked for it: its body so far, and whether it was said to be whole."""

    want: Want
    body: bytearray = field(default_factory=bytearray)
    pipe: int = -1
    is_uploaded: bool = False


class Manager:
    """Answers what names "fail" with an error, "early" before the body has come, and all else once it is there."""

    def __init__(self, path: str) -> None:
        self.wanted: dict[int, Wanted] = {}
        self._loop = asyncio.get_running_loop()
        self._listener = ipc.listen(path)
        self._channel: ipc.Channel[Any] | None = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        self._channel = ipc.Channel(sock, FromWorker, self._receive, lambda: None)

    def _receive(self, message: FromWorker, descriptors: list[int]) -> None:
        match message:
            case Want():
                wanted = self.wanted[message.id] = Wanted(message)
                if descriptors:
                    (wanted.pipe,) = descriptors
                    os.set_blocking(wanted.pipe, False)
                    self._loop.add_reader(wanted.pipe, self._read, wanted)
                if not descriptors or "early" in message.target:
                    self._answer(message)
            case Uploaded():
                self.wanted[message.id].is_uploaded = True
                self._end(self.wanted[message.id])
            case Leave():
                self._close(self.wanted[message.id])

    def _read(self, wanted: Wanted) -> None:
        data = os.read(wanted.pipe, 1 << 16)
        wanted.body += data
        if not data:
            self._loop.remove_reader(wanted.pipe)
            self._end(wanted)

    def _end(self, wanted: Wanted) -> None:
        """Its body is whole once its pipe has ended and the worker has said so, in either order."""
        if wanted.is_uploaded and wanted.pipe >= 0:
            while data := os.read(wanted.pipe, 1 << 16):
                wanted.body += data
            self._close(wanted)
            if "early" not in wanted.want.target:
                self._answer(wanted.want)

    def _close(self, wanted: Wanted) -> None:
        if wanted.pipe >= 0:
            self._loop.remove_reader(wanted.pipe)
            os.close(wanted.pipe)
            wanted.pipe = -1

    def _answer(self, want: Want) -> None:
        assert self._channel is not None
        if "fail" in want.target:
            self._channel.send(Failed(want.id, 502, Reason.ORIGIN_RESET), ())
            return
        body = want.target.encode()
        fields = (("X-Seen", f"{want.method} {want.target}"),)
        if want.method == "HEAD":
            self._channel.send(Passing(want.id, 200, fields, len(body), True, False, FATE), ())
            return
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.write(writer, body)
        os.close(writer)
        length = -1 if "unknown" in want.target else len(body)
        self._channel.send(Passing(want.id, 200, fields, length, True, True, FATE), (reader,))
        os.close(reader)
        self._channel.send(Passed(want.id, None), ())

    def close(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        if self._channel is not None:
            self._channel.close()
        for wanted in self.wanted.values():
            self._close(wanted)


class Double:
    """The worker and its manager's double; `failures` is what reached the loop's handler."""

    def __init__(self, config: Config) -> None:
        self.failures: list[dict[str, Any]] = []
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))
        self.manager = Manager(Layout(config).manager_socket)
        self.worker = Worker(config, Clock(), Page(), [socket.create_server(("127.0.0.1", 0))], bytes(SECRET_BYTES))
        self.worker.start()

    def connect(self, tls: ssl.SSLContext | None = None) -> socket.socket:
        """A client's end of a new connection, not blocking."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        connection = (
            Connection(self.worker, ours, PEER) if tls is None else SecureConnection(self.worker, ours, PEER, tls)
        )
        self.worker._connections.add(connection)
        self.worker._addresses.enter(PEER)
        return theirs

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is left of any connection."""
        worker = self.worker
        misses = worker.misses
        counted = (worker._connections, worker.lingering, worker._addresses, misses._pending, misses._served)
        return not any(len(one) for one in (*counted, misses._relays))

    async def close(self) -> None:
        await self.worker.drain()
        self.worker.store.close()
        self.manager.close()
        self.loop.set_exception_handler(None)


@contextlib.asynccontextmanager
async def double(folder: Path, objects: dict[str, int]) -> AsyncIterator[Double]:
    """A worker whose store holds objects of these keys and sizes."""
    config = making.config(folder / "state", ram=[making.folder(folder / "ram")]).model_copy()
    site = config.sites[0].model_copy(update={"methods": "any"})
    config = config.model_copy(update={"sites": (site,)})
    async with making.opened(config) as store:
        for key, size in objects.items():
            await making.put(store, key, size)
        async with asyncio.timeout(10):
            while len(making.committed(store)) < len(objects):  # noqa: ASYNC110 - commits come in batches
                await asyncio.sleep(0.02)
    made = Double(config)
    try:
        yield made
    finally:
        await made.close()
