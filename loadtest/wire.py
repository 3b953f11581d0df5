"""One client connection of the test origin."""

import asyncio
import fcntl
import os
import socket
import struct
import termios
from functools import partial
from typing import Protocol

from loadtest.answer import Answer, Request, head, phrase
from loadtest.body import send_answer
from loadtest.faults import Step
from loadtest.requests import HEAD_BYTES_MAX, RequestError, read_request
from loadtest.resources import Resource
from loadtest.tally import Ending, Entry, Tally

# How long a reset waits for the client's kernel to take what was sent before it.
_FLUSH_S_MAX = 5.0

Planned = tuple[Step, Answer, Resource]


class Owner(Protocol):
    """What a connection needs of its origin."""

    tally: Tally

    async def planned(self, request: Request) -> Planned: ...

    def began(self, connection: "Connection") -> None: ...

    def over(self, connection: "Connection") -> None: ...

    def failed(self, error: Exception) -> None: ...


class Connection(asyncio.Protocol):
    """Its task is cancelled when the client leaves, so nothing in it has to look whether it is still there."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._tally = owner.tally
        self._reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX)
        self._writable = asyncio.Event()
        self._writable.set()
        self.transport: asyncio.Transport
        self.task: asyncio.Task[None]
        self.number = 0

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's transport is always of both kinds
        self._tally.connections += 1
        self._tally.open += 1
        self.number = self._tally.connections
        self._owner.began(self)
        self._reader.set_transport(self.transport)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def eof_received(self) -> None:
        self._reader.feed_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.open -= 1
        self.task.cancel()
        self.task.add_done_callback(lambda _: self._owner.over(self))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Called by the task.

    def write(self, data: bytes | memoryview) -> None:
        self.transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()

    async def _serve(self) -> None:
        try:
            while await self._one():
                pass
        except RequestError as exc:
            text = f"{exc}\n".encode()
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text))), ("Connection", "close")]
            self.write(head(Answer(400, headers)) + text)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception as exc:
            self._owner.failed(exc)
        finally:
            self.transport.close()

    async def _one(self) -> bool:
        """One request and its answer. False when the connection ends with it."""
        request = await read_request(self._reader, self.write, self.number)
        if request is None:
            return False
        entry = self._tally.began(request)
        try:
            step, answer, resource = await self._owner.planned(request)
            try:
                return await self._answer(entry, step, answer, resource)
            finally:
                resource.close()
        except asyncio.CancelledError:
            self._tally.ended(entry, "left")
            raise

    async def _answer(self, entry: Entry, step: Step, answer: Answer, resource: Resource) -> bool:
        request = entry.request
        if step.latency_s:
            await asyncio.sleep(step.latency_s)
        if step.gate is not None and step.gate_after is None:
            await step.gate.wait()
        if step.raw is not None:
            self.write(step.raw)
            return await self._break(entry, step)
        for status in step.interim:
            hint = f"HTTP/1.1 {status} {phrase(status)}\r\nLink: </style.css>; rel=preload\r\n\r\n"
            self.write(hint.encode())

        self._tally.answered(entry, answer.status)
        if not await send_answer(self, answer, step, resource, partial(self._tally.sent, entry)):
            return await self._break(entry, step)
        self._tally.ended(entry, "sent")
        return not _is_last(request, answer)

    async def _break(self, entry: Entry, step: Step) -> bool:
        """The end that a step's fault means. A body that could not be finished is cut as well."""
        mark = step.ends_at()
        ending: Ending = "cut"
        if mark is not None and mark == step.reset_after:
            await self._reset()
            ending = "reset"
        elif mark is not None and mark == step.stall_after:
            ending = "stalled"
        self._tally.ended(entry, ending)
        if ending == "stalled":
            await asyncio.Event().wait()
        return False

    async def _reset(self) -> None:
        """RST in place of FIN. What was sent before has to be across by then: a reset throws away what is queued."""
        deadline = asyncio.get_running_loop().time() + _FLUSH_S_MAX
        # A descriptor of our own: uvloop's stand-in for a socket has no options to set.
        with socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno())) as sock:
            while self.transport.get_write_buffer_size() or _unacknowledged_bytes(sock):
                if asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(0.001)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def _is_last(request: Request, answer: Answer) -> bool:
    if request.http == (1, 0) or (request.header("Connection") or "").lower() == "close":
        return True
    return any(name.lower() == "connection" and "close" in value.lower() for name, value in answer.headers)


def _unacknowledged_bytes(sock: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
