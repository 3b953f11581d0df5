"""A request's body on its way to the origin: decoded, and passed through a pipe no faster than the origin takes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edge.errors import BodyTooLarge, RequestError
from edge.http.chunked import ChunkedDecoder
from edge.limits import PIPELINE_MAX_BYTES
from edge.serve.heads import CONTINUE
from edge.serve.patience import Pace

if TYPE_CHECKING:
    from edge.serve.connection import Connection


class Upload:
    def __init__(self, connection: Connection, pipe: int, length: int) -> None:
        self._connection = connection
        self._pipe = pipe
        self._left = length
        self._decoder = ChunkedDecoder() if length < 0 else None
        self._waiting = b""
        self._is_stuck = False
        self._most = connection.worker.config.limits.body_max
        self.received = 0
        """Bytes of the body that have come."""
        self.pace: Pace | None = None
        self.is_complete = False
        """The body's end was seen; if the response ends before, the connection cannot be used again."""

    @property
    def awaits_client(self) -> bool:
        """Whether it is the client's turn: the body is not whole, and there is somebody who takes more of it."""
        return not self.is_complete and not self._is_stuck and self._pipe >= 0

    def start(self) -> None:
        connection = self._connection
        if connection.block.expects_continue and not connection.buffer and connection.minor == b"1":
            try:
                sent = connection.send(CONTINUE, 0)
            except OSError:
                sent = 0
            if sent < len(CONTINUE):  # the responses before it were not even taken
                connection.client_left()
                return
        data, connection.buffer = connection.buffer, b""
        self.feed(data)

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        connection = self._connection
        if self.is_complete:
            connection.buffer += data
            if len(connection.buffer) > PIPELINE_MAX_BYTES:
                connection.stop_reading()
            return
        try:
            self._waiting += self._decode(data)
        except RequestError as error:
            self.refuse(error)
            return
        self._drain()

    def refuse(self, error: RequestError) -> None:
        """This body is not passed on to its end, nor is anything read behind it."""
        self.close()
        self._connection.keeps = False
        self._connection.refuse(error)

    def _decode(self, data: bytes) -> bytes:
        if self._decoder is None:
            body, rest = data[: self._left], data[self._left :]
            self._left -= len(body)
            self.is_complete = not self._left
        else:
            body = self._decoder.feed(data)
            self.is_complete = self._decoder.done
            rest = self._decoder.rest if self.is_complete else b""
        self.received += len(body)
        if self.received > self._most:
            raise BodyTooLarge(f"a body of more than {self._most} bytes")
        if self.is_complete:
            self._connection.buffer = rest
        return body

    def _drain(self) -> None:
        """Fill the pipe; when it is full, stop reading from the client until it is not."""
        loop = self._connection.worker.loop
        while self._waiting and self._pipe >= 0:
            try:
                written = os.write(self._pipe, self._waiting)
            except BlockingIOError:
                if not self._is_stuck:
                    self._is_stuck = True
                    self._connection.stop_reading()
                    loop.add_writer(self._pipe, self._drain)
                return
            except OSError:
                # the origin answered, or failed, without the rest: its answer comes on its own
                self._close_pipe()
                self._waiting = b""
                return
            self._waiting = self._waiting[written:]
        if self._is_stuck:
            self._is_stuck = False
            loop.remove_writer(self._pipe)
            self.pace = None
            self._connection.start_reading()
        if self.is_complete and self._pipe >= 0:
            self._connection.worker.misses.uploaded(self._connection)
            self._close_pipe()

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            if self._is_stuck:
                self._is_stuck = False
                self._connection.worker.loop.remove_writer(self._pipe)
                self._connection.start_reading()
            os.close(self._pipe)
            self._pipe = -1

    def close(self) -> None:
        """The client left, or its body is not one: the origin sees no end."""
        self._close_pipe()
