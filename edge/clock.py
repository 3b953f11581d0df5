"""The only place that reads the time, so that a test can hold it still."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def wall(self) -> float:
        """Seconds since 1970, as HTTP's dates count them; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that only go forward, for intervals."""
        ...


class SystemClock:
    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class ManualClock:
    """Stands still until told; both readings move together."""

    def __init__(self, wall_s: float = 1_800_000_000.0) -> None:
        self._wall_s = wall_s
        self._monotonic_s = 1_000.0

    def wall(self) -> float:
        return self._wall_s

    def monotonic(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._wall_s += seconds
        self._monotonic_s += seconds
