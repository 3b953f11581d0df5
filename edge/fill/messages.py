"""What workers and the manager say to each other. A worker asks; the manager answers, then tells how far a fill is.

worker                          manager
Want ────────────────────────▶  joins or starts the flight of the object
     ◀──────── Opened + fd ───  the response's head is in: what is here, and the file
     ◀──────────── Arrived ───  more bytes are in the file (one message a flight and worker, not a client)
     ◀───────────── Landed ───  the flight ended: all is here, or it failed
     ◀──────── Passing + fd ──  the answer is for this client alone: read it from the pipe
     ◀───────────── Passed ───  the end of it, or why it broke
     ◀───────────── Failed ───  no answer to be had
Uploaded ────────────────────▶  the request's body in its pipe is whole (without this its end is a break)
Leave ───────────────────────▶  this client needs no more
Hot ─────────────────────────▶  asked for repeatedly on a disk: worth a place in RAM
Lost ────────────────────────▶  the index names a file that is not there, or that cannot be read
"""

from __future__ import annotations

import msgspec

from edge.http.cachestatus import Forward
from edge.store.record import Record
from edge.terms import Outcome, Reason

Pair = tuple[str, str]
Run = tuple[int, int]


class Identity(msgspec.Struct, array_like=True, frozen=True):
    """What a representation must still be for a delivery under way to go on with it."""

    size: int
    etag: str | None
    last_modified: str | None


class Fate(msgspec.Struct, array_like=True, frozen=True):
    """Why a request went on to the origin, and what came of it: for Cache-Status (RFC 9211)."""

    forward: Forward
    status: int = 0
    """The origin's; 0: it gave none."""
    stored: bool = False
    collapsed: bool = False
    """Whether another request's answer was waited for."""


class Want(msgspec.Struct, tag=1, array_like=True):
    id: int
    """The worker's number of this request."""
    key: bytes
    """The resource's: which variant of it is wanted, the fields tell."""
    site: str
    url: str
    """The cache key as text."""
    method: str
    host: str
    """The client's Host."""
    target: str
    """What to ask the origin for, in origin form."""
    fields: tuple[Pair, ...]
    """The client's end-to-end fields."""
    shared: bool
    """Whether an answer may be shared: a GET by the rules. If not, the request is passed on as it is."""
    start: int | None = None
    end: int | None = None
    """Bytes wanted, half-open; start None with end: the last `end` bytes; both None: all."""
    body_length: int | None = None
    """Bytes of the request's body in the pipe that comes along; -1 when unknown; None: no body."""
    continues: Identity | None = None
    """The delivery has begun: only this representation will do."""


class Leave(msgspec.Struct, tag=2, array_like=True):
    id: int


class Hot(msgspec.Struct, tag=3, array_like=True):
    key: bytes


class Lost(msgspec.Struct, tag=4, array_like=True):
    key: bytes
    generation: int
    disk: int
    reason: Reason


class Opened(msgspec.Struct, tag=5, array_like=True):
    id: int
    flight: int
    """Number of the flight to follow, or 0: all that was wanted is here."""
    record: Record
    runs: list[Run]
    """The bytes that are here; more come with Arrived."""
    outcome: Outcome
    tier: int
    """Where the file lies."""
    key: bytes
    """The object's own: a variant has another than its resource."""
    fate: Fate | None = None
    """None: the origin was not asked."""
    also: tuple[Pair, ...] = ()
    """Fields for this client alone: of the answer to its own request, and not to be stored."""


class Arrived(msgspec.Struct, tag=6, array_like=True):
    flight: int
    start: int
    end: int
    """Bytes [start, end) of the body are in the file."""


class Landed(msgspec.Struct, tag=7, array_like=True):
    flight: int
    size: int
    """Bytes of the whole body, now that it is known."""
    reason: Reason | None
    """Why it failed; None when it did not."""


class Passing(msgspec.Struct, tag=8, array_like=True):
    id: int
    status: int
    fields: tuple[Pair, ...]
    length: int
    """Bytes of body in the pipe; -1: unknown, until the pipe ends."""
    delimited: bool
    """Whether the origin marks the end of the body; if not, its truth cannot be told from a broken connection."""
    has_body: bool
    fate: Fate


class Passed(msgspec.Struct, tag=9, array_like=True):
    id: int
    reason: Reason | None


class Failed(msgspec.Struct, tag=10, array_like=True):
    id: int
    status: int
    reason: Reason


class Hinted(msgspec.Struct, tag=12, array_like=True):
    """The origin's informational response, ahead of its answer (RFC 9110, 15.2)."""

    id: int
    status: int
    fields: tuple[Pair, ...]


class Uploaded(msgspec.Struct, tag=11, array_like=True):
    id: int


FromWorker = Want | Leave | Hot | Lost | Uploaded
FromManager = Opened | Arrived | Landed | Passing | Passed | Failed | Hinted
