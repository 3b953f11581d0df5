"""A client connection over TLS: the same connection, its bytes encrypted in large batches.

OpenSSL works on memory (MemoryBIO): a turn's worth of the file is read, encrypted and sent with one system call each.
Measured, that is half the cost of a write a record. Plain bytes are taken whole by `send`; the encrypted rest that the
socket does not take waits in `_unsent`, at most one turn's worth, and nothing more is encrypted before it is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from typing import TYPE_CHECKING

from edge.serve.connection import Connection
from edge.terms import Reason

if TYPE_CHECKING:
    from edge.serve.worker import Worker

_RECEIVE_BYTES = 32 << 10
_PLAIN_BYTES = 16 << 10
TURN_BYTES = 256 << 10
_turn = memoryview(bytearray(TURN_BYTES))
"""Plain bytes of the turn under way: one for the process, since encryption does not wait."""


class SecureConnection(Connection):
    __slots__ = ("_incoming", "_is_ending", "_is_established", "_outgoing", "_tls", "_unsent")

    def __init__(self, worker: Worker, sock: socket.socket, peer: str, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent: bytes | memoryview = b""
        self._is_established = False
        self._is_ending = False
        super().__init__(worker, sock, peer)
        self.send = self._send

    @property
    def is_established(self) -> bool:
        """Whether the handshake is over; until then the head's deadline runs."""
        return self._is_established

    # reading

    def on_readable(self) -> None:
        try:
            data = self.sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.client_left()
            return
        if not data:
            self._ended()
            return
        self._incoming.write(data)
        self._read_plain()

    def start_reading(self) -> None:
        super().start_reading()
        # what came while nobody read lies in memory: no socket will tell of it
        self.worker.loop.call_soon(self._read_plain)

    def _read_plain(self) -> None:
        if self.fd < 0:
            return
        try:
            if not self._is_established and not self._handshake():
                return
            while self.fd >= 0 and self._is_reading:
                plain = self._tls.read(_PLAIN_BYTES)
                if not plain:  # close_notify: nothing more will be asked
                    self._ended()
                    return
                self.received(plain)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._refuse_tls()

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
            self._is_established = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ssl.CertificateError):
            self._flush()  # the alert that says why
            self._refuse_tls()
            return False
        self._flush()
        return self._is_established and self.fd >= 0

    def _refuse_tls(self) -> None:
        self.page.error(Reason.TLS)
        self.client_left()

    # writing

    def _send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """Encrypt and send. All is taken, or BlockingIOError says that what was taken before is still on its way."""
        if self._unsent and not self._flush():
            raise BlockingIOError
        self._tls.write(data)
        if not flags & socket.MSG_MORE:  # else the body follows at once, and goes with it
            self._flush()
        return len(data)

    def send_body(self, fd: int, offset: int, count: int) -> int:
        if self._unsent and not self._flush():
            raise BlockingIOError
        count = os.preadv(fd, [_turn[: min(count, TURN_BYTES)]], offset)
        if count:
            self._tls.write(_turn[:count])
            self._flush()
        return count

    def _flush(self) -> bool:
        """Send what is encrypted; whether all of it went."""
        data: bytes | memoryview = self._unsent
        if self._outgoing.pending:
            data = bytes(data) + self._outgoing.read() if data else self._outgoing.read()
        try:
            sent = self.sock.send(data) if data else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        self._unsent = memoryview(data)[sent:] if sent < len(data) else b""
        if self._unsent:
            self.await_writable()
            return False
        return True

    def on_writable(self) -> None:
        self.since_s = self.worker.now_s
        try:
            if not self._flush():
                return
        except OSError:
            self.client_left()
            return
        if self._is_ending:
            self._is_ending = False
            self.stop_writing()
            super()._close_politely()
        elif self.delivery.is_busy and not self.delivery.is_waiting:
            self.delivery.on_writable()
        else:
            self.stop_writing()

    def stop_writing(self) -> None:
        if not self._unsent or self.fd < 0:
            super().stop_writing()

    # endings

    def _close_politely(self) -> None:
        """Say so in TLS too, lest an attacker's cut be taken for the end (RFC 8446, 6.1), once all is sent."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        try:
            is_flushed = self._flush()
        except OSError:
            self.close()
            return
        if is_flushed:
            super()._close_politely()
        else:
            self._is_ending = True

    def close(self) -> None:
        self._unsent = b""
        super().close()
