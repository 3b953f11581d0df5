"""What to ask an origin for, and what its answer means: pure."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from edge.config import Site
from edge.fill.messages import Pair, Want
from edge.fill.rules import Rules
from edge.http.fields import Fields, end_to_end
from edge.http.ranges import parse_content_range
from edge.http.statuses import has_content
from edge.http.storable import NoStoreReason, partial_storable, storability
from edge.http.vary import VaryStar, vary_names

NO_RULES = Rules()

_OURS = frozenset(
    (
        "host",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "accept-encoding",
        "cache-control",
        "pragma",
        "content-length",
        "expect",
        "cmcd-object",
        "cmcd-request",
        "cmcd-session",
        "cmcd-status",
    )
)
"""A shared fill asks for the whole representation, in no coding, unconditionally, and tells nothing of the viewer."""
_OURS_WITH_CORS = _OURS | {"origin"}
"""Where the edge answers for the origin what other web sites may do, it need not know which one it is."""


class Asked(NamedTuple):
    """The bytes a request to the origin covers."""

    start: int
    end: int | None
    """None: to the end of the body."""
    suffix: int | None = None
    """The last bytes of the body, its length unknown; start and end mean nothing then."""

    @property
    def is_whole(self) -> bool:
        return self.start == 0 and self.end is None and self.suffix is None

    def field(self) -> str | None:
        """The Range field, or None when everything is asked for."""
        if self.suffix is not None:
            return f"bytes=-{self.suffix}"
        if self.is_whole:
            return None
        return f"bytes={self.start}-" if self.end is None else f"bytes={self.start}-{self.end - 1}"


def first_ask(start: int | None, end: int | None, slice_size: int) -> Asked:
    """The slices that hold what a client wants of an object of unknown size.

    A suffix is asked for with a slice to spare, so that the answer holds every slice it touches from its beginning.
    """
    if start is None:
        return Asked(0, None) if end is None else Asked(0, None, suffix=end + slice_size)
    first = start // slice_size * slice_size
    return Asked(first, None if end is None else -(-end // slice_size) * slice_size)


def lower_ask(asked: Asked, slice_size: int) -> Asked:
    """What to ask for when nothing of `asked` exists: the beginning, or all when not even that does."""
    return Asked(0, None) if asked.suffix is None and asked.start == 0 else Asked(0, slice_size)


def wanted_span(want: Want, size: int) -> tuple[int, int]:
    """The bytes of a body of known size that a client wants; empty where the range lies behind its end."""
    if want.start is None:
        return (0, size) if want.end is None else (max(0, size - want.end), size)
    return min(want.start, size), size if want.end is None else min(want.end, size)


def shared_fields(fields: tuple[Pair, ...], site: Site) -> list[Pair]:
    """The client's fields that a fill passes on: one client's request, the answer is everyone's."""
    dropped = _OURS if site.cors is None else _OURS_WITH_CORS
    return [pair for pair in end_to_end(Fields(fields)) if pair[0].lower() not in dropped]


class Meaning(Enum):
    """What an origin's answer is good for."""

    STORE = "store"
    NOT_MODIFIED = "not_modified"
    PASS = "pass"  # noqa: S105 - a verb
    NO_RANGES = "no_ranges"
    """A part that cannot be stored, of a body that this client wants otherwise: ask again as the client did."""
    BEYOND = "beyond"
    """The object has nothing of what was asked for: its beginning tells its length, and what each client gets."""
    BROKEN = "broken"


class Answer(NamedTuple):
    meaning: Meaning
    start: int = 0
    end: int | None = None
    """Bytes of the body that the answer carries; end None: unknown until it ends."""
    size: int = -1
    status: int = 200
    why: str = ""
    is_personal: bool = False
    """It is the client that makes the answer one for itself; others may get one to share."""


def interpret(
    asked: Asked, status: int, request: Fields, response: Fields, rules: Rules = NO_RULES, *, revalidating: bool
) -> Answer:
    """What to do with the answer to a GET for `asked`."""
    if status == 304:
        return Answer(Meaning.NOT_MODIFIED) if revalidating else Answer(Meaning.BROKEN, why="304 to no condition")
    length = _length(response) if has_content("GET", status) else 0
    if status == 206:
        return _interpret_part(asked, request, response, rules, length)
    if status == 416 and not asked.is_whole:
        return Answer(Meaning.BEYOND)
    verdict = storability("GET", status, request, response, refuse_set_cookie=rules.refuse_set_cookie, **rules.granted)
    if not verdict.storable:
        is_personal = verdict.reason is NoStoreReason.AUTHORIZATION
        return Answer(Meaning.PASS, status=status, why=str(verdict.reason), is_personal=is_personal)
    if length is None and "transfer-encoding" not in response:
        return Answer(Meaning.PASS, status=status, why="not_delimited")
    return Answer(Meaning.STORE, 0, length, -1 if length is None else length, status)


def _interpret_part(asked: Asked, request: Fields, response: Fields, rules: Rules, length: int | None) -> Answer:
    part = parse_content_range(response.combined("content-range") or "")
    if asked.is_whole or part is None or part.is_unsatisfied or part.start is None or part.end is None:
        return Answer(Meaning.BROKEN, why="a 206 that says no range, or that nobody asked for")
    if part.size is None:
        return Answer(Meaning.NO_RANGES, why="a 206 without the whole length")
    if length is not None and length != part.end - part.start:
        return Answer(Meaning.BROKEN, why="Content-Length and Content-Range disagree")
    if asked.suffix is not None:
        is_right = part.end == part.size and part.start == max(0, part.size - asked.suffix)
    else:
        is_right = part.start == asked.start and part.end == min(part.size, asked.end or part.size)
    if not is_right:
        return Answer(Meaning.BROKEN, why="another range than was asked for")
    verdict = partial_storable("GET", request, response, refuse_set_cookie=rules.refuse_set_cookie, **rules.granted)
    if not verdict.storable:
        return Answer(Meaning.NO_RANGES, is_personal=verdict.reason is NoStoreReason.AUTHORIZATION)
    return Answer(Meaning.STORE, part.start, part.end, part.size)


def selecting_names(response: Fields, site: Site) -> tuple[str, ...]:
    """The request fields by which an answer varies, of those that a fill passes on: no others select anything.

    Fills ask for no coding, for example, so that Accept-Encoding does not.
    """
    names = vary_names(response)
    dropped = _OURS if site.cors is None else _OURS_WITH_CORS
    return () if names is VaryStar.STAR else tuple(name for name in names if name not in dropped)


def _length(response: Fields) -> int | None:
    value = response.get("content-length")
    return int(value) if value is not None and value.isascii() and value.isdigit() else None
