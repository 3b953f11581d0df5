"""sd_notify: one datagram to whoever started us, if it asked for it."""

from __future__ import annotations

import os
import socket


def notify(**state: str | int) -> None:
    """Tell the service manager how we are: READY=1, STATUS="serving". Nothing happens without one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{name}={value}" for name, value in state.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(message.encode(), address)
        except OSError:
            pass
