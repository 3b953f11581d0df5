"""Who goes next: the order of lanes, the bounds, and what becomes of who gives up."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import Overloaded
from edge.fill import lanes
from edge.fill.lanes import Lane, Lanes

HERE = "http://o.test"


class Crowd:
    """Requests, each holding its place until it is told to end."""

    def __init__(self, most: int) -> None:
        self.lanes = Lanes(most)
        self.entered: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def come(self, name: str, lane: Lane, origin: str = HERE) -> None:
        self._ends[name] = asyncio.Event()

        async def ask() -> None:
            async with self.lanes.place(origin, lane):
                self.entered.append(name)
                await self._ends[name].wait()

        self.tasks[name] = asyncio.create_task(ask())
        await settle()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await settle()

    async def give_up(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_demand_before_prefill_before_repair() -> None:
    crowd = Crowd(1)
    lanes_of = {"first": Lane.REPAIR, "r": Lane.REPAIR, "p": Lane.PREFILL, "d1": Lane.DEMAND, "d2": Lane.DEMAND}
    for name, lane in lanes_of.items():
        await crowd.come(name, lane)
    for name in ("first", "d1", "d2", "p", "r"):
        assert crowd.entered[-1] == name
        await crowd.end(name)
    assert (crowd.lanes.running(HERE), crowd.lanes.waiting(HERE)) == (0, 0)


async def test_some_places_are_kept_for_demand() -> None:
    crowd = Crowd(8)
    for number in range(8):
        await crowd.come(f"p{number}", Lane.PREFILL)
    assert len(crowd.entered) == 6
    await crowd.come("d", Lane.DEMAND)
    assert crowd.entered[-1] == "d"
    await crowd.close()
    assert crowd.lanes.running(HERE) == 0


async def test_origins_do_not_wait_for_one_another() -> None:
    crowd = Crowd(1)
    await crowd.come("a", Lane.DEMAND)
    await crowd.come("b", Lane.DEMAND, "http://p.test")
    assert crowd.entered == ["a", "b"]
    await crowd.close()


async def test_who_gives_up_leaves_no_place_taken() -> None:
    crowd = Crowd(1)
    for name in "abc":
        await crowd.come(name, Lane.DEMAND)
    await crowd.give_up("b")
    await crowd.end("a")
    assert crowd.entered == ["a", "c"]
    await crowd.close()
    assert (crowd.lanes.running(HERE), crowd.lanes.waiting(HERE)) == (0, 0)


async def test_who_is_let_in_and_gives_up_in_the_same_moment() -> None:
    crowd = Crowd(1)
    for name in "ab":
        await crowd.come(name, Lane.DEMAND)
    crowd._ends["a"].set()
    await asyncio.sleep(0)
    crowd.tasks["b"].cancel()
    await settle()
    assert crowd.lanes.running(HERE) == 0
    await crowd.come("c", Lane.DEMAND)
    assert crowd.entered[-1] == "c"
    await crowd.close()


async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_WAITING_MAX", 2)
    crowd = Crowd(1)
    for name in "abcd":
        await crowd.come(name, Lane.DEMAND)
    assert isinstance(crowd.tasks["d"].exception(), Overloaded)
    await crowd.close()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(st.sampled_from(["come", "end", "give_up"]), st.sampled_from(Lane), st.integers(0, 30)), max_size=40
    ),
)
def test_the_bounds_hold_and_nobody_is_forgotten(most: int, steps: list[tuple[str, Lane, int]]) -> None:
    async def run() -> None:
        crowd = Crowd(most)
        for number, (what, lane, which) in enumerate(steps):
            live = [name for name, task in crowd.tasks.items() if not task.done()]
            if what == "come":
                await crowd.come(str(number), lane)
            elif live:
                await getattr(crowd, what)(live[which % len(live)])
            running = [name for name in crowd.entered if not crowd.tasks[name].done()]
            assert len(running) == crowd.lanes.running(HERE) <= most
            waiting = [name for name, task in crowd.tasks.items() if not task.done() and name not in running]
            assert len(waiting) == crowd.lanes.waiting(HERE)
        while live := [name for name, task in crowd.tasks.items() if not task.done()]:
            entered = [name for name in live if name in crowd.entered]
            assert entered, "somebody waits for nobody"
            await crowd.end(*entered)
        assert crowd.lanes.running(HERE) == 0

    asyncio.run(run())
