"""Time, and time held still."""

from __future__ import annotations

import time

from edge.clock import Clock, ManualClock, SystemClock


def test_a_manual_clock_moves_when_told_and_both_hands_together() -> None:
    clock: Clock = ManualClock(1000.0)
    wall, monotonic = clock.wall(), clock.monotonic()
    assert (clock.wall(), clock.monotonic()) == (wall, monotonic) == (1000.0, monotonic)
    assert isinstance(clock, ManualClock)
    clock.advance(2.5)
    assert (clock.wall() - wall, clock.monotonic() - monotonic) == (2.5, 2.5)


def test_the_systems_clock_is_the_systems() -> None:
    clock: Clock = SystemClock()
    before = time.time(), time.monotonic()
    assert before[0] <= clock.wall() <= time.time()
    assert before[1] <= clock.monotonic() <= time.monotonic()
