"""The store's places, and disks that come, go and change places."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edge.errors import DiskError
from edge.store.layout import Layout
from edge.terms import TierName
from tests.store.making import (
    SLICE,
    assert_adds_up,
    committed,
    config,
    expected_sha256,
    folder,
    key,
    moving,
    opened,
    put,
    rename,
    sha256,
    stored,
    until,
)


def test_the_places_under_the_state_folder(tmp_path: Path, ssd: Path) -> None:
    layout = Layout(config(tmp_path / "state", ssd=[folder(ssd)]))
    layout.make()
    layout.make()
    assert os.path.isdir(layout.run)
    assert layout.page("worker-1").startswith(layout.run)
    places = [layout.index, layout.slots, layout.manager_socket, layout.roll, layout.lock]
    assert all(place.startswith(f"{tmp_path}/state/") for place in places)
    assert len(set(places)) == len(places)


async def test_disks_are_known_whatever_their_order(tmp_path: Path, ssd: Path, hdd: Path) -> None:
    third = ssd.parent / "third"
    async with opened(config(tmp_path, ssd=[folder(ssd), folder(hdd)])) as store:
        before = {disk.root: number for number, disk in store.disks.items()}
        await put(store, "a", SLICE)
    async with opened(config(tmp_path, ssd=[folder(third), folder(hdd)], hdd=[folder(ssd)])) as store:
        after = {disk.root: number for number, disk in store.disks.items()}
        assert {path: after[path] for path in before} == before
        assert len(set(after.values())) == 3
        assert store.disks[after[str(ssd)]].tier is TierName.HDD
        assert store.lookup(key("a")) is not None
        assert sha256(store, "a") == expected_sha256("a", SLICE)


async def test_a_disk_under_another_path_is_the_same_disk(tmp_path: Path, ssd: Path, hdd: Path) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        await put(store, "a", SLICE)
    rename(ssd, hdd)
    async with opened(config(tmp_path, ssd=[folder(hdd)])) as store:
        assert sha256(store, "a") == expected_sha256("a", SLICE)
        assert_adds_up(store)


async def test_a_disk_that_is_not_there_hides_its_objects_until_it_is_back(
    tmp_path: Path, ssd: Path, hdd: Path
) -> None:
    both = config(tmp_path, ssd=[folder(ssd)], hdd=[folder(hdd)])
    async with opened(both) as store:
        for name in ("a", "b"):
            await put(store, name, SLICE)
    async with opened(config(tmp_path, hdd=[folder(hdd)])) as store:
        assert store.lookup(key("a")) is None
    async with opened(both) as store:
        assert sha256(store, "a") == expected_sha256("a", SLICE)


async def test_what_was_fetched_again_while_a_disk_was_away_leaves_nothing_behind(
    tmp_path: Path, ssd: Path, hdd: Path
) -> None:
    both = config(tmp_path, ssd=[folder(ssd)], hdd=[folder(hdd)])
    async with opened(both) as store:
        for name in ("a", "b"):
            await put(store, name, 5 * SLICE)
    async with opened(config(tmp_path, hdd=[folder(hdd)])) as store:
        new = await put(store, "a", 5 * SLICE)
        assert [slot for slot in range(10) if store.slots.stamp(slot) and store.slots.key(slot) == key("a")] == [
            new.slot
        ]
    async with opened(both) as store:
        assert_adds_up(store)
        assert set(committed(store)) == {key("a"), key("b")}
        assert sum(disk.used_bytes for disk in store.disks.values()) > 10 * SLICE


async def test_one_disk_under_two_paths_is_refused(tmp_path: Path, ssd: Path, hdd: Path) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])):
        pass
    shutil.copytree(ssd, hdd)
    with pytest.raises(DiskError, match="same disk"):
        async with opened(config(tmp_path, ssd=[folder(ssd), folder(hdd)])):
            pass


async def test_what_lay_in_memory_is_forgotten_when_the_memory_is(tmp_path: Path, ram: Path, ssd: Path) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        await put(store, "copied", SLICE)
    settings = config(tmp_path, ram=[folder(ram / "disk")], ssd=[folder(ssd)])
    async with opened(settings) as store:
        async with moving(store) as mover:
            mover.hot(key("copied"))
            await until(lambda: stored(store, "copied").copy >= 0)
        for name in ("a", "b"):
            await put(store, name, SLICE)
        assert_adds_up(store)
    shutil.rmtree(ram / "disk")  # the machine was started anew
    async with opened(settings) as store:
        assert set(committed(store)) == {key("copied")}
        assert_adds_up(store)
        assert stored(store, "copied").copy == -1
        assert sha256(store, "copied") == expected_sha256("copied", SLICE)
        assert len([slot for slot in range(store.slots.top) if store.slots.stamp(slot)]) == 1
