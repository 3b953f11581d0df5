"""Which responses a shared cache may store, and which of their fields (RFC 9111, 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Unpack

from edge.http.dates import parse_http_date
from edge.http.directives import TARGETS, Directives, EffectiveControl, effective_directives, parse_cache_control
from edge.http.fields import Fields, end_to_end
from edge.http.freshness import (
    Granted,
    Lifetime,
    LifetimeSource,
    lifetime,
    stale_if_error_s,
    stale_while_revalidate_s,
)
from edge.http.ranges import parse_content_range
from edge.http.statuses import HEURISTIC, NEVER_STORED, UNDERSTOOD, is_final
from edge.http.validators import strongest
from edge.http.vary import STAR, vary_names


class NoStoreReason(StrEnum):
    """Why a response is not stored; also the value in logs and metric labels."""

    METHOD = "method"
    STATUS = "status"
    PARTIAL = "partial"
    NOT_PARTIAL = "not_partial"
    NOT_UNDERSTOOD = "not_understood"
    NO_STORE = "no_store"
    REQUEST_NO_STORE = "request_no_store"
    PRIVATE = "private"
    AUTHORIZATION = "authorization"
    VARY_STAR = "vary_star"
    SET_COOKIE = "set_cookie"
    NO_FRESHNESS = "no_freshness"
    NO_FRESHNESS_NO_VALIDATOR = "no_freshness_no_validator"
    STALE_NO_VALIDATOR = "stale_no_validator"
    CONTENT_RANGE = "content_range"
    NO_STRONG_VALIDATOR = "no_strong_validator"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to store, and if not, why not."""

    storable: bool
    reason: NoStoreReason | None = None


STORABLE = Verdict(storable=True)


def storability(
    method: str,
    status: int,
    request: Fields,
    response: Fields,
    *,
    honour_request: bool = True,
    refuse_set_cookie: bool = False,
    targets: Sequence[str] = TARGETS,
    response_time: float | None = None,
    **granted: Unpack[Granted],
) -> Verdict:
    """Whether the complete response to `request` may and should be stored (RFC 9111, 3).

    Beyond the RFC's conditions it must be of use later: fresh for a while, servable stale, or open to validation.
    `granted` is as for `freshness.lifetime`; without `honour_request` the client's no-store, which is advisory (5.2.1),
    counts for nothing. `response_time` serves for Expires without Date.
    """
    if status in {206, 304}:
        return _refused(NoStoreReason.PARTIAL if status == 206 else NoStoreReason.STATUS)
    control = effective_directives(response, targets)
    reason = _prohibition(method, status, request, response, control, honour_request=honour_request)
    if reason is None and refuse_set_cookie and "set-cookie" in response:
        reason = NoStoreReason.SET_COOKIE
    return _verdict(reason, status, response, control, response_time, granted)


def partial_storable(
    method: str,
    request: Fields,
    response: Fields,
    *,
    honour_request: bool = True,
    refuse_set_cookie: bool = False,
    require_strong: bool = True,
    status: int = 206,
    targets: Sequence[str] = TARGETS,
    response_time: float | None = None,
    **granted: Unpack[Granted],
) -> Verdict:
    """Whether a 206 may be stored as a part of its representation (RFC 9111, 3.3 and 3.4).

    One range only, and, if `require_strong`, a strong validator: without one it cannot be joined to any other part
    (RFC 9110, 15.3.7.3). Otherwise as `storability`.
    """
    if status != 206:
        return _refused(NoStoreReason.NOT_PARTIAL)
    control = effective_directives(response, targets)
    reason = _prohibition(method, status, request, response, control, honour_request=honour_request)
    if reason is None and refuse_set_cookie and "set-cookie" in response:
        reason = NoStoreReason.SET_COOKIE
    if reason is None:
        span = parse_content_range(response.combined("content-range") or "")
        if span is None or span.is_unsatisfied:
            reason = NoStoreReason.CONTENT_RANGE
        elif require_strong and strongest(response).strong_for_range(response.get("date")) is None:
            reason = NoStoreReason.NO_STRONG_VALIDATOR
    return _verdict(reason, status, response, control, response_time, granted)


def stored_fields(response: Fields, control: EffectiveControl, *, drop_set_cookie: bool = False) -> Fields:
    """The fields to store (RFC 9111, 3.1): end-to-end ones without Age, which is computed anew when served.

    Fields named by no-cache or private go as well: the one must not be sent without validation (5.2.2.4), the other
    not be stored (5.2.2.7). `drop_set_cookie` is the operator's choice; the RFC leaves cookies alone (7.3).
    """
    directives = control.directives
    named = (directives.field_names("no-cache") or frozenset()) | (directives.field_names("private") or frozenset())
    dropped = named | {"age"} | ({"set-cookie", "set-cookie2"} if drop_set_cookie else set())
    return end_to_end(response).without(dropped)


def _refused(reason: NoStoreReason) -> Verdict:
    return Verdict(storable=False, reason=reason)


def _prohibition(
    method: str, status: int, request: Fields, response: Fields, control: EffectiveControl, *, honour_request: bool
) -> NoStoreReason | None:
    """The first of RFC 9111, 3's conditions that fails. The method GET alone is understood, so is no other."""
    directives = control.directives
    if method != "GET":
        return NoStoreReason.METHOD
    if not is_final(status) or status in NEVER_STORED:
        return NoStoreReason.STATUS
    # must-understand overrides no-store where it is obeyed (5.2.2.3).
    must_understand = directives.grants("must-understand")
    if must_understand and status not in UNDERSTOOD:
        return NoStoreReason.NOT_UNDERSTOOD
    if directives.has("no-store") and not must_understand:
        return NoStoreReason.NO_STORE
    if honour_request and parse_cache_control(request.all("cache-control")).has("no-store"):
        return NoStoreReason.REQUEST_NO_STORE
    if directives.unlimited("private"):
        return NoStoreReason.PRIVATE
    if "authorization" in request and not _shared_by_leave(directives):
        return NoStoreReason.AUTHORIZATION
    if vary_names(response) is STAR:
        return NoStoreReason.VARY_STAR
    return None


def _shared_by_leave(directives: Directives) -> bool:
    """Whether the response to a request with Authorization may be given to others (RFC 9111, 3.5)."""
    return (
        directives.grants("public") or directives.grants("must-revalidate") or directives.delta("s-maxage") is not None
    )


def _verdict(
    reason: NoStoreReason | None,
    status: int,
    response: Fields,
    control: EffectiveControl,
    response_time: float | None,
    granted: Granted,
) -> Verdict:
    """Refused for `reason`; where there is none, storable if it is of any use."""
    if reason is None:
        at = response_time if response_time is not None else parse_http_date(response.get("date") or "") or 0.0
        reason = _useless(status, response, control, lifetime(status, response, at, control=control, **granted))
    return STORABLE if reason is None else _refused(reason)


def _useless(status: int, response: Fields, control: EffectiveControl, lifetime: Lifetime) -> NoStoreReason | None:
    """Why a response that may be stored could never answer anything, if so."""
    directives = control.directives
    is_granted = lifetime.is_explicit or lifetime.source is LifetimeSource.NEGATIVE
    # A status that may not be given a lifetime needs one from the origin (RFC 9111, 3, last condition).
    if not is_granted and status not in HEURISTIC and not directives.grants("public"):
        return NoStoreReason.NO_FRESHNESS
    if strongest(response):
        return None
    if not is_granted and lifetime.seconds <= 0:
        return NoStoreReason.NO_FRESHNESS_NO_VALIDATOR
    stale_s = max(stale_while_revalidate_s(control), stale_if_error_s(control))
    if directives.unlimited("no-cache") or lifetime.seconds + stale_s <= 0:
        return NoStoreReason.STALE_NO_VALIDATOR
    return None
