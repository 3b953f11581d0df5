"""What all fills stand on: configuration, store, origins' client, and the words for what goes wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cachetools import TTLCache

from edge.clock import Clock
from edge.config import Config, Site
from edge.errors import EdgeError, Fault
from edge.fill.messages import Failed, Want
from edge.fill.origin import OriginClient
from edge.logs import get_logger
from edge.metrics import Page
from edge.routing import Router
from edge.store.tiers import Store

if TYPE_CHECKING:
    from edge.fill.flight import Flight
    from edge.fill.follower import Client, Follower

_BYPASSED_MAX = 100_000
_HOLD_OFF_S = 2.0
_BACKOFF_S = (0.0, 0.1, 0.4, 1.0, 2.0)
_log = get_logger()


def as_edge_error(error: Exception) -> EdgeError:
    """What nobody foresaw is our own fault; whoever waits is told all the same."""
    if isinstance(error, EdgeError):
        return error
    _log.error("not foreseen", exc_info=error)
    return EdgeError(f"{type(error).__name__}: {error}")


class Base:
    def __init__(self, config: Config, clock: Clock, page: Page, store: Store, origins: OriginClient) -> None:
        self.config = config
        self.clock = clock
        self.page = page
        self.store = store
        self.origins = origins
        self.dispatch: Callable[[Sequence[Follower]], None] = lambda _: None
        """Begin again with what followers want; set by Flights."""
        self.pass_each: Callable[[Sequence[Follower]], None] = lambda _: None
        """Let each of them ask the origin for itself; set by Flights."""
        self.rekey: Callable[[Flight, bytes], None] = lambda _flight, _key: None
        """A flight goes on under another key; set by Flights."""
        self.invalidate: Callable[[bytes], None] = lambda _: None
        """Forget what is stored, and what is on its way, of the resource with this key; set by Flights."""
        self.router = Router(config)
        self._sites = {site.name: site for site in config.sites}
        self._bypassed: TTLCache[bytes, bool] = TTLCache(
            _BYPASSED_MAX, config.fill.bypass_memory, timer=clock.monotonic
        )
        self._held_off: TTLCache[bytes, bool] = TTLCache(_BYPASSED_MAX, _HOLD_OFF_S, timer=clock.monotonic)

    def site(self, name: str) -> Site:
        return self._sites[name]

    # hit-for-miss

    def remember_bypass(self, key: bytes) -> None:
        """The next requests for this key need not queue behind each other: the answer is for one anyway."""
        if self.config.fill.bypass_memory:
            self._bypassed[key] = True

    def is_bypassed(self, key: bytes) -> bool:
        return key in self._bypassed

    def hold_off(self, key: bytes) -> None:
        """The origin failed: for a moment stale answers are given without asking it."""
        self._held_off[key] = True

    def is_held_off(self, key: bytes) -> bool:
        return key in self._held_off

    # what goes wrong

    @staticmethod
    def backoff_s(failures: int) -> float:
        """Seconds to wait after so many failures, with jitter."""
        return _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)] * random.uniform(0.75, 1.25)

    def retrying(self, error: EdgeError, url: str, attempt: int) -> None:
        self.page.error(error.reason)
        _log.info("trying again", url=url, attempt=attempt, reason=error.reason, cause=error.cause)

    def failed(self, error: EdgeError, url: str, site: str) -> None:
        """The one place that counts and logs a failed fill."""
        self.page.error(error.reason)
        level = _log.error if error.fault is Fault.EDGE else _log.warning
        level("fill failed", url=url, site=site, fault=error.fault, reason=error.reason, cause=error.cause)

    def refuse(self, client: Client, want: Want, error: EdgeError) -> None:
        self.failed(error, want.url, want.site)
        client.send(Failed(want.id, error.status, error.reason))
