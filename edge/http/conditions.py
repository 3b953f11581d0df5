"""Conditional requests, and bringing stored fields up to date (RFC 9110, 13; RFC 9111, 3.2 and 4.3)."""

from collections.abc import Callable, Sequence
from enum import StrEnum

from edge.http.dates import http_date, parse_http_date
from edge.http.directives import TARGETS, effective_directives
from edge.http.fields import Fields, end_to_end
from edge.http.storable import stored_fields
from edge.http.validators import EntityTag, parse_etag, parse_etag_list, strong_match, strongest, weak_match


class Outcome(StrEnum):
    """What the preconditions leave to do."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not_modified"
    PRECONDITION_FAILED = "precondition_failed"


# Kept when a newer response updates a stored one. RFC 9111, 3.2 excepts Content-Length by name, and with "header fields
# that the cache's stored response depends upon" those that say what the stored bytes are: their coding and their place.
# Content-Type and the other Content-* fields are updated: the prefix "is not a signal that a field is omitted".
# Age is of the message, and is computed anew (5.1).
NOT_UPDATED = frozenset({"age", "content-encoding", "content-length", "content-range"})


def evaluate(
    method: str,
    request: Fields,
    *,
    status: int,
    etag: str | None,
    last_modified: str | None,
    date: str | None = None,
    received_at: float | None = None,
    now: float | None = None,
    as_origin: bool = False,
) -> Outcome:
    """What the request's preconditions make of a stored response, in RFC 9110, 13.2.2's order.

    `etag`, `last_modified` and `date` are its field values. Where it has no Last-Modified, Date or the Unix second it
    was received at stands in (RFC 9111, 4.3.2). If-Match and If-Unmodified-Since are the origin's affair, and are
    looked at only `as_origin`. Nothing is evaluated for a response that is not 2xx (13.2.1). If-Range comes after this:
    see `ranges.if_range_matches`.
    """
    if not 200 <= status < 300 or method in {"CONNECT", "OPTIONS", "TRACE"}:
        return Outcome.PROCEED
    modified = parse_http_date(last_modified, now) if last_modified is not None else None
    if as_origin and not _origin_conditions_hold(request, etag, modified, now):
        return Outcome.PRECONDITION_FAILED
    reads = method in {"GET", "HEAD"}
    none_match = request.combined("if-none-match")
    if none_match is not None:
        if not _matches_any(none_match, etag, weak_match):
            return Outcome.PROCEED
        return Outcome.NOT_MODIFIED if reads else Outcome.PRECONDITION_FAILED
    since = _single_date(request, "if-modified-since", now)
    if since is None or not reads:
        return Outcome.PROCEED
    if modified is None:
        modified = parse_http_date(date, now) if date is not None else None
    if modified is None:
        modified = received_at
    return Outcome.NOT_MODIFIED if modified is not None and modified <= since else Outcome.PROCEED


def _origin_conditions_hold(request: Fields, etag: str | None, modified: float | None, now: float | None) -> bool:
    match = request.combined("if-match")
    if match is not None:
        return _matches_any(match, etag, strong_match)
    unmodified_since = _single_date(request, "if-unmodified-since", now)
    return unmodified_since is None or modified is None or modified <= unmodified_since


def _matches_any(value: str, etag: str | None, same: Callable[[EntityTag | None, EntityTag | None], bool]) -> bool:
    tags = parse_etag_list(value)
    if tags == "*":
        return True
    stored = parse_etag(etag)
    return any(same(tag, stored) for tag in tags)


def _single_date(request: Fields, name: str, now: float | None) -> float | None:
    # Not a date, or more than one of them: to be ignored (RFC 9110, 13.1.3 and 13.1.4).
    lines = request.all(name)
    return parse_http_date(lines[0], now) if len(lines) == 1 else None


def selects(stored: Fields, not_modified: Fields) -> bool:
    """Whether a 304 speaks of this stored response, and so may freshen it (RFC 9111, 4.3.4).

    By a strong validator if the 304 has one, else by a weak one. A 304 without validators speaks only of a response
    without any; the caller sees that it holds no other.
    """
    theirs, ours = strongest(not_modified), strongest(stored)
    tag = parse_etag(theirs.etag)
    if tag is not None:
        return (weak_match if tag.weak else strong_match)(tag, parse_etag(ours.etag))
    if theirs.last_modified is not None:
        return _same_date(theirs.last_modified, ours.last_modified)
    return not ours


def freshen(
    stored: Fields, not_modified: Fields, *, targets: Sequence[str] = TARGETS, drop_set_cookie: bool = False
) -> Fields:
    """The stored fields, updated from a 304, a HEAD's 200 or another part's 206 (RFC 9111, 3.2, 3.4, 4.3.4, 4.3.5).

    Every field it has replaces the stored one's lines, but for `NOT_UPDATED` and those that are never stored, which
    may be other ones under the new directives: `targets` and `drop_set_cookie` are as for storing.
    """
    merged = stored.replacing(end_to_end(not_modified).without(NOT_UPDATED))
    return stored_fields(merged, effective_directives(merged, targets), drop_set_cookie=drop_set_cookie)


def head_agrees(stored: Fields, head: Fields, *, size: int | None = None) -> bool:
    """Whether a HEAD's 200 describes the stored response: it may then be freshened, else is stale (RFC 9111, 4.3.5).

    Every validator the HEAD response has must be the stored one, and its Content-Length, if any, the stored `size` in
    bytes, for which the stored Content-Length stands in.
    """
    theirs, ours = strongest(head), strongest(stored)
    if theirs.etag is not None and not weak_match(parse_etag(theirs.etag), parse_etag(ours.etag)):
        return False
    if theirs.last_modified is not None and not _same_date(theirs.last_modified, ours.last_modified):
        return False
    length = head.get("content-length")
    return length is None or length == (str(size) if size is not None else stored.get("content-length"))


def not_modified_fields(stored: Fields) -> Fields:
    """The fields of a 304 made from a stored 200 (RFC 9110, 15.4.5): no representation metadata beyond its validators
    and what guides caches.
    """
    return Fields(pair for pair in stored if pair[0].lower() not in _ABSENT_FROM_304)


def with_date(fields: Fields, received_at: float) -> Fields:
    """The fields with a Date, the moment received where the origin sent none (RFC 9110, 6.6.1)."""
    return fields if "date" in fields else fields.adding("Date", http_date(received_at))


_ABSENT_FROM_304 = frozenset(
    {
        "content-digest",
        "content-encoding",
        "content-language",
        "content-length",
        "content-range",
        "content-type",
        "repr-digest",
    }
)


def _same_date(one: str, other: str | None) -> bool:
    return other is not None and parse_http_date(one) == parse_http_date(other)
