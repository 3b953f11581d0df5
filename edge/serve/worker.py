"""A worker: accepts clients and serves them from the store. It writes nothing there and knows no origin."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Sequence

from edge.clock import Clock
from edge.config import Config
from edge.http.head import Block
from edge.limits import ACCEPTS_PER_TURN
from edge.logs import get_logger
from edge.metrics import (
    CONNECTIONS,
    CONNECTIONS_ACCEPTED,
    CONNECTIONS_REFUSED,
    HEARTBEAT,
    OPEN_OBJECTS,
    TRANSFERS,
    Page,
)
from edge.routing import Router
from edge.serve.accesslog import AccessLog
from edge.serve.addresses import Addresses
from edge.serve.certificates import Certificates
from edge.serve.connection import Connection
from edge.serve.kernel_tls import KernelConnection, works_with
from edge.serve.linger import Lingering
from edge.serve.misses import Misses
from edge.serve.objects import HotTable
from edge.serve.patience import Patience
from edge.serve.secure import SecureConnection
from edge.serve.tickets import TicketKeys
from edge.store.layout import Layout
from edge.store.reader import StoreReader
from edge.terms import Reason

_BLOCKS_MAX = 4096
_BLOCK_BYTES = 2048
_TICK_S = 0.25
_TICKS_A_FLUSH = 2
_TICKS_A_SWEEP = 4
_DRAIN_POLL_S = 0.05
_OUT_OF_FILES_PAUSE_S = 0.5
_log = get_logger()


class Worker:
    def __init__(
        self, config: Config, clock: Clock, page: Page, listeners: Sequence[socket.socket], ticket_secret: bytes
    ) -> None:
        self.config = config
        self.clock = clock
        self.page = page
        self.loop = asyncio.get_running_loop()
        self.store = StoreReader(config)
        self.words = self.store.slots.words
        self.hot = HotTable(self.store, config.limits.open_objects)
        self.router = Router(config)
        self.misses = Misses(self, Layout(config).manager_socket)
        self._access_log = AccessLog(config.log.access, page, self.store, self.misses)
        self.log = self._access_log.entries
        self.accepts = True
        """Whether new requests on old connections are welcome; false while draining."""
        self.now = clock.wall()
        """Wall time, to a quarter of a second: what Age and freshness are reckoned with."""
        self.now_s = clock.monotonic()
        """Monotonic time, as coarse: what patience is reckoned with."""
        self._listeners = listeners
        ticket_keys = TicketKeys(ticket_secret, self.now)
        self._certificates = Certificates(config.certificates, ticket_keys) if config.certificates else None
        by_kernel = self._certificates is not None and works_with(self._certificates.context)
        self._secure_kind: type[KernelConnection | SecureConnection] = (
            KernelConnection if by_kernel else SecureConnection
        )
        self._connections: set[Connection] = set()
        self._addresses = Addresses(config.limits)
        self._patience = Patience(self.loop, config.limits)
        self.lingering = Lingering(self.loop, self._addresses)
        self._blocks: dict[bytes, Block] = {}
        self._ticks = 0
        self._accepted = 0
        page.clear_gauges()

    def start(self) -> None:
        self.misses.connect()
        self._tick()
        for listener, configured in zip(self._listeners, self.config.listeners, strict=True):
            certificates = self._certificates if configured.tls else None
            listener.setblocking(False)
            self.loop.add_reader(listener.fileno(), self._accept, listener, certificates)

    # connections

    def _accept(self, listener: socket.socket, certificates: Certificates | None) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    raise
                self._pause_accepting(listener, certificates, error)
                return
            peer = address[0] if isinstance(address, tuple) else "unix"
            if not self._has_room(peer):
                sock.close()
                continue
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.page.add(CONNECTIONS_ACCEPTED)
            if certificates is None:
                self._connections.add(Connection(self, sock, peer))
                self._addresses.enter(peer)
            else:
                self._accept_secure(sock, peer, certificates)

    def _accept_secure(self, sock: socket.socket, peer: str, certificates: Certificates) -> None:
        try:
            self._connections.add(self._secure_kind(self, sock, peer, certificates.context))
            self._addresses.enter(peer)
        except OSError:  # it has left already
            sock.close()

    def _has_room(self, peer: str) -> bool:
        # those that linger hold a descriptor as well
        if len(self._connections) + len(self.lingering) >= self.config.limits.connections:
            self.page.add(CONNECTIONS_REFUSED, 1, "connections")
        elif not self._addresses.has_room(peer):
            self.page.add(CONNECTIONS_REFUSED, 1, "connections_per_address")
        else:
            return True
        return False

    def _pause_accepting(self, listener: socket.socket, certificates: Certificates | None, error: OSError) -> None:
        """Out of descriptors or memory: the queue keeps the clients until something is freed."""
        self.page.error(Reason.OVERLOADED)
        _log.error("cannot accept", error=str(error))
        self.loop.remove_reader(listener.fileno())
        self.loop.call_later(_OUT_OF_FILES_PAUSE_S, self._resume_accepting, listener, certificates)

    def _resume_accepting(self, listener: socket.socket, certificates: Certificates | None) -> None:
        if self.accepts:
            self.loop.add_reader(listener.fileno(), self._accept, listener, certificates)

    def block(self, raw: bytes) -> Block:
        """A block of fields, parsed once however many connections repeat it. Raises RequestError."""
        known = self._blocks.get(raw)
        if known is None:
            known = Block(raw)
            if len(raw) <= _BLOCK_BYTES:
                if len(self._blocks) >= _BLOCKS_MAX:
                    self._blocks.clear()
                self._blocks[raw] = known
        return known

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._addresses.leave(connection.peer)

    # time

    def _tick(self) -> None:
        # first, so that a mistake below costs one tick and not all that follow
        self.loop.call_later(_TICK_S, self._tick)
        self._ticks += 1
        self.now = self.clock.wall()
        self.now_s = self.clock.monotonic()
        if self._ticks % _TICKS_A_FLUSH == 0:
            self.flush()
        if self._ticks % _TICKS_A_SWEEP == 0:
            self.hot.sweep()
            if self._certificates is not None:
                self._certificates.refresh(self.now)
            self.misses.sweep()
            self._patience.sweep(self._connections, self.now_s)
            self.lingering.sweep(self.now_s)
            page = self.page
            page.set(CONNECTIONS, len(self._connections))
            page.set(TRANSFERS, sum(one.delivery.is_busy for one in self._connections))
            page.set(OPEN_OBJECTS, len(self.hot))
            page.set(HEARTBEAT, int(self.now))

    def flush(self) -> None:
        self._access_log.flush(int(self.now))
        self.log = self._access_log.entries

    # the end

    async def drain(self) -> None:
        """Accept nothing more, let what runs finish within the limit, and close."""
        self.accepts = False
        for listener in self._listeners:
            self.loop.remove_reader(listener.fileno())
            listener.close()
        for connection in list(self._connections):
            if not connection.delivery.is_busy and not connection.has_unsent:
                connection.close()
        until = self.clock.monotonic() + self.config.limits.drain
        while self._connections and self.clock.monotonic() < until:  # noqa: ASYNC110 - bounded, and once in a life
            await asyncio.sleep(_DRAIN_POLL_S)
        left = len(self._connections)
        if left:
            _log.warning("transfers cut at the end of the drain", connections=left)
        for connection in list(self._connections):
            connection.break_off(Reason.DRAINING) if connection.delivery.is_busy else connection.close()
        self.flush()
        self.lingering.close()
        self.misses.close()
        await self._access_log.close()
        self.page.clear_gauges()

    def reopen_log(self) -> None:
        self._access_log.reopen()
