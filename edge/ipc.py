"""Messages between processes: whole msgpack structs over a Unix SEQPACKET socket, with file descriptors along.

SEQPACKET keeps message boundaries and ties descriptors to their message, so there is no framing to get wrong.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from edge.limits import MESSAGE_MAX_BYTES

In = TypeVar("In")

_DESCRIPTORS_MAX = 4
_MESSAGES_PER_TURN = 64


class Channel(Generic[In]):
    """One end of a connection between two processes, on the running loop.

    `receive(message, descriptors)` is called for each message; it owns the descriptors. `closed()` is called once when
    the other end is gone. What cannot be sent at once is queued: the other end is one of ours and reads.
    """

    def __init__(
        self,
        sock: socket.socket,
        accepts: Any,
        receive: Callable[[In, list[int]], None],
        closed: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(accepts)
        self._receive = receive
        self._closed = closed
        self._queue: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)
        self.open = True

    def send(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Send a message; descriptors are duplicated, the caller keeps its own."""
        if not self.open:
            return
        data = self._encoder.encode(message)
        if len(data) > MESSAGE_MAX_BYTES or len(descriptors) > _DESCRIPTORS_MAX:
            raise ValueError(f"a message of {len(data)} bytes and {len(descriptors)} descriptors")
        if self._queue:
            self._queue.append((data, tuple(os.dup(fd) for fd in descriptors)))
            return
        try:
            self._send_now(data, descriptors)
        except (BlockingIOError, InterruptedError):
            self._queue.append((data, tuple(os.dup(fd) for fd in descriptors)))
            self._loop.add_writer(self._fd, self._writable)
        except OSError:
            self._lost()

    def close(self) -> None:
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        for _, descriptors in self._queue:
            for fd in descriptors:
                os.close(fd)
        self._queue.clear()

    def _send_now(self, data: bytes, descriptors: Sequence[int]) -> None:
        if descriptors:
            socket.send_fds(self._sock, [data], list(descriptors))
        else:
            self._sock.send(data)

    def _writable(self) -> None:
        while self._queue:
            data, descriptors = self._queue[0]
            try:
                self._send_now(data, descriptors)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._lost()
                return
            self._queue.popleft()
            for fd in descriptors:
                os.close(fd)
        self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        for _ in range(_MESSAGES_PER_TURN):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._sock, MESSAGE_MAX_BYTES, _DESCRIPTORS_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._lost()
                return
            if not data:
                self._lost()
                return
            for fd in descriptors:
                os.set_inheritable(fd, False)
            try:
                message = self._decoder.decode(data)
            except msgspec.MsgspecError:  # not one of ours
                for fd in descriptors:
                    os.close(fd)
                self._lost()
                return
            self._receive(message, descriptors)
            if not self.open:
                return

    def _lost(self) -> None:
        if self.open:
            self.close()
            self._closed()


def listen(path: str) -> socket.socket:
    """A listening SEQPACKET socket at `path`, replacing a dead one's."""
    if os.path.exists(path):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(path)
    os.chmod(path, 0o600)
    sock.listen(128)
    sock.setblocking(False)
    return sock


def connect(path: str) -> socket.socket:
    """A connection to the process listening at `path`; OSError where there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
