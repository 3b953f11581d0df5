"""Connections that were answered for the last time: what their clients still send is thrown away, for a moment.

Closing at once would reset the connection where unread bytes lie, and the reset may destroy our answer on its way
(RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
import socket

_DISCARD_BYTES = 64 << 10
_LINGER_S = 2.0


class Lingering:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._since: dict[socket.socket, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def add(self, sock: socket.socket, now_s: float) -> None:
        """Take over a socket on which nothing more will be written."""
        self._since[sock] = now_s
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
        del self._since[sock]
        self._loop.remove_reader(sock.fileno())
        sock.close()

    def sweep(self, now_s: float) -> None:
        """Close those whose moment is over."""
        for sock, since_s in list(self._since.items()):
            if now_s - since_s > _LINGER_S:
                self._close(sock)

    def close(self) -> None:
        for sock in list(self._since):
            self._close(sock)
