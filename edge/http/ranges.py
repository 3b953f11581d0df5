"""Byte ranges: Range, Content-Range, If-Range and multipart/byteranges (RFC 9110, 13.1.5 and 14)."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from edge.http.dates import parse_http_date
from edge.http.fields import list_members
from edge.http.validators import is_strong_date, parse_etag, strong_match

Spec = tuple[int | None, int | None]
RangeSet = tuple[Spec, ...]
Span = tuple[int, int]

_UNIT = re.compile(r"[ \t]*bytes=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]+)-([0-9]+)/([0-9]+|\*)|\*/([0-9]+))", re.IGNORECASE)

_POSITION_MAX = 10**18  # beyond any representation; int() itself refuses numbers of thousands of digits


class Unsatisfiable:
    """No range asked for lies within the representation: 416 (RFC 9110, 15.5.17)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSATISFIABLE"


UNSATISFIABLE: Final = Unsatisfiable()


def parse_range(value: str) -> RangeSet | None:
    """Range's specs as (first, last), (first, None) for an open one, (None, length) for a suffix.

    None for another unit or a value that breaks the grammar, last before first included: the field is to be ignored
    (RFC 9110, 14.2).
    """
    found = _UNIT.fullmatch(value)
    members = list_members(found[1]) if found is not None else []
    specs: list[Spec] = []
    for member in members:
        spec = _SPEC.fullmatch(member)
        if spec is None:
            return None
        first, last, suffix = (_position(text) for text in spec.groups())
        if suffix is not None:
            specs.append((None, suffix))
        elif first is not None and last is not None and last < first:
            return None
        else:
            specs.append((first, last))
    return tuple(specs) or None


def resolve(specs: RangeSet, size: int, *, max_ranges: int) -> list[Span] | Unsatisfiable:
    """The specs as half-open spans within `size` bytes, in the order asked for, none touching another.

    Overlapping and adjacent ones are joined, in the place of the first (RFC 9110, 15.3.7.2). The empty list means that
    Range is ignored and the whole is sent with 200: for more than `max_ranges` spans (14.2), and for a suffix of an
    empty representation, which is satisfiable (14.1.2) but has no Content-Range.
    """
    asked: list[Span] = []
    satisfiable = False
    for first, last in specs:
        if first is None:
            satisfiable |= last != 0
            span = (max(0, size - (last or 0)), size)
        else:
            satisfiable |= first < size
            span = (first, size if last is None else min(last + 1, size))
        if span[0] < span[1]:
            asked.append(span)
    if not satisfiable:
        return UNSATISFIABLE
    spans = _joined(asked)
    return [] if len(spans) > max_ranges else spans


def content_range(start: int, end: int, size: int | None) -> str:
    """Content-Range of the bytes from `start` up to, not including, `end`; `size` None where unknown (14.4)."""
    if not 0 <= start < end or (size is not None and end > size):
        raise ValueError(f"no range: {start}..{end} of {size}")
    return f"bytes {start}-{end - 1}/{'*' if size is None else size}"


def unsatisfied_range(size: int) -> str:
    """Content-Range of a 416 (RFC 9110, 15.5.17)."""
    return f"bytes */{size}"


class ContentRange(NamedTuple):
    """The half-open span a part covers, None and None in a 416's; the whole's size where known."""

    start: int | None
    end: int | None
    size: int | None

    @property
    def is_unsatisfied(self) -> bool:
        return self.start is None


def parse_content_range(value: str) -> ContentRange | None:
    """Content-Range; None for another unit or an invalid value, which must not be combined with (RFC 9110, 14.4)."""
    found = _CONTENT_RANGE.fullmatch(value.strip(" \t"))
    if found is None:
        return None
    first, last, size, whole = (None if text == "*" else _position(text) for text in found.groups())
    if first is None or last is None:
        return ContentRange(None, None, whole)
    if last < first or (size is not None and size <= last):
        return None
    return ContentRange(first, last + 1, size)


def if_range_matches(value: str, etag: str | None, last_modified: str | None, date: str | None) -> bool:
    """Whether Range may be applied: the same strong entity tag or strong date (RFC 9110, 13.1.5).

    `etag`, `last_modified` and `date` are the stored response's field values. A date is strong only if `date` proves it
    (8.8.2.2), and it must be the very same, not merely later.
    """
    tag = parse_etag(value)
    if tag is not None:
        return strong_match(tag, parse_etag(etag))
    asked = parse_http_date(value)
    if asked is None or last_modified is None or not is_strong_date(last_modified, date):
        return False
    return asked == parse_http_date(last_modified)


class MultipartLayout(NamedTuple):
    """A multipart/byteranges body: per part its head and span, then the closing delimiter, and the length in bytes."""

    parts: list[tuple[bytes, int, int]]
    tail: bytes
    length: int


def multipart_layout(
    spans: Sequence[Span], size: int | None, content_type: str | None, boundary: str
) -> MultipartLayout:
    """The body for several spans (RFC 9110, 14.6). The caller sees that `boundary` occurs in none of the parts."""
    parts: list[tuple[bytes, int, int]] = []
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    for start, end in spans:
        delimiter = f"\r\n--{boundary}\r\n" if parts else f"--{boundary}\r\n"
        head = f"{delimiter}{kind}Content-Range: {content_range(start, end, size)}\r\n\r\n"
        parts.append((head.encode("latin-1"), start, end))
    tail = f"\r\n--{boundary}--\r\n".encode("latin-1")
    length = sum(len(head) + end - start for head, start, end in parts) + len(tail)
    return MultipartLayout(parts, tail, length)


def _position(text: str | None) -> int | None:
    if not text:
        return None
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= 18 else _POSITION_MAX


def _joined(spans: list[Span]) -> list[Span]:
    merged: list[tuple[int, int, int]] = []  # start, end, the earliest place asked for
    for place, (start, end) in sorted(enumerate(spans), key=lambda item: item[1]):
        if merged and start <= merged[-1][1]:
            before = merged[-1]
            merged[-1] = (before[0], max(before[1], end), min(before[2], place))
        else:
            merged.append((start, end, place))
    return [(start, end) for start, end, _ in sorted(merged, key=lambda item: item[2])]
