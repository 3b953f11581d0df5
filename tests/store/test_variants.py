"""Variants of one resource: a marker, an object each, and nothing left of either when the other goes."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from edge.http.fields import Fields
from edge.store.record import Record, key_hash
from edge.store.tiers import Store
from edge.store.variants import VARIANTS_MAX, choose, find, settle
from tests.store.making import assert_adds_up, config, draft, folder, opened

pytestmark = pytest.mark.rfc("9111-4.1")
URL = "test/a"
KEY = key_hash(URL)


def asking(**fields: str) -> Fields:
    return Fields(fields.items())


async def put(store: Store, request: Fields, *names: str) -> bytes:
    """Store the answer to a request, which varies by `names`; returns its key."""
    key = choose(store, KEY, URL, request, names)
    assert key is not None
    store.busy[key] += 1
    record, fd, _ = await store.create(
        key, URL, msgspec.structs.replace(draft(0), primary=KEY if key != KEY else b""), 0
    )
    os.close(fd)
    store.publish(key, record, None)
    del store.busy[key]
    settle(store, key, KEY)
    return key


def found(store: Store, request: Fields) -> Record | None:
    return find(store, KEY, URL, request)[1]


async def test_each_request_finds_its_own(tmp_path: Path) -> None:
    async with opened(config(tmp_path / "state", ssd=[folder(tmp_path / "disk")])) as store:
        one, two = await put(store, asking(a="1"), "a"), await put(store, asking(a="2"), "a")
        assert one != two
        assert find(store, KEY, URL, asking(a="1", b="7")) == (one, store.index.get(one))
        assert find(store, KEY, URL, asking(a="2"))[0] == two
        assert found(store, asking(a="3")) is None
        marker = store.index.get(KEY)
        assert marker is not None
        assert marker.is_marker
        assert (marker.selecting, set(marker.variants)) == (("a",), {one, two})


async def test_a_resource_without_variants_is_itself(tmp_path: Path) -> None:
    async with opened(config(tmp_path / "state", ssd=[folder(tmp_path / "disk")])) as store:
        assert await put(store, asking(a="1")) == KEY
        assert find(store, KEY, URL, asking(a="2")) == (KEY, store.index.get(KEY))


async def test_what_it_varies_by_only_grows(tmp_path: Path) -> None:
    """And what was told apart by less is forgotten: it may be the wrong one."""
    async with opened(config(tmp_path / "state", ssd=[folder(tmp_path / "disk")])) as store:
        plain = await put(store, asking(a="1", b="1"))
        by_a = await put(store, asking(a="1", b="1"), "a")
        assert (plain, store.index.get(KEY) is not None) == (KEY, True)
        by_both = await put(store, asking(a="1", b="1"), "b")
        assert store.index.get(by_a) is None
        assert find(store, KEY, URL, asking(a="1", b="1"))[0] == by_both
        assert found(store, asking(a="1", b="2")) is None
        assert await put(store, asking(a="1", b="1")) == by_both  # an answer that names none is one of them
        marker = store.index.get(KEY)
        assert marker is not None
        assert marker.selecting == ("a", "b")


async def test_with_the_marker_go_the_variants_and_with_the_last_variant_the_marker(tmp_path: Path) -> None:
    async with opened(config(tmp_path / "state", ssd=[folder(tmp_path / "disk")])) as store:
        one, two = await put(store, asking(a="1"), "a"), await put(store, asking(a="2"), "a")
        marker = store.index.get(KEY)
        assert marker is not None
        store.drop(KEY, marker)
        assert [store.index.get(key) for key in (KEY, one, two)] == [None] * 3

        one, two = await put(store, asking(a="1"), "a"), await put(store, asking(a="2"), "a")
        for key, left in ((one, 1), (two, 0)):
            record = store.index.get(key)
            assert record is not None
            store.drop(key, record)
            marker = store.index.get(KEY)
            assert (len(marker.variants) if marker is not None else 0) == left
        assert store.index.get(KEY) is None
        store.index.commit()
        assert_adds_up(store)
        assert not any(store.slots.stamp(slot) for slot in range(store.slots.top))


async def test_there_are_only_so_many(tmp_path: Path) -> None:
    async with opened(config(tmp_path / "state", ssd=[folder(tmp_path / "disk")])) as store:
        for number in range(VARIANTS_MAX):
            await put(store, asking(a=str(number)), "a")
        assert choose(store, KEY, URL, asking(a="one more"), ("a",)) is None
        assert choose(store, KEY, URL, asking(a="7"), ("a",)) is not None
        record = found(store, asking(a="7"))
        assert record is not None
        store.drop(find(store, KEY, URL, asking(a="7"))[0], record)
        assert choose(store, KEY, URL, asking(a="one more"), ("a",)) is not None


async def test_a_fill_that_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    async with opened(config(tmp_path / "state", ssd=[folder(tmp_path / "disk")])) as store:
        key = choose(store, KEY, URL, asking(a="1"), ("a",))
        assert key is not None
        settle(store, key, KEY)
        assert store.index.get(KEY) is None


@pytest.mark.parametrize("is_clean", [True, False])
async def test_they_outlive_a_restart(tmp_path: Path, *, is_clean: bool) -> None:
    settings = config(tmp_path / "state", ssd=[folder(tmp_path / "disk")])
    async with opened(settings) as store:
        one = await put(store, asking(a="1"), "a")
        store.index.commit()
        if not is_clean:
            store.slots.words[:] = memoryview(bytes(store.slots.words.nbytes)).cast("I")
    async with opened(settings) as store:
        assert find(store, KEY, URL, asking(a="1"))[0] == one
        assert found(store, asking(a="1")) is not None
