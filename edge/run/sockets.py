"""The listening sockets: the supervisor owns them, so that no restart of another process refuses a connection."""

from __future__ import annotations

import socket

from edge.config.units import split_address
from edge.errors import ConfigError


def listening(address: str, backlog: int, *, share: bool) -> socket.socket:
    """A listening TCP socket. Raises ConfigError when the address cannot be had.

    `share`: several sockets of one address; the kernel spreads connections over them.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6 and host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ConfigError([f"cannot listen on {address}: {error.strerror or error}"]) from error
    return sock
