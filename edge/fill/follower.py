"""Who a flight is for: a request of a worker's client, and what it is told."""

from __future__ import annotations

from typing import Protocol

import msgspec

from edge.errors import EdgeError
from edge.fill.messages import Failed, Want
from edge.http.cachestatus import Forward
from edge.http.directives import request_directives
from edge.http.fields import Fields
from edge.http.validators import Validators, strongest
from edge.store.record import Record


class Client(Protocol):
    """A worker, as the manager sees it."""

    def send(self, message: msgspec.Struct, descriptors: tuple[int, ...] = ()) -> None: ...


class Follower:
    """One request that a flight answers."""

    __slots__ = ("asked_before", "client", "directives", "end", "forward", "is_open", "request", "start", "want")

    def __init__(self, client: Client, want: Want) -> None:
        self.client = client
        self.want = want
        self.request = Fields(want.fields)
        self.directives = request_directives(self.request)
        self.forward = Forward.URI_MISS
        """Why the origin has to be asked."""
        self.asked_before = False
        """Whether the origin had been asked already when it joined: an answer that only its own asking may bring is
        none for it (RFC 9111, 4).
        """
        self.is_open = False
        self.start = 0
        self.end: int | None = None

    @property
    def is_authorized(self) -> bool:
        """Whether it says who it is: an answer to it may be for it alone."""
        return "authorization" in self.request

    def fail(self, error: EdgeError) -> None:
        self.client.send(Failed(self.want.id, error.status, error.reason))


class Nobody:
    """Who follows a flight that only brings the store up to date."""

    def send(self, message: msgspec.Struct, descriptors: tuple[int, ...] = ()) -> None:
        pass


def same_object(want: Want, record: Record) -> bool:
    """Whether a delivery under way may go on with this record's bytes."""
    identity = want.continues
    if identity is None:
        return True
    validators: Validators = strongest(Fields(record.fields))
    return (identity.size, identity.etag, identity.last_modified) == (
        record.size,
        validators.etag,
        validators.last_modified,
    ) and validators.strong_for_range(record.field("date")) is not None
