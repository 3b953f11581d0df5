"""Bounds that are not settings: what the code itself refuses to exceed."""

from __future__ import annotations

import contextlib
import resource

MESSAGE_MAX_BYTES = 160 << 10
"""The largest message between worker and manager: below the kernel's default socket buffer."""

SEND_TURN_BYTES = 2 << 20
"""One sendfile call's share; then the others have their turn, and the client's acknowledgements drain the socket."""

SMALL_BYTES = 32 << 10
"""Up to this size a body in the RAM tier is sent from a worker's own memory: measured, a sendfile costs more."""

SMALL_BYTES_IN_ALL = 64 << 20
"""What a worker holds of such bodies."""

PIPELINE_MAX_BYTES = 64 << 10
"""What a client may send ahead while its response is under way."""

ACCEPTS_PER_TURN = 64
"""Connections taken from the queue before the others have their turn."""

MOVES_AT_ONCE = 8
"""Objects being copied from tier to tier at a time."""


def raise_open_files() -> int:
    """Lift this process's limit of open files as far as it may; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft
