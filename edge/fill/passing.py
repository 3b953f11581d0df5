"""Pass-through: a request and an answer for one client alone, streamed through pipes with a bounded buffer.

The worker has the pipe's other end: a client that reads slowly fills it, and the origin is read no faster.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from edge.errors import OriginError
from edge.fill.base import as_edge_error
from edge.fill.effects import heed
from edge.fill.messages import Fate, Hinted, Pair, Passed, Passing
from edge.fill.origin import OriginResponse
from edge.http.conditions import with_date
from edge.http.fields import end_to_end
from edge.http.invalidation import SAFE_METHODS
from edge.terms import Reason

if TYPE_CHECKING:
    from edge.fill.base import Base
    from edge.fill.follower import Follower

PIPE_BYTES = 256 << 10
_READ_BYTES = 64 << 10


_NOT_PASSED = frozenset(
    ("host", "content-length", "expect", "cmcd-object", "cmcd-request", "cmcd-session", "cmcd-status")
)
"""Of this hop, or what players report of themselves to the CDN (CTA-5004)."""


async def pass_request(base: Base, follower: Follower, body_fd: int | None, uploaded: asyncio.Event) -> None:
    """Send the client's request as it is, and its answer back; an unsafe one once and never again.

    `uploaded` is set when the request's body was whole: its pipe also ends when the client breaks off.
    """
    client, want = follower.client, follower.want
    fields = [pair for pair in end_to_end(follower.request) if pair[0].lower() not in _NOT_PASSED]
    site = base.site(want.site)

    def hinted(status: int, hints: tuple[Pair, ...]) -> None:
        client.send(Hinted(want.id, status, hints))

    tries = (
        min(base.config.fill.attempts, len(site.origins) + 1) if want.method in SAFE_METHODS and body_fd is None else 1
    )
    try:
        for attempt in range(tries):
            try:
                async with base.origins.request(
                    site,
                    want.method,
                    want.host,
                    want.target,
                    fields,
                    body=None if body_fd is None else _read_pipe(body_fd, uploaded),
                    body_length=want.body_length,
                    attempt=attempt,
                    hinted=hinted,
                ) as response:
                    heed(base, follower, response)
                    await pass_response(base, follower, response)
                    return
            except OriginError as error:
                if not error.retryable or attempt + 1 == tries:
                    raise
                base.retrying(error, want.url, attempt + 1)
    except Exception as error:
        base.refuse(client, want, as_edge_error(error))
    finally:
        if body_fd is not None:
            os.close(body_fd)


async def pass_response(base: Base, follower: Follower, response: OriginResponse, *, collapsed: bool = False) -> None:
    """Stream a response to one client. What breaks after its head is told with Passed, not raised."""
    client, want = follower.client, follower.want
    length = response.length
    head = Passing(
        want.id,
        response.status,
        with_date(end_to_end(response.fields), response.response_time).pairs,
        -1 if length is None else length,
        response.is_delimited,
        response.has_body,
        Fate(follower.forward, response.status, collapsed=collapsed),
    )
    if not response.has_body:
        client.send(head)
        return
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        with contextlib.suppress(PermissionError):  # beyond what one user's pipes may hold: a smaller one does
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        client.send(head, (reader,))
    finally:
        os.close(reader)
    reason: Reason | None = Reason.DRAINING  # what an end before the end means, when we are stopped
    try:
        async for chunk in response.chunks():
            await _write_pipe(writer, chunk)
        reason = None
    except BrokenPipeError:
        pass  # the client left, or the worker did
    except OriginError as error:
        base.failed(error, want.url, want.site)
        reason = error.reason
    finally:
        # said before the pipe ends, so that the worker knows what its end means
        client.send(Passed(want.id, reason))
        os.close(writer)


async def _write_pipe(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _ready(fd, write=True)


async def _read_pipe(pipe: int, uploaded: asyncio.Event) -> AsyncIterator[bytes]:
    # a descriptor of its own: it may still be waited for, by the origin's client, when the request is over
    fd = os.dup(pipe)
    try:
        os.set_blocking(fd, False)
        while True:
            try:
                chunk = os.read(fd, _READ_BYTES)
            except BlockingIOError:
                await _ready(fd, write=False)
                continue
            if not chunk:
                # if the client broke off, this task is cancelled while it waits, and the origin sees no end either
                await uploaded.wait()
                return
            yield chunk
    finally:
        os.close(fd)


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _ready(fd: int, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(fd, _set, waiter)
    try:
        await waiter
    finally:
        remove(fd)
