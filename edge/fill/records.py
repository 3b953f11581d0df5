"""From an origin's answer to the index's record: pure."""

from __future__ import annotations

import msgspec

from edge.config import Site
from edge.fill.asking import Answer
from edge.fill.messages import Pair
from edge.fill.origin import OriginResponse
from edge.fill.rules import Rules, rules_for
from edge.http.conditions import freshen, selects, with_date
from edge.http.directives import effective_directives
from edge.http.fields import Fields, end_to_end
from edge.http.freshness import corrected_initial_age, lifetime
from edge.http.storable import stored_fields
from edge.http.validators import strongest
from edge.store.record import Record

_OF_THE_MESSAGE = frozenset(("content-length", "accept-ranges"))
"""Said anew for each response."""
_OF_A_PART = frozenset(("content-range",))


def draft_record(
    answer: Answer, response: OriginResponse, rules: Rules, slice_size: int, primary: bytes = b""
) -> Record:
    """The record of a new object; the store gives it its place. `primary`: the resource it is a variant of."""
    age_s = corrected_initial_age(response.fields, response.request_time, response.response_time)
    dropped = _OF_THE_MESSAGE | _OF_A_PART if response.status == 206 else _OF_THE_MESSAGE
    fields = stored_fields(response.fields, effective_directives(response.fields)).without(dropped)
    fields = with_date(fields, response.response_time)
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
        lifetime_s=usable_lifetime_s(answer.status, response.fields, response.response_time, rules),
        primary=primary,
    )


def unstored_fields(record: Record, response: OriginResponse) -> tuple[Pair, ...]:
    """The fields that the client whose request it was gets all the same: not stored by no-cache or private."""
    kept = {name.lower() for name, _ in record.fields} | _OF_THE_MESSAGE | _OF_A_PART | {"age"}
    return tuple(pair for pair in end_to_end(response.fields) if pair[0].lower() not in kept)


def freshened_record(stored: Record, response: OriginResponse, site: Site) -> Record:
    """The record after a 304, or a HEAD's 200 (RFC 9111, 4.3.4 and 4.3.5).

    The site's rules are those for what the fields come to: a 304 need not repeat the media type.
    """
    age_s = corrected_initial_age(response.fields, response.request_time, response.response_time)
    fields = freshen(Fields(stored.fields), response.fields, drop_set_cookie=site.set_cookie == "pass")
    rules = rules_for(site, stored.status, fields)
    return msgspec.structs.replace(
        stored,
        fields=fields.without(_OF_THE_MESSAGE | {"age"}).pairs,
        response_time=response.response_time,
        request_time=response.request_time,
        initial_age_s=age_s,
        lifetime_s=usable_lifetime_s(stored.status, fields, response.response_time, rules),
    )


def usable_lifetime_s(status: int, fields: Fields, response_time: float, rules: Rules) -> float:
    """How long the object answers requests without validation; no-cache: not at all (RFC 9111, 5.2.2.4)."""
    control = effective_directives(fields)
    if control.directives.unlimited("no-cache"):
        return 0.0
    return lifetime(status, fields, response_time, control=control, **rules.granted).seconds


def contradicts(stored: Record, not_modified: OriginResponse) -> bool:
    """Whether a 304 names another representation than the one it was asked about."""
    return bool(strongest(not_modified.fields)) and not selects(Fields(stored.fields), not_modified.fields)
