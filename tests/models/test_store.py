"""The store against a dict: whatever is done to it in whatever order, its answers and its sums are right."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.clock import ManualClock
from edge.metrics import Page
from edge.store.mover import Mover
from edge.store.record import Record
from edge.store.recover import recover
from edge.store.tiers import Store
from edge.store.writer import ObjectWriter
from tests.store.making import NOW, SLICE, body, config, crash, draft, files, folder, key, read

T = TypeVar("T")
names = st.sampled_from("abcdef")


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="edge-store-"))
        self.ram = Path(tempfile.mkdtemp(prefix="edge-store-", dir="/dev/shm"))
        self.config = config(
            self.place / "state",
            ram={"disks": [folder(self.ram, "4MiB")], "object_max": "1MiB"},
            ssd=[folder(self.place / "ssd0"), folder(self.place / "ssd1")],
        )
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, Record] = {}
        self.durable: dict[str, Record] = {}
        """As of the last commit."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        async def started() -> Store:
            store = Store(self.config, ManualClock(NOW), Page())
            await recover(store)
            return store

        self.store = self.run(started())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self._close())
        self.loop.close()
        shutil.rmtree(self.place)
        shutil.rmtree(self.ram)

    async def _close(self) -> None:
        self.store.close()

    # what a flight does

    @rule(name=names, size=st.integers(0, 3 * SLICE), slices=st.sets(st.integers(0, 2)), parts=st.booleans())
    def fill(self, name: str, size: int, slices: set[int], parts: bool) -> None:
        async def filled() -> None:
            record, fd, disk = await self.store.create(key(name), name, draft(size), size)
            writer = ObjectWriter(self.store, key(name), name, record, fd, disk, parts=parts)
            for position in sorted(slices):
                data = body(name, size)[position * SLICE : (position + 1) * SLICE]
                if data:
                    writer.reserve(len(data))
                    await writer.write(writer.stream(position * SLICE), data)
            writer.close()
            if writer.is_published:
                self.model[name] = writer.record

        self.run(filled())

    @rule(name=names)
    def drop(self, name: str) -> None:
        if (record := self.model.pop(name, None)) is not None:
            self.run(self._drop(name, record))

    async def _drop(self, name: str, record: Record) -> None:
        self.store.drop(key(name), record)

    @rule(name=names)
    def revalidate(self, name: str) -> None:
        if name in self.model:
            before = self.model[name]
            self.model[name] = msgspec.structs.replace(before, lifetime_s=before.lifetime_s + 1)
            self.store.publish(key(name), self.model[name], before)

    # what the mover does

    @rule(name=names, to=st.integers(0, 2))
    def move(self, name: str, to: int) -> None:
        record = self.model.get(name)
        if record is None or to in (record.home, record.copy) or (to == 0 and not record.complete):
            return

        async def moved() -> None:
            mover = Mover(self.store)
            mover._start(key(name), record, self.store.disks[to], copy=to == 0)
            await asyncio.gather(*mover._tasks)

        self.run(moved())
        now = self.store.lookup(key(name))
        assert now is not None
        assert now.stamp != record.stamp
        self.model[name] = now
        home, copy = (record.home, 0) if to == 0 else (to, record.copy)
        assert now == msgspec.structs.replace(record, home=home, copy=copy, stamp=now.stamp)

    @rule(name=names, disk=st.integers(0, 2))
    def evict(self, name: str, disk: int) -> None:
        record = self.model.get(name)
        if record is None or disk not in (record.home, record.copy):
            return

        async def evicted() -> None:
            self.store.evict(self.store.disks[disk], self.store.space.candidate(record.slot, NOW))

        self.run(evicted())
        if record.copy == disk:
            now = self.store.lookup(key(name))
            assert now is not None
            self.model[name] = now
            assert (now.home, now.copy) == (record.home, -1)
        else:
            del self.model[name]

    # time goes by

    @rule()
    def commit(self) -> None:
        self.run(self._commit())

    async def _commit(self) -> None:
        self.store.index.commit()
        self.durable = dict(self.model)

    @rule()
    def restart(self) -> None:
        self.run(self._close())
        self.durable = dict(self.model)
        self.start()

    @precondition(lambda self: hasattr(self, "store"))
    @rule()
    def kill(self) -> None:
        crash(self.store)
        self.start()
        for name in "abcdef":
            found = self.store.lookup(key(name))
            known = {record.generation for record in (self.model.get(name), self.durable.get(name)) if record}
            assert found is None or found.generation in known
            if self.model.get(name) == self.durable.get(name) and name in self.model:
                assert found == self.model[name], "nothing had happened to it since the commit"
            if found is None:
                self.model.pop(name, None)
            else:
                self.model[name] = found
        self.commit()
        for disk in self.store.disks.values():
            here = {
                f"{key(name).hex()}.{record.generation:x}"
                for name, record in self.model.items()
                if disk.number in (record.home, record.copy)
            }
            assert files(disk) == here

    @invariant()
    def answers_are_right(self) -> None:
        if not hasattr(self, "store"):
            return
        for name in "abcdef":
            record = self.store.lookup(key(name))
            assert record == self.model.get(name)
            if record is not None:
                assert self.store.slots.stamp(record.slot) == record.stamp
                for number in {record.home, record.copy} - {-1}:
                    data = body(name, record.size)
                    for position, piece in read(self.store.disks[number], key(name), record).items():
                        assert piece == data[position * SLICE : (position + 1) * SLICE]

    @invariant()
    def sums_are_right(self) -> None:
        if not hasattr(self, "store"):
            return
        for number, disk in self.store.disks.items():
            here = [record for record in self.model.values() if number in (record.home, record.copy)]
            assert disk.used_bytes == sum(map(self.store.charge, here))
            assert disk.unwritten_bytes == 0
            if (roster := self.store.space.rosters.get(number)) is not None:
                assert set(roster.sample(100)) == {record.slot for record in here}
        slots = self.store.slots
        assert {slot for slot in range(slots.slots) if slots.stamp(slot)} == {
            record.slot for record in self.model.values()
        }


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
