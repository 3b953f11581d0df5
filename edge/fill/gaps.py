"""Which fetches to start for what is missing, beside those that run: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Running(Protocol):
    """A fetch: it has come to `position` and goes on to `end`."""

    start: int
    end: int | None

    @property
    def position(self) -> int: ...


@dataclass
class Start:
    """A fetch to start."""

    start: int
    end: int | None
    cuts: Running | None = None
    """The fetch whose farther part it takes over, which now ends where this one begins."""

    @property
    def position(self) -> int:
        return self.start


def fetches_for(gaps: Iterable[tuple[int, int]], running: Sequence[Running], *, reach: int | None) -> list[Start]:
    """The fetches that bring the bytes of `gaps` which no running one will bring soon.

    What lies up to `reach` bytes ahead of a running fetch is waited for; farther ahead, the rest of that fetch is taken
    over by a new one. None: everything is waited for.
    """
    started: list[Start] = []
    ends: dict[int, int] = {}

    def end_of(fetch: Running) -> int:
        end = ends.get(id(fetch), fetch.end)
        assert end is not None
        return end

    for gap_start, stop in gaps:
        begin = gap_start
        for fetch in sorted([*running, *started], key=lambda one: one.start):
            end = end_of(fetch)
            if end <= begin or fetch.start >= stop:
                continue
            if fetch.start > begin:
                started.append(Start(begin, fetch.start))
                begin = fetch.start
            if reach is not None and begin - fetch.position > reach:
                started.append(Start(begin, end, cuts=fetch))
                ends[id(fetch)] = begin
            begin = end
        if begin < stop:
            started.append(Start(begin, stop))
    for new in started:
        new.end = end_of(new)
    return started
