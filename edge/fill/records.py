"""From an origin's answer to the index's record: pure."""

from __future__ import annotations

import msgspec

from edge.fill.asking import Answer
from edge.fill.origin import OriginResponse
from edge.http.conditions import freshen, selects
from edge.http.directives import effective_directives
from edge.http.fields import Fields
from edge.http.freshness import corrected_initial_age, lifetime
from edge.http.storable import stored_fields
from edge.http.validators import strongest
from edge.store.record import Record

_OF_THE_MESSAGE = frozenset(("content-length", "content-range", "accept-ranges"))
"""Said anew for each response."""
_CLOCKS_APART_S = 60.0


def draft_record(answer: Answer, response: OriginResponse, default_s: float | None, slice_size: int) -> Record:
    """The record of a new object; the store gives it its place."""
    age_s = corrected_initial_age(response.fields, response.request_time, response.response_time)
    fields = stored_fields(response.fields, effective_directives(response.fields)).without(_OF_THE_MESSAGE)
    return Record(
        generation=0,
        stamp=0,
        slot=0,
        status=answer.status,
        size=answer.size,
        body_offset=0,
        slice_size=slice_size,
        home=-1,
        copy=-1,
        held=b"" if answer.size > 0 else None,
        fields=fields.pairs,
        response_time=response.response_time,
        request_time=response.request_time,
        initial_age_s=age_s,
        lifetime_s=_kept_lifetime_s(
            usable_lifetime_s(answer.status, response.fields, response.response_time, default_s), age_s
        ),
    )


def freshened_record(stored: Record, response: OriginResponse, default_s: float | None) -> Record:
    """The record after a 304 (RFC 9111, 4.3.4)."""
    age_s = corrected_initial_age(response.fields, response.request_time, response.response_time)
    fields = freshen(Fields(stored.fields), response.fields, drop_set_cookie=True)
    return msgspec.structs.replace(
        stored,
        fields=fields.without(_OF_THE_MESSAGE | {"age"}).pairs,
        response_time=response.response_time,
        request_time=response.request_time,
        initial_age_s=age_s,
        lifetime_s=_kept_lifetime_s(usable_lifetime_s(stored.status, fields, response.response_time, default_s), age_s),
    )


def _kept_lifetime_s(lifetime_s: float, age_s: float) -> float:
    """What is not fresh on arrival must not be for a moment, however late the clock that a worker reckons with."""
    return lifetime_s if lifetime_s > age_s else lifetime_s - _CLOCKS_APART_S


def usable_lifetime_s(status: int, fields: Fields, response_time: float, default_s: float | None) -> float:
    """How long the object answers requests without validation; no-cache: not at all (RFC 9111, 5.2.2.4)."""
    control = effective_directives(fields)
    if control.directives.unlimited("no-cache"):
        return 0.0
    return lifetime(status, fields, response_time, default_s=default_s, control=control).seconds


def contradicts(stored: Record, not_modified: OriginResponse) -> bool:
    """Whether a 304 names another representation than the one it was asked about."""
    return bool(strongest(not_modified.fields)) and not selects(Fields(stored.fields), not_modified.fields)
