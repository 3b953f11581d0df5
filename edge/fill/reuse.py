"""Whether what is stored may answer a request: pure, and the same for worker and manager."""

from __future__ import annotations

from edge.config import Site
from edge.http.directives import NO_DIRECTIVES, Directives, EffectiveControl, effective_directives
from edge.http.fields import Fields
from edge.http.freshness import Reuse, ReuseVerdict, must_revalidate, request_allows, stale_if_error_s
from edge.store.record import Record

_FRESH = ReuseVerdict(Reuse.FRESH)


def _control(record: Record) -> EffectiveControl:
    return effective_directives(Fields(record.fields))


def verdict(record: Record, request: Directives, site: Site, now: float) -> ReuseVerdict:
    """Whether a stored object may answer a request with these directives, as far as freshness goes."""
    if request is NO_DIRECTIVES and record.fresh_until > now:
        return _FRESH
    control = _control(record)
    # the origin's own word on it goes before the operator's
    stale_ok_s = 0.0 if control.directives.has("stale-while-revalidate") else site.stale_while_revalidate
    return request_allows(
        request,
        record.age_s(now),
        record.lifetime_s,
        control,
        honour_request=site.request_directives,
        stale_ok_s=stale_ok_s,
    )


def may_replace_error(record: Record, request: Directives, site: Site, now: float) -> bool:
    """Whether a stored object may be given while the origin fails (RFC 9111, 4.2.4; RFC 5861, 4)."""
    control = _control(record)
    if must_revalidate(control) or (site.request_directives and request.has("no-cache")):
        return False
    allowed_s = stale_if_error_s(control, request if site.request_directives else None)
    if not control.directives.has("stale-if-error"):
        allowed_s = max(allowed_s, site.stale_if_error)
    return record.age_s(now) - record.lifetime_s <= allowed_s


def is_rigid(record: Record) -> bool:
    """Whether the origin forbids any use once stale: if it cannot be asked, the answer is 504 (RFC 9111, 5.2.2.2)."""
    return must_revalidate(_control(record))
