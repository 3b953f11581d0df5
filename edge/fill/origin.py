"""The origins' client: the only place that opens sockets to them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from edge.clock import Clock
from edge.config import Config, Site
from edge.errors import OriginError, OriginTimeout
from edge.fill.lanes import Lane, Lanes
from edge.fill.messages import Pair
from edge.http.fields import Fields, end_to_end
from edge.http.invalidation import SAFE_METHODS
from edge.metrics import FILL_BYTES, FILL_REQUESTS, ORIGIN_FIRST_BYTE, Page
from edge.terms import Reason

_READ_BUFFER_BYTES = 256 << 10
_FIELD_MAX_BYTES = 32 << 10
_HEAD_MAX_BYTES = 64 << 10
"""All fields of a response: they travel in messages of bounded size."""
_VIA = ("Via", "1.1 edge")
_NO_CONTENT = frozenset((204, 205, 304))
Body = AsyncIterator[bytes]


Hinted = Callable[[int, tuple[Pair, ...]], None]
_hinted: ContextVar[Hinted | None] = ContextVar("hinted", default=None)
_HINTS = frozenset((102, 103))
"""Informational responses that are passed on; 100 and 101 are this hop's own (RFC 9110, 15.2)."""


class _Response(aiohttp.ClientResponse):
    """Tells of informational responses, which aiohttp drops."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        hinted, protocol = _hinted.get(), connection.protocol
        if hinted is None:
            return await super().start(connection)
        read = protocol.read

        async def watched() -> Any:
            message, payload = await read()
            if message.code in _HINTS:
                fields = Fields(
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in message.raw_headers
                )
                hinted(message.code, end_to_end(fields).pairs)
            return message, payload

        protocol.read = watched
        try:
            return await super().start(connection)
        finally:
            del protocol.read


class OriginResponse:
    """A response whose head is in. Its body is read with chunks()."""

    def __init__(
        self, raw: aiohttp.ClientResponse, method: str, times: tuple[float, float], client: OriginClient
    ) -> None:
        self._raw = raw
        self._client = client
        self.status = raw.status
        self.fields = Fields((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw.raw_headers)
        self.request_time, self.response_time = times
        self.has_body = method != "HEAD" and raw.status not in _NO_CONTENT

    @property
    def length(self) -> int | None:
        value = self.fields.get("content-length")
        return int(value) if value is not None and value.isascii() and value.isdigit() else None

    @property
    def is_delimited(self) -> bool:
        """Whether a broken connection can be told from the end of the body."""
        return self.length is not None or "transfer-encoding" in self.fields or not self.has_body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises OriginError when it breaks, OriginTimeout when nothing comes for too long."""
        stall_s = self._client.stall_s
        content = self._raw.content
        while True:
            try:
                async with asyncio.timeout(stall_s):
                    chunk = await content.readany()
            except TimeoutError as error:
                raise OriginTimeout(f"no byte for {stall_s:g} s", Reason.ORIGIN_STALLED) from error
            except (aiohttp.ClientError, OSError) as error:
                raise _translated(error) from error
            if not chunk:
                return
            self._client.page.add(FILL_BYTES, len(chunk))
            yield chunk


def _is_quiet(transport: asyncio.Transport | None) -> bool:
    """Whether nothing has come on a connection that the event loop has not read yet."""
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return not poll.poll(0)


class _Protocol(ResponseHandler):
    """Takes a body for what its head says, also where more bytes came with it; they end the connection, unread (RFC
    9112, 6.3). Left to itself, aiohttp throws the whole answer away if the surplus is in the same piece as the head.
    """

    def data_received(self, data: bytes) -> None:
        expects_head = self._payload is None or self._payload.is_eof()
        end = data.find(b"\r\n\r\n") + 4 if expects_head else -1
        if 4 <= end < len(data):
            super().data_received(data[:end])
            if self._parser is None or self._exception is not None:
                return
            data = data[end:]
        super().data_received(data)


class _Connector(aiohttp.TCPConnector):
    """Drops an idle connection on which something came that belongs to no request: it would be taken for the answer to
    the next one.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        make: type[ResponseHandler] = _Protocol
        self._factory = functools.partial(make, loop=self._loop)

    async def _get(self, key: Any, traces: Any) -> Any:
        while (connection := await super()._get(key, traces)) is not None:
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close and _is_quiet(protocol.transport):
                return connection
            connection.close()
        return None


class OriginClient:
    """Keep-alive connections to all origins of all sites."""

    def __init__(self, config: Config, clock: Clock, page: Page) -> None:
        fill = config.fill
        self.stall_s = fill.stall_timeout
        self.page = page
        self._first_byte_s = fill.first_byte_timeout
        self._clock = clock
        self.loop_id = config.cdn_id or loop_id(config.state_dir)
        """How this box is known in CDN-Loop (RFC 8586)."""
        self.lanes = Lanes(fill.origin_connections)
        kept = _Connector(limit=0, keepalive_timeout=30)  # the lanes are the limit: they know who goes first
        fresh = _Connector(limit=0, force_close=True)
        self._session = self._new_session(kept, config)
        # an unsafe request is sent once: by aiohttp too, and on a connection that the origin cannot just be closing
        self._unsafe = self._new_session(fresh, config)
        self._unsafe._retry_connection = False  # noqa: SLF001 - there is no other switch

    @staticmethod
    def _new_session(connector: aiohttp.TCPConnector, config: Config) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            response_class=_Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=config.fill.connect_timeout),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_FIELD_MAX_BYTES,
            max_field_size=_FIELD_MAX_BYTES,
        )

    @contextlib.asynccontextmanager
    async def request(
        self,
        site: Site,
        method: str,
        host: str,
        target: str,
        fields: Sequence[Pair],
        *,
        body: Body | None = None,
        body_length: int | None = None,
        attempt: int = 0,
        hinted: Hinted | None = None,
        lane: Lane = Lane.DEMAND,
    ) -> AsyncIterator[OriginResponse]:
        """Send one request and wait for its response's head; leaving the block ends the connection or returns it.

        `attempt` chooses among the site's origins; `hinted` hears of informational responses. Raises OriginError,
        OriginTimeout, or Overloaded where too many wait already.
        """
        origin = site.origins[attempt % len(site.origins)]
        headers = [*fields, _VIA, ("CDN-Loop", self.loop_id)]
        if site.host_header == "client" and host:
            headers.insert(0, ("Host", host))
        if body is not None and body_length is not None and body_length >= 0:
            headers.append(("Content-Length", str(body_length)))
        url = URL(origin + target, encoded=True)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._first_byte_s if lane is Lane.DEMAND else None):
                    await stack.enter_async_context(self.lanes.place(origin, lane))
            except TimeoutError as error:
                raise OriginTimeout(f"{origin}: no turn within {self._first_byte_s:g} s") from error
            _hinted.set(hinted)
            yield await stack.enter_async_context(self._exchange(method, url, headers, body))

    @contextlib.asynccontextmanager
    async def _exchange(
        self, method: str, url: URL, headers: list[Pair], body: Body | None
    ) -> AsyncIterator[OriginResponse]:
        self.page.add(FILL_REQUESTS)
        started, request_time = self._clock.monotonic(), self._clock.wall()
        try:
            async with asyncio.timeout(self._first_byte_s if body is None else None) as limit:
                raw = await (self._session if method in SAFE_METHODS else self._unsafe).request(
                    method,
                    url,
                    headers=headers,
                    data=None if body is None else self._watched(body, limit),
                    allow_redirects=False,
                    expect100=False,
                )
        except TimeoutError as error:
            raise OriginTimeout(f"{url.origin()}: no answer within {self._first_byte_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _translated(error) from error
        self.page.observe(ORIGIN_FIRST_BYTE, self._clock.monotonic() - started)
        try:
            if sum(len(name) + len(value) for name, value in raw.raw_headers) > _HEAD_MAX_BYTES:
                raise OriginError(f"more than {_HEAD_MAX_BYTES} bytes of fields", Reason.ORIGIN_PROTOCOL)
            yield OriginResponse(raw, method, (request_time, self._clock.wall()), self)
        finally:
            # release() keeps the connection only if the body was read to its end
            if raw.content.at_eof():
                raw.release()
            else:
                raw.close()

    async def _watched(self, body: Body, limit: asyncio.Timeout) -> Body:
        """A request's body: for a slow client the origin has to wait, but a client waits for no origin for ever."""
        loop = asyncio.get_running_loop()

        def patience(seconds: float | None) -> None:
            with contextlib.suppress(RuntimeError):  # the answer is here already
                limit.reschedule(None if seconds is None else loop.time() + seconds)

        async for chunk in body:
            patience(self.stall_s)
            yield chunk
            patience(None)
        patience(self._first_byte_s)

    async def close(self) -> None:
        await self._session.close()
        await self._unsafe.close()


def loop_id(state_dir: str) -> str:
    """A name of this box, the same whenever it starts, and no other's."""
    return "edge-" + hashlib.blake2s(f"{socket.gethostname()}\n{state_dir}".encode(), digest_size=6).hexdigest()


def _translated(error: Exception) -> OriginError:
    """The one place where what aiohttp and the system say becomes ours."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ServerTimeoutError):
        return OriginTimeout(text)
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return OriginError(text, Reason.ORIGIN_UNRESOLVED)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return OriginError(text, Reason.ORIGIN_TLS)
    if isinstance(error, aiohttp.ClientConnectorError):
        is_timeout = getattr(error.os_error, "errno", None) == errno.ETIMEDOUT
        return OriginTimeout(text) if is_timeout else OriginError(text, Reason.ORIGIN_REFUSED)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionError):
        return OriginError(text, Reason.ORIGIN_RESET)
    return OriginError(text, Reason.ORIGIN_PROTOCOL)
