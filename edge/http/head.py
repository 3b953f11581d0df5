"""A request's head, off the wire: strict, since whatever two parsers read differently is a way in (RFC 9112).

The request line and the block of fields are parsed apart: a player repeats its block to the letter in every request of
a connection, so that a block seen before needs no parsing. A strict grammar is checked first, then llhttp reads it:
what either refuses is refused.
"""

from __future__ import annotations

import re
from typing import Any

import httptools

from edge.errors import HeadTooLarge, RequestError, TargetTooLong, UnmetExpectation, UnsupportedVersion
from edge.http.directives import NO_DIRECTIVES, request_directives
from edge.http.fields import Fields, end_to_end
from edge.terms import Reason

REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
"""Method, target, minor version. One space between, no other byte (RFC 9112, 3)."""

LINE_BEGINNING = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?: (?:[\x21-\x7e]+(?: [HTP/0-9.]{0,8}\r?)?)?)?")
"""What more bytes can still make a request line of."""

_ANY_VERSION = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [\x21-\x7e]+ HTTP/[0-9]\.[0-9]\r\n")
_BLOCK = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
"""Field lines: no folding, no space before the colon, no control character, no bare CR or LF (RFC 9112, 5)."""

_CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_OWS = " \t"


NO_ALIASES: dict[bytes, Any] = {}
"""Of a block that the hot path does not serve: never written to."""


class Block:
    """What a block of request fields says, parsed once."""

    __slots__ = (
        "_end_to_end",
        "aliases",
        "body_length",
        "closes",
        "directives",
        "expects_continue",
        "fields",
        "host",
        "is_from_zero",
        "is_plain",
        "keeps_alive_1_0",
        "log_fields",
        "range",
        "raw",
        "route",
    )

    def __init__(self, raw: bytes) -> None:
        """Raises RequestError for what is not a block of fields, or frames its body in doubt."""
        if _BLOCK.fullmatch(raw) is None:
            raise RequestError("not a block of header fields")
        collected: list[tuple[bytes, bytes]] = []
        _llhttp(raw, collected)
        self.raw = raw
        fields = Fields((name.decode("ascii"), value.decode("latin-1").strip(_OWS)) for name, value in collected)
        self.fields = fields
        hosts = fields.all("host")
        if len(hosts) > 1:
            raise RequestError("more than one Host")
        if hosts and not hosts[0]:
            raise RequestError("an empty Host")  # a URI of http has one (RFC 9110, 4.2.1)
        self.host = hosts[0] if hosts else None
        connection = (fields.combined("connection") or "").lower()
        options = {option.strip(_OWS) for option in connection.split(",")} if connection else set()
        self.closes = "close" in options
        self.keeps_alive_1_0 = "keep-alive" in options
        self.body_length = _body_length(fields)
        self.expects_continue = _expects_continue(fields)
        ranges = fields.all("range")
        self.range = ranges[0] if len(ranges) == 1 else None
        self.directives = request_directives(fields)
        """What it asks of caches."""
        self._end_to_end: Fields | None = None
        is_conditional = any(name in fields for name in _CONDITIONS)
        asks_nothing = self.directives is NO_DIRECTIVES and not is_conditional
        is_simple = bool(hosts) and self.body_length is None and asks_nothing
        self.is_plain = is_simple and not ranges
        """A host, and no body, range, condition or directive: the whole object, if it is here and fresh."""
        self.is_from_zero = is_simple and self.range == "bytes=0-"
        """The same as a range: what ffmpeg and browsers ask for."""
        self.log_fields: str | None = None
        """What the access log says of it, once it was asked."""
        self.aliases: dict[bytes, Any] = NO_ALIASES
        """Targets that a plain GET with this block may be answered from at once; the router's, once it has said."""
        self.route: object = None
        """Where requests with this block go, once the router has said."""

    @property
    def end_to_end(self) -> Fields:
        """The fields that go on to an origin, and that select a variant: no hit needs them."""
        if self._end_to_end is None:
            self._end_to_end = end_to_end(self.fields)
        return self._end_to_end


def _llhttp(raw: bytes, collected: list[tuple[bytes, bytes]]) -> None:
    collector = _Collector(collected)
    try:
        httptools.HttpRequestParser(collector).feed_data(b"GET / HTTP/1.1\r\n" + raw)
    except httptools.HttpParserUpgrade:
        pass  # an upgrade is not offered: the request is answered as if it had not been asked for
    except httptools.HttpParserError as error:
        raise RequestError(f"llhttp: {error}") from error
    if not collector.is_complete:
        raise RequestError("llhttp did not reach the end of the head")


class _Collector:
    __slots__ = ("collected", "is_complete")

    def __init__(self, collected: list[tuple[bytes, bytes]]) -> None:
        self.collected = collected
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.collected.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_complete = True


def _body_length(fields: Fields) -> int | None:
    """Bytes of the body, -1 when chunked, None without one (RFC 9112, 6). Any doubt is an error."""
    lengths = fields.all("content-length")
    codings = fields.combined("transfer-encoding")
    if codings is not None:
        if lengths:
            raise RequestError("both Content-Length and Transfer-Encoding")
        if codings.lower() != "chunked":  # not stripped: what str.strip() takes for a blank others do not
            raise RequestError(f"transfer coding {codings!r}")
        return -1
    if not lengths:
        return None
    if len(lengths) > 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise RequestError("not one Content-Length")
    return int(lengths[0])


def _expects_continue(fields: Fields) -> bool:
    expectation = fields.combined("expect")
    if expectation is None:
        return False
    if expectation.lower() != "100-continue":
        raise UnmetExpectation(f"Expect: {expectation}")
    return True


def check_line(data: bytes, line_max: int) -> None:
    """Return if more bytes can make a request line of this. What cannot be one is refused as soon as it is seen."""
    newline = data.find(b"\n")
    if data == b"\r" or data.startswith(b"\r\n"):
        # one empty line before a request is forgiven (RFC 9112, 2.2), and no more
        if data[2:3] == b"\r":
            raise RequestError("empty lines before a request")
        return
    if newline < 0 and len(data) <= line_max and LINE_BEGINNING.fullmatch(data) is not None:
        return
    if len(data) > line_max and not 0 <= newline <= line_max:
        raise TargetTooLong(f"a request line of more than {line_max} bytes")
    raise refuse_line(data[: newline + 1])


def check_sizes(data: bytes, line_end: int, stop: int, line_max: int, block_max: int) -> None:
    """Refuse a request line, or a block of fields from `line_end` to `stop` (-1 + 4: not yet seen), over its limit."""
    if line_end > line_max:
        raise TargetTooLong(f"a request line of more than {line_max} bytes")
    if (stop - line_end if stop >= 4 else len(data) - line_end) > block_max:
        raise HeadTooLarge(f"more than {block_max} bytes of fields")
    if stop < 4 and data.count(b"\n", line_end) != data.count(b"\r\n", line_end):
        raise RequestError("a line that ends in LF alone")


def refuse_line(line: bytes) -> RequestError:
    """Why REQUEST_LINE did not match: another version, or no request at all."""
    if _ANY_VERSION.match(line) is not None:
        return UnsupportedVersion(line[-12:].decode("latin-1").strip())
    return RequestError("not a request line", Reason.BAD_REQUEST)
