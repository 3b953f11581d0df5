"""Connections that were answered for the last time: what their clients still send is thrown away, for a moment.

Closing at once would reset the connection where unread bytes lie, and the reset may destroy our answer on its way
(RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from edge.serve.addresses import Addresses

_DISCARD_BYTES = 64 << 10
_LINGER_S = 2.0
_NOT_AT_ALL = struct.pack("ii", 1, 0)


def reset_at_close(sock: socket.socket) -> None:
    """Make the socket's end a break, which nobody takes for the end of what was sent."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOT_AT_ALL)


class Lingering:
    def __init__(self, loop: asyncio.AbstractEventLoop, addresses: Addresses) -> None:
        self._loop = loop
        self._addresses = addresses
        self._since: dict[socket.socket, tuple[float, str]] = {}

    def __len__(self) -> int:
        return len(self._since)

    def add(self, sock: socket.socket, peer: str, now_s: float) -> None:
        """Take over a socket: the client is told that no more comes. It counts for its address until it is closed."""
        self._since[sock] = now_s, peer
        self._addresses.enter(peer)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        self._loop.add_reader(sock.fileno(), self._discard, sock)

    def _discard(self, sock: socket.socket) -> None:
        try:
            if sock.recv(_DISCARD_BYTES):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        _, peer = self._since.pop(sock)
        self._addresses.leave(peer)
        self._loop.remove_reader(sock.fileno())
        sock.close()

    def sweep(self, now_s: float) -> None:
        """Close those whose moment is over."""
        for sock, (since_s, _) in list(self._since.items()):
            if now_s - since_s > _LINGER_S:
                self._close(sock)

    def close(self) -> None:
        for sock in list(self._since):
            self._close(sock)
