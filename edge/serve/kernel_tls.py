"""A client connection whose bytes the kernel encrypts: OpenSSL shakes hands and reads, then files leave by sendfile.

Where a kernel has it (CONFIG_TLS) and OpenSSL was built to use it. The TLS tests were run over it on Linux 6.1 in user
mode; what it gains was not measured: compare with edge/serve/secure.py on the machine in question. OpenSSL 3.0 cannot
change keys that the kernel has: a client that asks for it (KeyUpdate, which no player does) sees a broken connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from functools import cache
from typing import TYPE_CHECKING

from edge.serve.connection import Connection
from edge.terms import Reason

if TYPE_CHECKING:
    from edge.serve.worker import Worker

ENABLE = ssl.Options(8)
"""SSL_OP_ENABLE_KTLS; Python 3.11 has no name for it."""
_TCP_ULP = 31
_SOL_TLS = 282
_TLS_TX = 1
_CRYPTO_INFO_BYTES = 4
_RECEIVE_BYTES = 32 << 10
_RECORD_BYTES = 16 << 10
_TRIES = 16
_record = memoryview(bytearray(_RECORD_BYTES))


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection to ourselves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.socket()
        ours.connect(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs


@cache
def kernel_has_tls() -> bool:
    try:
        ours, theirs = _pair()
        with ours, theirs:
            ours.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
    except OSError:
        return False
    return True


def is_encrypted_by_kernel(tls: ssl.SSLSocket) -> bool:
    """Whether what is written to the socket itself is encrypted; otherwise it would leave as it is."""
    try:
        return any(tls.getsockopt(_SOL_TLS, _TLS_TX, _CRYPTO_INFO_BYTES))
    except OSError:
        return False


def works_with(context: ssl.SSLContext) -> bool:
    """Whether OpenSSL hands a connection of this context over to the kernel: one is made, to ourselves."""
    if not kernel_has_tls():
        return False
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    try:
        ours, theirs = _pair()
        with ours, theirs:
            return _is_handed_over(
                trusting.wrap_socket(ours, do_handshake_on_connect=False),
                context.wrap_socket(theirs, server_side=True, do_handshake_on_connect=False),
            )
    except OSError:  # ssl.SSLError is one
        return False


def _is_handed_over(client: ssl.SSLSocket, server: ssl.SSLSocket) -> bool:
    with client, server:
        client.setblocking(False)
        server.setblocking(False)
        left = [client, server]
        for _ in range(_TRIES):
            for side in list(left):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
                    left.remove(side)
        return not left and is_encrypted_by_kernel(server)


class KernelConnection(Connection):
    __slots__ = ("_is_by_kernel", "_is_established", "_tls")

    def __init__(self, worker: Worker, sock: socket.socket, peer: str, context: ssl.SSLContext) -> None:
        self._tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._is_established = self._is_by_kernel = False
        super().__init__(worker, self._tls, peer)
        self.send = self._send_record

    @property
    def is_established(self) -> bool:
        return self._is_established

    # reading

    def on_readable(self) -> None:
        if self.fd < 0:
            return
        try:
            if not self._is_established:
                self._handshake()
            while self.fd >= 0 and self._is_reading:
                data = self._tls.recv(_RECEIVE_BYTES)
                if not data:
                    self._ended()
                    return
                self.received(data)
                if self.fd < 0 or not self._tls.pending():
                    return
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            self.await_writable()
        except ssl.SSLError:
            self._refuse_tls()
        except OSError:
            self.client_left()

    def start_reading(self) -> None:
        super().start_reading()
        # what OpenSSL has read already makes no socket readable
        self.worker.loop.call_soon(self.on_readable)

    def _handshake(self) -> None:
        self._tls.do_handshake()
        self._is_established = True
        if is_encrypted_by_kernel(self._tls):
            self._is_by_kernel = True
            self.send = super(ssl.SSLSocket, self._tls).send

    def _refuse_tls(self) -> None:
        self.page.error(Reason.TLS)
        if self.delivery.is_busy:
            self.client_left()
        else:  # what it sent lies unread: a reset would overtake the alert
            super()._close_politely()

    # writing

    def _send_record(self, data: bytes | memoryview, _flags: int = 0) -> int:
        """The client has chosen a cipher that the kernel has not: OpenSSL encrypts, a record at a time."""
        try:
            return self._tls.send(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None

    def send_body(self, fd: int, offset: int, count: int) -> int:
        if self._is_by_kernel:
            return super().send_body(fd, offset, count)
        size = os.preadv(fd, [_record[: min(count, _RECORD_BYTES)]], offset)
        return self._send_record(_record[:size]) if size else 0

    def on_writable(self) -> None:
        if self._is_established:
            super().on_writable()
        else:
            self.stop_writing()
            self.on_readable()

    # endings

    def _close_politely(self) -> None:
        """Say so in TLS too, lest an attacker's cut be taken for the end (RFC 8446, 6.1)."""
        with contextlib.suppress(OSError, ValueError):  # it has said nothing back yet
            self._tls.unwrap()
        super()._close_politely()
