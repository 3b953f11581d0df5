"""The slot table, by one process and by two."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.store.slots import HALF_LIFE_S, SLOT_BYTES, SlotTable, stamp_of
from tests.store.making import NOW, child, key

A, B, C = key("a"), key("b"), key("c")


def table(path: Path, slots: int = 8) -> SlotTable:
    return SlotTable(str(path / "slots"), slots, write=True)


def take(slots: SlotTable, name: bytes, stamp: int = 1) -> int:
    slot = slots.allocate()
    assert slot is not None
    slots.bind(slot, name, stamp, NOW)
    return slot


def test_a_slot_holds_what_it_was_given(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A, 77)
    slots.settle(slot, 3, 0, 5000)
    slots.touch(slot, NOW + 5)
    assert slots.key(slot) == A
    assert slots.stamp(slot) == 77
    assert (slots.home(slot), slots.copy(slot), slots.size_kib(slot)) == (3, 0, 5)
    assert (slots.last_access(slot), slots.hits(slot, NOW + 5)) == (NOW + 5, 1.0)
    slots.close()


def test_disk_numbers_up_to_the_last_one(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A)
    slots.settle(slot, 65534, 65534, 1 << 50)
    assert (slots.home(slot), slots.copy(slot)) == (65534, 65534)
    assert slots.size_kib(slot) == 0xFFFFFFFF
    slots.settle(slot, 0, -1, 0)
    assert (slots.home(slot), slots.copy(slot), slots.size_kib(slot)) == (0, -1, 0)
    slots.close()


def test_every_slot_is_given_once_then_none_until_one_is_freed(tmp_path: Path) -> None:
    slots = table(tmp_path)
    assert sorted(take(slots, A) for _ in range(8)) == list(range(8))
    assert slots.allocate() is None
    slots.release(5)
    slots.release(2)
    assert {take(slots, B), take(slots, B)} == {5, 2}
    assert slots.allocate() is None
    slots.close()


def test_a_full_table_is_searched_once_and_not_again_for_each_object(tmp_path: Path) -> None:
    slots = table(tmp_path, 200_000)
    slots.words[0::12] = memoryview(bytes(b"\1\0\0\0" * 200_000)).cast("I")
    looked: list[int] = []

    class Watched:
        def __getitem__(self, word: int) -> int:
            looked.append(word)
            return 1

    assert slots.allocate() is None
    words, slots.words = slots.words, Watched()  # type: ignore[assignment]
    for _ in range(10):
        assert slots.allocate() is None
    slots.words = words
    assert len(looked) < 100
    slots.close()


def test_a_slot_released_twice_is_not_given_twice(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A)
    slots.release(slot)
    slots.release(slot)
    given = [take(slots, B) for _ in range(8)]
    assert sorted(given) == list(range(8))
    slots.close()


def test_what_was_free_is_found_again_after_a_restart(tmp_path: Path) -> None:
    slots = table(tmp_path)
    for name in (A, B, C):
        take(slots, name)
    slots.release(1)
    slots.close()
    again = table(tmp_path)
    assert again.top == 3
    assert sorted(take(again, A) for _ in range(6)) == [1, 3, 4, 5, 6, 7]
    assert again.allocate() is None
    again.close()


def test_the_table_grows_and_never_shrinks(tmp_path: Path) -> None:
    slots = table(tmp_path, 4)
    take(slots, A, 9)
    slots.close()
    grown = table(tmp_path, 100)
    assert (grown.slots, grown.stamp(0), grown.key(0)) == (100, 9, A)
    grown.close()
    kept = table(tmp_path, 4)
    assert kept.slots == 100
    kept.close()


@pytest.mark.parametrize("used", [0, 1, 65535, 65536, 65537, 199_999])
def test_the_highest_slot_ever_used_is_found(tmp_path: Path, used: int) -> None:
    slots = table(tmp_path, 200_000)
    slots.bind(used, A, 1, NOW)
    slots.close()
    again = table(tmp_path, 200_000)
    assert again.top == used + 1
    again.close()


def test_accesses_fade_by_half_in_a_half_life(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A)
    slots.touch(slot, NOW, 8)
    later = NOW + int(HALF_LIFE_S)
    assert slots.hits(slot, later) == pytest.approx(4.0)
    slots.touch(slot, later)
    assert slots.hits(slot, later) == pytest.approx(5.0)
    assert slots.hits(slot, later + 100 * int(HALF_LIFE_S)) == pytest.approx(0.0)
    slots.close()


def test_accesses_within_a_minute_do_not_wear_the_count_down(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A)
    for second in range(0, 600, 30):
        slots.touch(slot, NOW + second)
    assert slots.hits(slot, NOW + 570) == 20.0
    slots.close()


def test_a_clock_set_back_neither_raises_nor_inflates_the_count(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A)
    slots.touch(slot, NOW, 3)
    slots.touch(slot, NOW - 86400)
    assert slots.hits(slot, NOW - 86400) == 4.0
    assert slots.hits(slot, NOW - 90000) == 4.0
    slots.close()


def test_the_count_stops_at_its_end(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A)
    slots.touch(slot, NOW, 1 << 40)
    slots.touch(slot, NOW, 1)
    assert slots.hits(slot, NOW) == pytest.approx(0xFFFFFFFF / 256)
    slots.close()


def test_a_new_object_does_not_inherit_popularity(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A)
    slots.touch(slot, NOW, 50)
    slots.release(slot)
    assert take(slots, B) == slot
    assert slots.hits(slot, NOW) == 0.0
    slots.close()


def test_rebinding_keeps_the_popularity_of_the_same_key_only(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A, 1)
    slots.touch(slot, NOW, 7)
    slots.rebind(slot, A, 2)
    assert (slots.stamp(slot), slots.hits(slot, NOW)) == (2, 7.0)
    slots.rebind(slot, B, 3)
    assert (slots.stamp(slot), slots.key(slot), slots.hits(slot, NOW)) == (3, B, 0.0)
    slots.close()


def test_a_slot_bound_again_above_all_others_is_among_those_sampled(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slots.rebind(6, A, 1)
    assert slots.top == 7
    slots.close()


def test_a_stamp_is_never_what_means_free() -> None:
    assert [stamp_of(number) for number in (1, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1)] == [1, 0xFFFFFFFF, 0xFFFFFFFF, 1]


WORKER = """
import json, sys
from edge.store.slots import SlotTable
slots = SlotTable(sys.argv[1], 8, write=False)
for line in sys.stdin:
    question = json.loads(line)
    if question == "touch":
        slots.touch(0, 1_800_000_100, 5)
    print(json.dumps([slots.stamp(0), slots.key(0).hex(), slots.home(0)]), flush=True)
"""


def test_another_process_sees_every_change_at_once(tmp_path: Path) -> None:
    slots = table(tmp_path)
    slot = take(slots, A, 1)
    slots.settle(slot, 2, -1, 0)
    with child(WORKER, str(tmp_path / "slots")) as worker:
        assert worker.ask("look") == [1, A.hex(), 2]
        slots.bind(slot, B, 2, NOW)
        assert worker.ask("look") == [2, B.hex(), -1]
        slots.release(slot)
        assert worker.ask("look")[0] == 0
        slots.bind(slot, B, 3, NOW)
        worker.ask("touch")
        assert slots.hits(slot, NOW + 100) == 5.0
        assert slots.last_access(slot) == NOW + 100
    slots.close()


def test_a_killed_writer_leaves_its_last_words(tmp_path: Path) -> None:
    script = """
import sys
from edge.store.slots import SlotTable
slots = SlotTable(sys.argv[1], 8, write=True)
slots.bind(slots.allocate(), b"k" * 16, 42, 1_800_000_000)
print("1", flush=True)
sys.stdin.read()
"""
    with child(script, str(tmp_path / "slots")) as writer:
        writer.hear()
        writer.kill()
    slots = table(tmp_path)
    assert (slots.stamp(0), slots.key(0)) == (42, b"k" * 16)
    assert (tmp_path / "slots").stat().st_size == 8 * SLOT_BYTES
    slots.close()
