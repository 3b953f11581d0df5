"""Which fetches are started beside those that run."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from edge.fill.gaps import Running, Start, fetches_for


@dataclass
class Fetch:
    start: int
    position: int
    end: int | None


def spans(started: list[Start]) -> list[tuple[int, int | None]]:
    return [(one.start, one.end) for one in started]


def test_nothing_runs() -> None:
    assert spans(fetches_for([(0, 10), (20, 30)], [], reach=5)) == [(0, 10), (20, 30)]


def test_what_will_soon_arrive_is_waited_for() -> None:
    assert fetches_for([(8, 10)], [Fetch(0, 4, 100)], reach=5) == []


def test_what_is_far_ahead_is_taken_over() -> None:
    running = Fetch(0, 4, 100)
    (start,) = fetches_for([(50, 60)], [running], reach=5)
    assert (start.start, start.end, start.cuts) == (50, 100, running)
    assert running.end == 100  # the caller does it


def test_without_reach_all_is_waited_for() -> None:
    assert fetches_for([(50, 60)], [Fetch(0, 4, 100)], reach=None) == []


def test_what_lies_before_and_behind_is_fetched() -> None:
    assert spans(fetches_for([(0, 100)], [Fetch(30, 35, 50), Fetch(70, 70, 80)], reach=1000)) == [
        (0, 30),
        (50, 70),
        (80, 100),
    ]


def test_a_fetch_is_not_cut_twice_at_the_same_place() -> None:
    running = Fetch(0, 0, 100)
    started = fetches_for([(40, 45), (80, 90)], [running], reach=10)
    assert spans(started) == [(40, 80), (80, 100)]
    assert [one.cuts for one in started] == [running, started[0]]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=5),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5), st.integers(1, 10)), max_size=4),
    st.one_of(st.none(), st.integers(0, 20)),
)
def test_every_missing_byte_is_fetched_exactly_once(
    wanted: list[tuple[int, int]], fetches: list[tuple[int, int, int]], reach: int | None
) -> None:
    running: list[Running] = []
    at = 0
    for gap, done, left in fetches:
        running.append(Fetch(at + gap, at + gap + done, at + gap + done + left))
        at += gap + done + left
    here = {byte for one in running for byte in range(one.start, one.position)}
    gaps: list[tuple[int, int]] = []
    at = 0
    for gap, length in wanted:
        gaps.append((at + gap, at + gap + length))
        at += gap + length + 1
    for new in fetches_for(gaps, running, reach=reach):
        assert new.end is not None
        assert new.start < new.end
        if new.cuts is not None:
            new.cuts.end = new.start
        running.append(Fetch(new.start, new.start, new.end))
    coming = [byte for one in running for byte in range(one.position, one.end or 0)]
    assert len(coming) == len(set(coming))
    assert {byte for start, end in gaps for byte in range(start, end)} <= here | set(coming)
