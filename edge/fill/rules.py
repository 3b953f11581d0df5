"""What a site's operator adds to the origin's word on freshness: pure."""

from __future__ import annotations

from typing import NamedTuple

from edge.config import Site
from edge.http.fields import Fields
from edge.http.freshness import Granted

_NOT_FOUND = frozenset((404, 410))


class Rules(NamedTuple):
    """For one answer; times in seconds."""

    default_s: float | None = None
    negative_s: float | None = None
    heuristic_max_s: float = 0.0
    refuse_set_cookie: bool = False

    @property
    def granted(self) -> Granted:
        """As `freshness.lifetime`, `storable.storability` and `storable.partial_storable` take it."""
        return Granted(
            default_s=self.default_s,
            negative_s=self.negative_s,
            heuristic=self.heuristic_max_s > 0,
            heuristic_max_s=self.heuristic_max_s,
        )


def rules_for(site: Site, status: int, fields: Fields) -> Rules:
    """The rules for an answer with this status and these fields."""
    negative_s = 0.0
    if status in _NOT_FOUND:
        negative_s = site.not_found_freshness
    elif status >= 500:
        negative_s = site.error_freshness
    return Rules(
        default_s=_by_media_type(site, fields) if status < 400 else None,
        negative_s=negative_s or None,
        heuristic_max_s=site.heuristic_max,
        refuse_set_cookie=site.set_cookie == "pass",
    )


def _by_media_type(site: Site, fields: Fields) -> float | None:
    if not site.default_freshness:
        return None
    media = (fields.get("content-type") or "").partition(";")[0].strip().lower()
    return site.default_freshness.get(media, site.default_freshness.get(f"{media.partition('/')[0]}/*"))
