"""How long a client is waited for: judged from the worker's tick, never on the way of a request.

Handshake and head have one deadline each, counted from the connection's `since_s`. Bodies, both ways, have a rate to
keep on the average over a time; patience is not saved up, so a body is over within its length / rate and that time once
more. Time in which the other side is waited for, an origin or a disk, does not count.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edge.config.model import Limits
from edge.errors import RequestTimeout
from edge.terms import Reason

if TYPE_CHECKING:
    from edge.serve.connection import Connection
    from edge.serve.upload import Upload

_JUDGED_A_TURN = 500
_LEFT_A_TURN = 8
_SETTLED_S = 1.0
"""A younger stage is not looked at: most are over by then."""
_COARSE_S = 0.25
"""How much older than the truth `since_s` may be: nobody is left before the time."""
_TCP_INFO_BYTES = 148
_acknowledged = struct.Struct("=24xI92xQ16xI").unpack
"""Of struct tcp_info: tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes."""


class Pace:
    """How far a body had come when it was last looked at; `response` tells one body from the next."""

    __slots__ = ("at_s", "count", "response")

    def __init__(self, at_s: float, count: int, response: int = 0) -> None:
        self.at_s = at_s
        self.count = count
        self.response = response

    def is_kept(self, now_s: float, count: int, rate: int) -> bool:
        """Whether what has come, or gone, since then is a byte at least, and `rate` a second."""
        return count - self.count >= max(1, rate * (now_s - self.at_s))


class Patience:
    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits
        self._left = 0
        self._is_judging = False

    def sweep(self, connections: Iterable[Connection], now_s: float) -> None:
        """Leave whom we need not wait for any longer; in turns, so that the others have theirs in between."""
        if not self._is_judging:
            self._is_judging = True
            self._turn(iter(list(connections)), now_s)

    def _turn(self, connections: Iterator[Connection], now_s: float) -> None:
        self._left = 0
        for count, connection in enumerate(connections):
            if now_s - connection.since_s >= _SETTLED_S and connection.fd >= 0:
                self._judge(connection, now_s)
            if count >= _JUDGED_A_TURN or self._left >= _LEFT_A_TURN:
                self._loop.call_soon(self._turn, connections, now_s)
                return
        self._is_judging = False

    def _judge(self, connection: Connection, now_s: float) -> None:
        limits = self._limits
        delivery = connection.delivery
        upload = connection.upload
        age_s = now_s - connection.since_s - _COARSE_S
        if delivery.is_busy:
            if upload is not None and upload.awaits_client:
                if self._comes_too_slowly(upload, now_s):
                    self._left += 1
                    upload.refuse(RequestTimeout(f"a body that came to {upload.received} bytes"))
            elif self._is_too_slow(connection, now_s):
                self._left += 1
                connection.break_off(Reason.CLIENT_TOO_SLOW)
        elif connection.has_unsent:
            if self._is_too_slow(connection, now_s):
                self._left += 1
                connection.page.error(Reason.CLIENT_TOO_SLOW)
                connection.abort()
        elif not connection.worker.accepts or (not connection.buffer and age_s > self._for_first_byte_s(connection)):
            self._left += 1
            connection.close()  # nothing was asked: nothing is said, lest it pass for the answer to what comes
        elif connection.buffer and age_s > limits.head_timeout:
            self._left += 1
            if connection.buffer in (b"\r", b"\r\n"):
                connection.close()
            else:
                connection.refuse(RequestTimeout("a head that was not complete in time"))

    def _for_first_byte_s(self, connection: Connection) -> float:
        return self._limits.idle_timeout if connection.is_established else self._limits.handshake_timeout

    def _comes_too_slowly(self, upload: Upload, now_s: float) -> bool:
        limits = self._limits
        pace = upload.pace
        if pace is not None:
            if now_s - pace.at_s < limits.body_timeout:
                return False
            if not pace.is_kept(now_s, upload.received, limits.receive_rate_min):
                return True
        upload.pace = Pace(now_s, upload.received)
        return False

    def _is_too_slow(self, connection: Connection, now_s: float) -> bool:
        """Whether a client took less than it must, and had something to take all the time."""
        limits = self._limits
        delivery = connection.delivery
        pace = connection.pace
        if pace is None or pace.response != delivery.generation:
            if delivery.is_waiting:
                return False
            pace = None
        elif not delivery.is_waiting and now_s - pace.at_s < limits.send_timeout:
            return False
        try:
            info = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return False  # broken: whoever sends next finds out
        unacknowledged, count, unsent = _acknowledged(info)
        if not unacknowledged and not unsent and not connection.has_unsent:
            connection.pace = None  # it has all that we have
            return False
        if pace is not None:
            if now_s - pace.at_s < limits.send_timeout:
                return False
            if not pace.is_kept(now_s, count, limits.send_rate_min):
                return True
        connection.pace = Pace(now_s, count, delivery.generation)
        return False
