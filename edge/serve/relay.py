"""A response for one client alone: from the manager's pipe to the client, never faster than the client reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edge.fill.messages import Passing
from edge.routing import cors_of
from edge.serve.heads import CHUNKED, CLOSE, cors_lines, forwarded_line, response_lines, status_line
from edge.terms import Outcome, Reason, Source

if TYPE_CHECKING:
    from edge.serve.connection import Connection

_READ_BYTES = 64 << 10
_FRAMING = frozenset(("content-length", "transfer-encoding"))


class Relay:
    def __init__(self, connection: Connection, head: Passing, pipe: int) -> None:
        self._connection = connection
        self._head = head
        self._pipe = pipe
        self._is_reading = False
        self._is_finished = False
        self._is_drained = pipe < 0
        self._reason: Reason | None = None
        self._left = head.length
        self._chunked = False
        if pipe >= 0:
            os.set_blocking(pipe, False)

    def start(self) -> None:
        """Send the head; the body follows as it comes."""
        connection, head = self._connection, self._head
        delivery = connection.delivery
        delivery.outcome, delivery.source, delivery.status = Outcome.BYPASS, Source.ORIGIN, head.status
        lines = [status_line(head.status)]
        cors = cors_of(connection.block.route)
        lines.append(response_lines(head.fields, cors, _FRAMING))
        lines.append(cors_lines(cors, connection.block.fields))
        lines.append(forwarded_line(head.fate))
        if head.length >= 0:
            lines.append(b"Content-Length: %d\r\n" % head.length)
        elif head.has_body:
            # where the origin's own framing cannot tell an end from a break, ours must not pretend to
            self._chunked = head.delimited and connection.minor == b"1"
            if self._chunked:
                lines.append(CHUNKED)
            else:
                connection.keeps = False
        lines.append(connection.connection_line() if connection.keeps else CLOSE)
        lines.append(b"\r\n")
        delivery.send_bytes(b"".join(lines), self._read if self._pipe >= 0 else connection.delivered)

    def _read(self) -> None:
        """The client can take more: get it when it is there."""
        self._connection.stop_writing()
        if self._pipe < 0:
            self._end()
            return
        if not self._is_reading:
            self._is_reading = True
            self._connection.delivery.is_waiting = True
            self._connection.worker.loop.add_reader(self._pipe, self._readable)

    def _pause(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._connection.worker.loop.remove_reader(self._pipe)

    def _readable(self) -> None:
        try:
            data = os.read(self._pipe, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        self._pause()
        if not data:
            self._is_drained = True
            self._close_pipe()
            self._end()
            return
        connection = self._connection
        connection.delivery.is_waiting = False
        connection.delivery.position += len(data)
        if self._left >= 0:
            self._left -= len(data)
        connection.delivery.send_bytes(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data, self._read)

    def finished(self, reason: Reason | None) -> None:
        """The manager says that what is in the pipe is all there will be, and whether it is whole."""
        self._is_finished = True
        self._reason = reason
        if self._is_drained:
            self._end()

    def _end(self) -> None:
        if not self._is_drained or not self._is_finished:
            return
        connection = self._connection
        if self._reason is not None or self._left > 0:
            connection.break_off(self._reason or Reason.ORIGIN_RESET)
        elif self._chunked:
            self._chunked = False
            connection.delivery.send_bytes(b"0\r\n\r\n", connection.delivered)
        else:
            connection.delivered()

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            self._pause()
            os.close(self._pipe)
            self._pipe = -1

    def close(self) -> None:
        self._close_pipe()
