"""A client connection over TLS: the same connection, its bytes encrypted in large batches.

OpenSSL works on memory (MemoryBIO): a piece of the file is read, encrypted and sent with one system call each.
Measured, that is half the cost of a write a record. Plain bytes are taken whole by `send`; the encrypted rest that the
socket does not take waits in `_unsent`, at most one piece, and nothing more is encrypted before it is gone.
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
_TURN_BYTES = 1 << 20
"""About as long, in time, as a turn without encryption."""
_PIECE_BYTES = 256 << 10
"""More falls out of the processor's caches before it is sent, less costs more system calls: both measured."""
_UNSENT_MAX_BYTES = 2 * _PIECE_BYTES
_HEAD_MAX_BYTES = 16 << 10
_piece = memoryview(bytearray(_HEAD_MAX_BYTES + _PIECE_BYTES))
"""Plain bytes on their way to encryption: one for the process, since it does not wait."""
_outgoing = ssl.MemoryBIO()
"""What OpenSSL has just written: taken out before another connection's turn. OpenSSL keeps the memory of the most that
was ever in one, so that one a connection would cost each that rests 256 KiB."""


class SecureConnection(Connection):
    __slots__ = ("_head", "_incoming", "_is_ending", "_is_established", "_tls", "_unsent")

    def __init__(self, worker: Worker, sock: socket.socket, peer: str, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, _outgoing, server_side=True)
        self._unsent: bytes | memoryview = b""
        """Encrypted, and not taken by the socket yet."""
        self._head: bytes | memoryview = b""
        """Plain, and held back for the body that follows."""
        self._is_established = False
        self._is_ending = False
        super().__init__(worker, sock, peer)
        self.send = self._send

    @property
    def is_established(self) -> bool:
        """Whether the handshake is over; until then its own deadline runs."""
        return self._is_established

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

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

    def _ended(self) -> None:
        if self._unsent and not self.delivery.is_busy and not self.buffer:
            # the response before is over, but not yet sent to its end
            self.has_ended = True
            self.stop_reading()
            self._close_politely()
        elif not self._is_ending:
            super()._ended()

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
                if _outgoing.pending:
                    self._answer_tls()
                if not plain:  # close_notify: nothing more will be asked
                    self._ended()
                    return
                self.received(plain)
                if not self._incoming.pending and not self._tls.pending():
                    return  # measured, the exception that says so costs as much as encrypting 16 KiB
        except ssl.SSLWantReadError:
            if _outgoing.pending:
                self._answer_tls()
        except ssl.SSLError:
            self._refuse_tls()
        except OSError:
            self.client_left()

    def _answer_tls(self) -> None:
        """Send what OpenSSL has to say of its own, to a change of keys; who asks for that and never reads is left."""
        self._take()
        try:
            if not self._flush() and len(self._unsent) > _UNSENT_MAX_BYTES:
                self._refuse_tls()
        except OSError:
            self.client_left()

    def _handshake(self) -> bool:
        """Whether it is over, and requests may be read."""
        try:
            self._tls.do_handshake()
            self._is_established = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ssl.CertificateError):
            self._refuse_tls()
            return False
        finally:
            self._take()
        self._flush()
        return self._is_established and self.fd >= 0

    def _refuse_tls(self) -> None:
        self._take()
        with contextlib.suppress(OSError):
            self._flush()  # the alert that says why
        self.page.error(Reason.TLS)
        self.client_left()

    # writing

    def _send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """Encrypt and send. All is taken, or BlockingIOError says that what was taken before is still on its way."""
        if self._unsent and not self._flush():
            raise BlockingIOError
        size = len(data)
        if self._head:
            data, self._head = bytes(self._head) + data, b""
        if flags and len(data) <= _HEAD_MAX_BYTES:  # MSG_MORE, the only one there is: the body follows at once
            self._head = data
        else:
            self._encrypt(data)
        return size

    def send_body(self, fd: int, offset: int, count: int) -> int:
        if self._unsent and not self._flush():
            raise BlockingIOError
        count = min(count, _TURN_BYTES)
        sent = 0
        while sent < count:
            head = len(self._head)
            try:
                size = os.preadv(fd, [_piece[head : head + min(count - sent, _PIECE_BYTES)]], offset + sent)
            except OSError:
                if not sent:
                    raise
                break  # met again by the next call: what is encrypted must be counted
            if not size:
                break
            if head:
                _piece[:head] = self._head
                self._head = b""
            sent += size
            if not self._encrypt(_piece[: head + size]):
                break
        return sent

    def _encrypt(self, data: bytes | memoryview) -> bool:
        """Encrypt and send; whether all of it went."""
        try:
            self._tls.write(data)
        finally:
            self._take()
        return self._flush()

    def _take(self) -> None:
        """Make ours what OpenSSL has just written."""
        if _outgoing.pending:
            self._unsent = bytes(self._unsent) + _outgoing.read() if self._unsent else _outgoing.read()

    def _flush(self) -> bool:
        """Send what is encrypted; whether all of it went."""
        data = self._unsent
        try:
            sent = self.sock.send(data) if data else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self.await_writable()
            return False
        self._unsent = b""
        return True

    def on_writable(self) -> None:
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
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # it has said nothing back yet
            pass
        finally:
            self._take()
        try:
            is_flushed = self._flush()
        except OSError:
            self.close()
            return
        if is_flushed:
            super()._close_politely()
        else:
            self._is_ending = True
            if self.upload is not None:
                self.upload.close()
            self.stop_reading()

    def close(self) -> None:
        self._unsent = b""
        super().close()
