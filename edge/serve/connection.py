"""One client connection: parse, route, answer, and again. The life of a request is read here, top to bottom.

on_readable   bytes → request line and block of fields; a block seen before is not parsed again
_hit          a target that is open and fresh is answered at once (the hot path)
_look_up      otherwise: what is it, is it here, who answers it
(Misses)      what is not here is asked of the manager, off this path
deliver       conditions and ranges, then Delivery sends
delivered     counted, logged, and the connection is ready for the next
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.errors import EdgeError, MethodNotAllowed, RequestError
from edge.http.head import REQUEST_LINE, Block, check_line, check_sizes
from edge.limits import PIPELINE_MAX_BYTES, SEND_TURN_BYTES
from edge.metrics import CLIENTS_LEFT
from edge.routing import Resource
from edge.serve.answer import ALLOW, answer
from edge.serve.delivery import Delivery
from edge.serve.heads import CLOSE, KEEP, error_response
from edge.serve.linger import reset_at_close
from edge.serve.objects import OpenObject
from edge.serve.patience import Pace
from edge.terms import Outcome, Reason, Source

if TYPE_CHECKING:
    from edge.serve.upload import Upload
    from edge.serve.worker import Worker

_RECEIVE_BYTES = 16 << 10
_match_line = REQUEST_LINE.match
_match_get = re.compile(rb"GET ([\x21-\x7e]{1,4096}) HTTP/1\.1\r\n").match
_sendfile = os.sendfile
_TURN = SEND_TURN_BYTES
_HIT = Outcome.HIT
_NO_BLOCK = Block(b"\r\n")


class Connection:
    __slots__ = (
        "_is_processing", "_is_reading", "_is_writing", "_receive", "asked", "block", "buffer", "delivery",
        "fd", "has_ended", "keeps", "method", "minor", "monotonic", "pace", "page", "peer", "request", "resource",
        "resumptions", "send", "since_s", "sock", "target", "upload", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker, sock: socket.socket, peer: str) -> None:
        self.worker = worker
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.send: Callable[[bytes | memoryview, int], int] = sock.send
        self._receive = sock.recv
        self.monotonic = worker.clock.monotonic
        self.page = worker.page
        self.block = _NO_BLOCK
        self.buffer = self.method = self.target = b""
        self.minor = b"1"
        self.keeps = True
        self.has_ended = False
        """The client sends nothing more: what is under way is finished, then the connection."""
        self.since_s = worker.now_s
        """Coarse monotonic time since which this is idle, or has a head begun or a request under way."""
        self.pace: Pace | None = None
        self.request = 0
        """Our number of what the manager was asked for; 0: nothing."""
        self.resource: Resource | None = None
        self.resumptions = 0
        self.upload: Upload | None = None
        self.delivery = Delivery(self)
        self.asked: tuple[int, int] | None = None
        """The bytes the manager was asked for; None: all."""
        self._is_writing = False
        self._is_processing = False
        self._is_reading = True
        worker.loop.add_reader(self.fd, self.on_readable)

    # reading

    def on_readable(self) -> None:
        try:
            data = self._receive(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.client_left()
            return
        if data:
            self.received(data)
        else:
            self._ended()

    def received(self, data: bytes) -> None:
        """Bytes of requests; the usual case, a lone GET of what is open, is over here."""
        if not self.buffer and not self.delivery.is_busy:
            match = _match_get(data)
            if match is not None:
                block = self.block
                end = match.end()
                if data.endswith(block.raw) and len(data) == end + len(block.raw):
                    opened = block.aliases.get(match[1])
                    worker = self.worker
                    if (
                        opened is not None
                        and worker.words[opened.word] == opened.stamp
                        and opened.fresh_until > worker.now
                        and not opened.is_let_go
                        and worker.accepts
                    ):
                        self._hit(block, match[1], opened)
                        return
        if self.upload is not None:
            self.upload.feed(data)
        elif self.delivery.is_busy:
            self.buffer += data
            if len(self.buffer) > PIPELINE_MAX_BYTES:
                self.stop_reading()
        elif self.buffer:
            self._process(self.buffer + data)
        else:
            self.since_s = self.worker.now_s
            self._process(data)

    def _ended(self) -> None:
        is_idle = not self.delivery.is_busy
        if (is_idle and not self.buffer) or (self.upload is not None and not self.upload.is_complete):
            self.client_left()
            return
        self.has_ended = True
        self.stop_reading()
        if is_idle:
            self._take_up()

    def _process(self, data: bytes) -> None:
        """Answer the requests in `data`, one after the other, until one is not answered at once."""
        self._is_processing = True
        try:
            while data and not self.delivery.is_busy:
                match = _match_line(data)
                if match is None:
                    check_line(data, self.worker.config.limits.request_line)
                    if not data.startswith(b"\r\n") or len(data) == 2:
                        break
                    data = data[2:]
                    continue
                self.method, self.target, self.minor = match.groups()
                end = match.end()
                block = self.block
                if not data.startswith(block.raw, end):
                    stop = data.find(b"\r\n\r\n", end - 2) + 4
                    limits = self.worker.config.limits
                    check_sizes(data, end, stop, limits.request_line, limits.head)
                    if stop < 4:
                        break
                    block = self.block = self.worker.block(data[end:stop])
                data = data[end + len(block.raw) :]
                self.buffer = data
                if not self._answer(block):
                    return
                data = self.buffer
            self.buffer = data
        except EdgeError as error:
            self._is_processing = False  # what came behind it is taken up after the answer
            self.refuse(error)
        finally:
            self._is_processing = False

    # answering

    def _hit(self, block: Block, target: bytes, opened: OpenObject) -> None:
        """Send a whole object that is open. What does not fit into the socket at once becomes a delivery."""
        worker = self.worker
        started_s = self.monotonic()
        is_plain = block.is_plain
        data = opened.response(worker.now) if is_plain else opened.response_from_zero(worker.now)
        sent = done = 0
        size = opened.size
        opened.hits += 1
        try:
            sent = self.send(data, opened.send_flags)
            if opened.body is not None:
                done = size if sent == len(data) else 0
            elif sent == len(data) and opened.is_memory:
                done = self.send_body(opened.fd, opened.body_offset, size if size < _TURN else _TURN)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            done = -1  # the delivery finds out what it is
        self.since_s = worker.now_s
        if done == size:
            took_s = self.monotonic() - started_s
            status, source = opened.status if is_plain else 206, opened.source
            worker.log.append(
                (worker.now, self.peer, block, b"GET", target, status, size, _HIT, source, took_s, took_s, opened, "")
            )
            return
        self.method, self.target, self.minor, self.keeps = b"GET", target, b"1", True
        self.resource, self.resumptions = None, 0
        self.delivery.take_over(data, sent, max(done, 0), opened, opened.status if is_plain else 206, started_s)

    def _answer(self, block: Block) -> bool:
        """Begin the response to the request just parsed; whether the connection still lives."""
        delivery = self.delivery
        delivery.is_busy = True
        delivery.started_s = self.monotonic()
        answer(self, block)
        return self.fd >= 0

    def connection_line(self) -> bytes:
        if not self.keeps:
            return CLOSE
        return KEEP if self.minor == b"0" else b""

    def refuse(self, error: EdgeError) -> None:
        """Answer with an error of our own, or break off where an answer has begun."""
        worker = self.worker
        worker.page.error(error.reason)
        delivery = self.delivery
        if self.request:
            worker.misses.leave(self)
        if not delivery.is_busy:  # it was not even read
            self.block, self.method, self.target, self.buffer = _NO_BLOCK, b"", b"", b""
        if delivery.is_busy and (delivery.first_byte_s or delivery.out):
            self._finish(str(error.reason))
            self.abort()
            return
        if (isinstance(error, RequestError) and error.close) or (self.block.body_length and self.upload is None):
            self.keeps = False  # also where a body may follow that nobody reads: it must not pass for a request
        delivery.is_busy = True
        delivery.started_s = delivery.started_s or self.monotonic()
        delivery.outcome, delivery.source, delivery.status = Outcome.ERROR, Source.EDGE, error.status
        allow = ALLOW if isinstance(error, MethodNotAllowed) else ""
        close = not self.keeps or not worker.accepts
        self.keeps = not close
        head_only = self.method == b"HEAD"
        delivery.send_bytes(
            error_response(error, worker.now, close=close, allow=allow, head_only=head_only),
            lambda: self._delivered(str(error.reason)),
        )

    # writing

    @property
    def is_established(self) -> bool:
        """Whether requests may come; over TLS, once the handshake is over."""
        return True

    @property
    def has_unsent(self) -> bool:
        """Whether bytes of a response that is over still wait here; plain ones are the kernel's."""
        return False

    def send_body(self, fd: int, offset: int, count: int) -> int:
        """Send bytes of a file, as many as the socket takes; OSError as the system gives it."""
        return _sendfile(self.fd, fd, offset, count)

    def await_writable(self) -> None:
        if not self._is_writing and self.fd >= 0:
            self._is_writing = True
            self.worker.loop.add_writer(self.fd, self.on_writable)

    def stop_writing(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self.worker.loop.remove_writer(self.fd)

    def on_writable(self) -> None:
        self.delivery.on_writable()

    def stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self.worker.loop.remove_reader(self.fd)

    def start_reading(self) -> None:
        if not self._is_reading and self.fd >= 0 and not self.has_ended:
            self._is_reading = True
            self.worker.loop.add_reader(self.fd, self.on_readable)

    # endings

    def delivered(self) -> None:
        """The response is whole."""
        self._delivered("")

    def _delivered(self, reason: str) -> None:
        self._finish(reason)
        is_last = not self.keeps or (self.has_ended and not self.buffer)
        if is_last or (self.upload is not None and not self.upload.is_complete):
            self._close_politely()
            return
        self.upload = None
        if self._is_writing:
            self.stop_writing()
        if self.buffer and not self._is_processing:
            # not at once: a client that sends ahead must not make us recurse
            self.worker.loop.call_soon(self._take_up)

    def _take_up(self) -> None:
        """Go on with what the client sent while it was being answered."""
        if self.fd >= 0 and not self.delivery.is_busy:
            self.start_reading()
            before = len(self.buffer)
            self._process(self.buffer)
            if self.has_ended and not self.delivery.is_busy:
                # where nothing was taken, what is left is no whole request and never will be
                self._close_politely() if len(self.buffer) == before else self.worker.loop.call_soon(self._take_up)

    def _finish(self, reason: str) -> None:
        """Count and log the request, whatever became of it."""
        worker = self.worker
        delivery = self.delivery
        worker.log.append(
            (
                worker.now,
                self.peer,
                self.block,
                self.method,
                self.target,
                delivery.status,
                delivery.body_bytes,
                delivery.outcome,
                delivery.source,
                delivery.first_byte_s,
                self.monotonic() - delivery.started_s,
                delivery.object,
                reason,
            )
        )
        delivery.start = delivery.position = 0
        delivery.reset()
        delivery.started_s = 0.0
        self.since_s = worker.now_s
        if self.request:
            worker.misses.leave(self)

    def client_left(self) -> None:
        """Normal traffic, not an error."""
        if self.fd < 0:
            return
        if self.delivery.is_busy:
            self.page.add(CLIENTS_LEFT)
            self._finish("client_left")
        self.close()

    def lost(self, opened: OpenObject, reason: Reason) -> None:
        """The file cannot be read: tell the manager; the bytes may still be had from the origin."""
        self.worker.misses.lost(opened, reason)
        self.starved(reason)

    def starved(self, reason: Reason | None) -> None:
        """What was being sent has no more bytes here: go on elsewhere, or break off and say so."""
        if not self.worker.misses.resume(self):
            self.break_off(reason or Reason.INTERNAL)

    def break_off(self, reason: Reason) -> None:
        """End a response that cannot be completed."""
        self.page.error(reason)
        self._finish(str(reason))
        self.abort()

    def abort(self) -> None:
        """Break the connection so that nobody can take what was sent for whole."""
        if self.fd >= 0:
            reset_at_close(self.sock)
        self.close()

    def _close_politely(self) -> None:
        """Say that no more comes, but let what the client still sends arrive."""
        if self.has_ended:
            self.close()
        elif self.fd >= 0:
            self._forget()
            self.worker.lingering.add(self.sock, self.peer, self.worker.now_s)

    def close(self) -> None:
        if self.fd >= 0:
            self._forget()
            self.sock.close()

    def _forget(self) -> None:
        """Leave nothing behind that knows of us but the socket."""
        if self.upload is not None:
            self.upload.close()
            self.upload = None
        if self.request:
            self.worker.misses.leave(self)
        self.stop_reading()
        self.stop_writing()
        self.fd = -1
        self.delivery.reset()
        self.worker.closed(self)
