"""What a passed-on request does to the store: an unsafe one invalidates, a HEAD brings up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from edge.errors import EdgeError
from edge.fill.origin import OriginResponse
from edge.fill.records import freshened_record
from edge.http.conditions import head_agrees
from edge.http.fields import Fields
from edge.http.invalidation import invalidated_targets
from edge.logs import get_logger
from edge.store.variants import find

if TYPE_CHECKING:
    from edge.fill.base import Base
    from edge.fill.follower import Follower

_log = get_logger()


def heed(base: Base, follower: Follower, response: OriginResponse) -> None:
    """The origin has answered a request that was passed on."""
    if follower.want.method == "HEAD":
        _bring_up_to_date(base, follower, response)
    else:
        _invalidate(base, follower, response)


def _invalidate(base: Base, follower: Follower, response: OriginResponse) -> None:
    """RFC 9111, 4.4."""
    want = follower.want
    uri = f"http://{want.host or 'localhost'}{want.target}"
    targets = invalidated_targets(want.method, response.status, uri, response.fields)
    if not targets:
        return
    base.invalidate(want.key)
    for target in targets[1:]:
        parts = urlsplit(target)
        try:
            route = base.router.route(want.host or None, required=False)
            key = route.resource((parts.path + (f"?{parts.query}" if parts.query else "")).encode("latin-1")).key
        except (EdgeError, UnicodeEncodeError):
            continue  # it names nothing that could be stored here
        base.invalidate(key)
    _log.debug("invalidated", url=want.url, method=want.method)


def _bring_up_to_date(base: Base, follower: Follower, response: OriginResponse) -> None:
    """A HEAD's 200 freshens what it describes; what it does not describe any more is stale (RFC 9111, 4.3.5)."""
    want = follower.want
    key, stored = find(base.store, want.key, want.url, follower.request)
    if stored is None or response.status != 200 or stored.status != 200 or stored.size < 0 or key in base.store.busy:
        return
    if head_agrees(Fields(stored.fields), response.fields, size=stored.size):
        record = freshened_record(stored, response, base.site(want.site))
    else:
        record = msgspec.structs.replace(stored, lifetime_s=0.0)
    base.store.publish(key, record, stored)
