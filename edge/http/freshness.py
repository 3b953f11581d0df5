"""Freshness, age, and whether a stored response may answer a request (RFC 9111, 4.2 and 5.2; RFC 5861; RFC 8246)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from edge.http.dates import parse_http_date
from edge.http.directives import DELTA_MAX_S, Directives, EffectiveControl, effective_directives
from edge.http.fields import Fields
from edge.http.statuses import HEURISTIC

HEURISTIC_FRACTION = 0.1  # of the time since the last change (RFC 9111, 4.2.2)
HEURISTIC_MAX_S = 86_400.0


class LifetimeSource(StrEnum):
    S_MAXAGE = "s_maxage"
    MAX_AGE = "max_age"
    EXPIRES = "expires"
    NEGATIVE = "negative"
    DEFAULT = "default"
    HEURISTIC = "heuristic"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a response stays fresh after it was generated, and who said so."""

    seconds: float
    source: LifetimeSource

    @property
    def is_explicit(self) -> bool:
        """Whether the origin stated it, be it badly."""
        return self.source in {LifetimeSource.S_MAXAGE, LifetimeSource.MAX_AGE, LifetimeSource.EXPIRES}


class Granted(TypedDict, total=False):
    """What the operator lets be fresh of what the origin says nothing about: arguments of `lifetime`, in seconds."""

    default_s: float | None
    negative_s: float | None
    heuristic: bool
    heuristic_max_s: float


@dataclass(frozen=True, slots=True)
class Freshness:
    """A stored response's lifetime and its age at one moment."""

    lifetime_s: float
    age_s: float
    source: LifetimeSource = LifetimeSource.NONE

    @property
    def is_fresh(self) -> bool:
        return self.lifetime_s > self.age_s

    @property
    def ttl_s(self) -> float:
        """Seconds of freshness left; negative once stale (RFC 9211, 2.4)."""
        return self.lifetime_s - self.age_s


class Reuse(StrEnum):
    """What may be done with a stored response."""

    FRESH = "fresh"
    STALE_ALLOWED = "stale_allowed"
    VALIDATE = "validate"


class ReuseReason(StrEnum):
    """Why a response is not simply fresh. For STALE_ALLOWED: by whose leave it is served."""

    REQUEST_NO_CACHE = "request_no_cache"
    REQUEST_MAX_AGE = "request_max_age"
    REQUEST_MIN_FRESH = "request_min_fresh"
    RESPONSE_NO_CACHE = "response_no_cache"
    STALE = "stale"
    MAX_STALE = "max_stale"
    STALE_WHILE_REVALIDATE = "stale_while_revalidate"


@dataclass(frozen=True, slots=True)
class ReuseVerdict:
    reuse: Reuse
    reason: ReuseReason | None = None


def age_value(fields: Fields) -> int:
    """Age in seconds: its first member, 0 when absent or not a number (RFC 9111, 5.1)."""
    first = (fields.get("age") or "").partition(",")[0].strip(" \t")
    if not (first.isascii() and first.isdigit()):
        return 0
    digits = first.lstrip("0") or "0"
    return min(int(digits), DELTA_MAX_S) if len(digits) <= 10 else DELTA_MAX_S


def date_value(fields: Fields, response_time: float) -> float:
    """Date; the moment of arrival where it is absent or no date (RFC 9110, 6.6.1)."""
    date = fields.get("date")
    parsed = parse_http_date(date, response_time) if date is not None else None
    return response_time if parsed is None else parsed


def corrected_initial_age(fields: Fields, request_time: float, response_time: float) -> float:
    """Seconds of age on arrival, from Age, Date and the time the request took (RFC 9111, 4.2.3)."""
    apparent_age_s = max(0.0, response_time - date_value(fields, response_time))
    response_delay_s = max(0.0, response_time - request_time)
    return max(apparent_age_s, age_value(fields) + response_delay_s)


def current_age(fields: Fields, request_time: float, response_time: float, now: float) -> float:
    """Seconds of age at `now` (RFC 9111, 4.2.3)."""
    return corrected_initial_age(fields, request_time, response_time) + max(0.0, now - response_time)


def lifetime(
    status: int,
    fields: Fields,
    response_time: float,
    *,
    default_s: float | None = None,
    negative_s: float | None = None,
    heuristic: bool = False,
    heuristic_max_s: float = HEURISTIC_MAX_S,
    control: EffectiveControl | None = None,
) -> Lifetime:
    """The freshness lifetime for a shared cache (RFC 9111, 4.2.1).

    What the origin states goes first: s-maxage, max-age, Expires; an invalid one is a lifetime of 0, never a reason to
    look further. Where it states none: `negative_s`, the operator's for this status; then, if the status or `public`
    permits (4.2.2), `default_s`, the operator's as well, and, if `heuristic`, a tenth of the time since Last-Modified,
    at most `heuristic_max_s`.
    """
    control = effective_directives(fields) if control is None else control
    directives = control.directives
    if directives.has("s-maxage"):
        return Lifetime(directives.delta("s-maxage") or 0, LifetimeSource.S_MAXAGE)
    if directives.has("max-age"):
        return Lifetime(directives.delta("max-age") or 0, LifetimeSource.MAX_AGE)
    if not control.targeted and "expires" in fields:
        return Lifetime(_expires_s(fields, response_time), LifetimeSource.EXPIRES)
    if negative_s is not None:
        return Lifetime(negative_s, LifetimeSource.NEGATIVE)
    if status not in HEURISTIC and not directives.grants("public"):
        return Lifetime(0.0, LifetimeSource.NONE)
    if default_s is not None:
        return Lifetime(default_s, LifetimeSource.DEFAULT)
    modified = parse_http_date(fields.get("last-modified") or "", response_time)
    if not heuristic or modified is None:
        return Lifetime(0.0, LifetimeSource.NONE)
    unchanged_s = max(0.0, date_value(fields, response_time) - modified)
    return Lifetime(min(HEURISTIC_FRACTION * unchanged_s, heuristic_max_s), LifetimeSource.HEURISTIC)


def _expires_s(fields: Fields, response_time: float) -> float:
    dates = {parse_http_date(line, response_time) for line in fields.all("expires")}
    expires = dates.pop()
    # Not a date is a time in the past (RFC 9111, 5.3), and so are lines that disagree (4.2.1).
    if expires is None or dates:
        return 0.0
    return max(0.0, expires - date_value(fields, response_time))


def must_revalidate(control: EffectiveControl) -> bool:
    """Whether the origin forbids any use once stale (RFC 9111, 4.2.4 and 5.2.2)."""
    directives = control.directives
    return directives.unlimited("no-cache") or any(
        directives.has(name) for name in ("must-revalidate", "proxy-revalidate", "s-maxage")
    )


def stale_while_revalidate_s(control: EffectiveControl) -> float:
    """Seconds past its lifetime a response may be served while it is validated; 0 where forbidden (RFC 5861, 3)."""
    return 0.0 if must_revalidate(control) else float(control.directives.delta("stale-while-revalidate") or 0)


def stale_if_error_s(control: EffectiveControl, request: Directives | None = None) -> float:
    """Seconds past its lifetime a response may be served while the origin fails; 0 where forbidden.

    The request may allow more than the response does, but not overrule its prohibition (RFC 5861, 4).
    """
    if must_revalidate(control):
        return 0.0
    asked_s = request.delta("stale-if-error") if request is not None else None
    return float(max(control.directives.delta("stale-if-error") or 0, asked_s or 0))


def only_if_cached(request: Directives) -> bool:
    """Whether the client would have 504 rather than a request to the origin (RFC 9111, 5.2.1.7)."""
    return request.has("only-if-cached")


def freshness(
    status: int,
    fields: Fields,
    *,
    request_time: float,
    response_time: float,
    now: float,
    default_s: float | None = None,
    heuristic: bool = False,
    heuristic_max_s: float = HEURISTIC_MAX_S,
    control: EffectiveControl | None = None,
) -> Freshness:
    """Lifetime and age at `now` of a response asked for at `request_time` and received at `response_time`."""
    stated = lifetime(
        status,
        fields,
        response_time,
        default_s=default_s,
        heuristic=heuristic,
        heuristic_max_s=heuristic_max_s,
        control=control,
    )
    return Freshness(stated.seconds, current_age(fields, request_time, response_time, now), stated.source)


def request_allows(
    request: Directives,
    age_s: float,
    lifetime_s: float,
    control: EffectiveControl,
    *,
    honour_request: bool = True,
    stale_ok_s: float = 0.0,
) -> ReuseVerdict:
    """Whether a stored response may answer, by its own directives and, if `honour_request`, the request's.

    The request's are advisory (RFC 9111, 5.2.1). `stale_ok_s` is the operator's own leave to serve stale while
    validating, void where the origin forbids it (4.2.4). An immutable response does not yield to a reload's max-age,
    only to no-cache (RFC 8246, 2.1).
    """
    directives = control.directives
    if directives.unlimited("no-cache"):
        return ReuseVerdict(Reuse.VALIDATE, ReuseReason.RESPONSE_NO_CACHE)
    if honour_request and request.has("no-cache"):
        return ReuseVerdict(Reuse.VALIDATE, ReuseReason.REQUEST_NO_CACHE)
    is_fresh = lifetime_s > age_s
    if honour_request:
        refusal = _refusal(request, age_s, lifetime_s, immutable=is_fresh and directives.grants("immutable"))
        if refusal is not None:
            return ReuseVerdict(Reuse.VALIDATE, refusal)
    if is_fresh:
        return ReuseVerdict(Reuse.FRESH)
    if must_revalidate(control):
        return ReuseVerdict(Reuse.VALIDATE, ReuseReason.STALE)
    stale_s = age_s - lifetime_s
    if stale_s < max(stale_while_revalidate_s(control), stale_ok_s):
        return ReuseVerdict(Reuse.STALE_ALLOWED, ReuseReason.STALE_WHILE_REVALIDATE)
    max_stale_s = request.delta("max-stale")
    if honour_request and (request.is_bare("max-stale") or (max_stale_s is not None and stale_s <= max_stale_s)):
        return ReuseVerdict(Reuse.STALE_ALLOWED, ReuseReason.MAX_STALE)
    return ReuseVerdict(Reuse.VALIDATE, ReuseReason.STALE)


def _refusal(request: Directives, age_s: float, lifetime_s: float, *, immutable: bool) -> ReuseReason | None:
    # A number the client got wrong can only mean less reuse.
    if request.has("max-age") and not immutable:
        max_age_s = request.delta("max-age")
        # Stale is too old as well, "unless max-stale is also present" (RFC 9111, 5.2.1.1).
        unwanted = age_s >= lifetime_s and not request.has("max-stale")
        if max_age_s is None or age_s > max_age_s or unwanted:
            return ReuseReason.REQUEST_MAX_AGE
    if request.has("min-fresh"):
        min_fresh_s = request.delta("min-fresh")
        if min_fresh_s is None or lifetime_s - age_s < min_fresh_s:
            return ReuseReason.REQUEST_MIN_FRESH
    return None
