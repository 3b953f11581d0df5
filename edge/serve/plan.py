"""What a stored representation answers to a request: pure."""

from __future__ import annotations

from typing import NamedTuple

from edge.http.conditions import Outcome as Precondition
from edge.http.conditions import evaluate
from edge.http.fields import Fields
from edge.http.head import Block
from edge.http.ranges import UNSATISFIABLE, RangeSet, Span, Unsatisfiable, if_range_matches, parse_range, resolve
from edge.store.record import Record

RANGES_MAX = 8
"""Ranges of one request."""


class Plan(NamedTuple):
    """Status, and the bytes of the body that go with it."""

    status: int
    start: int = 0
    end: int = 0
    parts: tuple[Span, ...] = ()
    """More than one span: multipart/byteranges; `start` and `end` are the first one's."""

    @property
    def spans(self) -> tuple[Span, ...]:
        """All of them."""
        return self.parts or ((self.start, self.end),)


def wanted_range(block: Block) -> RangeSet | None:
    """The ranges a request asks for; None: all of it. Too many are taken for all (RFC 9110, 14.2)."""
    if block.range is None:
        return None
    specs = parse_range(block.range)
    return specs if specs is not None and len(specs) <= RANGES_MAX else None


def span_of(specs: RangeSet | None) -> tuple[int | None, int | None]:
    """The first range as the manager is asked for it: start and end; a suffix has no start.

    The others are asked for when their turn comes, so that a client never makes us fetch what it does not read.
    """
    if specs is None:
        return None, None
    first, last = specs[0]
    if first is None:
        return None, last
    return first, None if last is None else last + 1


def response_plan(method: str, block: Block, record: Record, size: int) -> Plan:
    """The response to a GET or HEAD from a representation of `size` bytes (RFC 9110, 13.2.2 and 14)."""
    whole = Plan(record.status, 0, max(size, 0))
    if block.is_plain or record.status != 200:
        return whole
    stored = Fields(record.fields)
    etag, modified = stored.get("etag"), stored.get("last-modified")
    verdict = evaluate(
        method,
        block.fields,
        status=record.status,
        etag=etag,
        last_modified=modified,
        date=stored.get("date"),
        received_at=record.response_time,
    )
    if verdict is Precondition.NOT_MODIFIED:
        return Plan(304)
    if verdict is Precondition.PRECONDITION_FAILED:
        return Plan(412)
    specs = wanted_range(block)
    if specs is None or method != "GET" or size < 0:
        return whole
    if_range = block.fields.get("if-range")
    if if_range is not None and not if_range_matches(if_range, etag, modified, stored.get("date")):
        return whole
    spans = resolve(specs, size, max_ranges=RANGES_MAX)
    if isinstance(spans, Unsatisfiable):
        assert spans is UNSATISFIABLE
        return Plan(416)
    if not spans:
        return whole
    return Plan(206, *spans[0], parts=tuple(spans) if len(spans) > 1 else ())
