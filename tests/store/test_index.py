"""The index: what it reads while it writes, what others see, what a kill leaves."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import lmdb
import msgspec
import pytest

from edge.store.index import Index, IndexReader
from edge.store.record import Record
from tests.store.making import child, draft, key, until

A, B = key("a"), key("b")
LOOKER = """
import json, sys
from edge.store.index import IndexReader
index = IndexReader(sys.argv[1], 1000)
print(json.dumps("open"), flush=True)
for line in sys.stdin:
    record = index.get(bytes.fromhex(json.loads(line)))
    print(json.dumps(record and record.generation), flush=True)
"""


def numbered(generation: int) -> Record:
    return msgspec.structs.replace(draft(10), generation=generation)


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[Index]:
    index = Index(str(tmp_path / "index"), 1000)
    yield index
    with contextlib.suppress(lmdb.Error):
        index.close()


def reopened(index: Index, path: Path) -> Index:
    """As after a kill: nothing is written any more."""
    index._env.close()
    return Index(str(path / "index"), 1000)


async def test_the_manager_reads_what_it_wrote_at_once(index: Index) -> None:
    index.put(A, numbered(1))
    index.put(B, numbered(2))
    index.delete(B)
    assert (index.get(A), index.get(B)) == (numbered(1), None)
    assert index.count() == 0
    index.commit()
    assert (index.get(A), index.get(B), index.count()) == (numbered(1), None, 1)


async def test_a_deleted_record_stays_deleted_while_it_is_being_written(index: Index) -> None:
    index.put(A, numbered(1))
    index.commit()
    index.delete(A)
    index._take()
    assert index.get(A) is None
    index._write()
    assert index.get(A) is None


async def test_what_was_not_committed_did_not_happen(index: Index, tmp_path: Path) -> None:
    index.put(A, numbered(1))
    index.set_meta("used", {0: 5})
    index.commit()
    index.put(A, numbered(2))
    index.put(B, numbered(3))
    index.set_meta("used", {0: 6})
    again = reopened(index, tmp_path)
    assert (again.get(A), again.get(B), again.meta("used")) == (numbered(1), None, {0: 5})
    again.close()


async def test_small_values_of_the_stores_own(index: Index, tmp_path: Path) -> None:
    assert index.meta("numbers") is None
    index.set_meta("numbers", 7)
    assert index.meta("numbers") == 7
    index._take()
    assert index.meta("numbers") == 7
    index.commit()
    assert reopened(index, tmp_path).meta("numbers") == 7


async def test_actions_wait_for_the_commit_and_are_done_once(index: Index) -> None:
    done: list[int] = []
    index.put(A, numbered(1))
    index.after_commit(lambda: done.append(index.count()))
    assert done == []
    index.commit()
    index.commit()
    assert done == [1]


async def test_an_action_may_ask_for_another(index: Index) -> None:
    done: list[str] = []
    index.after_commit(lambda: index.after_commit(lambda: done.append("second")))
    index.commit()
    assert done == []
    index.commit()
    assert done == ["second"]


async def test_batches_are_committed_by_themselves_and_counted(tmp_path: Path) -> None:
    batches: list[int] = []
    index = Index(str(tmp_path / "index"), 1000, lambda: batches.append(1))
    running = asyncio.create_task(index.run())
    done: list[int] = []
    for generation in range(50):
        index.put(key(str(generation)), numbered(generation))
    index.after_commit(lambda: done.append(index.count()))
    await until(lambda: done)
    assert (done, batches) == ([50], [1])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    index.close()


class SlowEncoder:
    """Holds up the batch that is being written until it is let go."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def encode(self, value: object) -> bytes:
        self.entered.set()
        self.release.wait()
        return msgspec.msgpack.encode(value)


async def test_what_is_put_while_a_batch_is_being_written_is_not_lost_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(str(tmp_path / "index"), 1000)
    index.set_meta("clean", False)
    index.put(A, numbered(1))
    index._take()
    slow = SlowEncoder()
    with monkeypatch.context() as patch:
        patch.setattr("edge.store.index._encoder", slow)
        writer = threading.Thread(target=index._write)  # in the middle of it the daemon is told to end
        writer.start()
        await until(slow.entered.is_set)
    index.put(B, numbered(2))
    index.set_meta("clean", True)
    threading.Timer(0.02, slow.release.set).start()
    index.commit()
    writer.join()
    index._env.close()
    again = Index(str(tmp_path / "index"), 1000)
    assert (again.get(A), again.get(B), again.meta("clean")) == (numbered(1), numbered(2), True)
    again.close()


async def test_a_batch_that_fails_is_written_with_the_next(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.put(A, numbered(1))
    index.set_meta("numbers", 9)
    index.put(B, numbered(2))
    with monkeypatch.context() as patch:
        patch.setattr("edge.store.index._encoder", None)
        with pytest.raises(AttributeError):
            index.commit()
    assert (index.get(A), index.meta("numbers")) == (numbered(1), 9)
    index.delete(B)
    index.commit()
    assert (index.count(), index.meta("numbers")) == (1, 9)


async def test_records_with_many_header_fields_do_not_fill_the_map(tmp_path: Path) -> None:
    index = Index(str(tmp_path / "index"), 200_000)
    room = index._env.info()["map_size"] / 200_000
    assert room > 8192, "the largest header blocks of origins in the field"
    index.close()


async def test_another_process_sees_commits_and_nothing_else(index: Index, tmp_path: Path) -> None:
    index.put(A, numbered(1))
    index.commit()
    with child(LOOKER, str(tmp_path / "index")) as worker:
        assert worker.hear() == "open"
        assert worker.ask(A.hex()) == 1
        index.put(A, numbered(2))
        assert worker.ask(A.hex()) == 1
        index.commit()
        assert worker.ask(A.hex()) == 2
        index.delete(A)
        index.commit()
        assert worker.ask(A.hex()) is None


async def test_a_reader_cannot_make_an_index(tmp_path: Path) -> None:
    with pytest.raises(lmdb.Error):
        IndexReader(str(tmp_path / "none"), 1000)


async def test_a_reader_that_died_while_reading_does_not_hold_old_pages_for_ever(index: Index, tmp_path: Path) -> None:
    script = """
import sys
from edge.store.index import IndexReader
index = IndexReader(sys.argv[1], 1000)
transaction = index._env.begin()
transaction.get(b"x" * 16)
print("1", flush=True)
sys.stdin.read()
"""
    index.put(A, numbered(1))
    index.commit()
    with child(script, str(tmp_path / "index")) as worker:
        worker.hear()
        pid = str(worker.process.pid)
        assert pid in index._env.readers()
        worker.kill()
    index.put(A, numbered(2))
    index.commit()
    assert pid not in index._env.readers()


WRITER = """
import asyncio, sys
from edge.store.index import Index
from tests.store.making import draft, key
import msgspec
async def main():
    index = Index(sys.argv[1], 100_000)
    first = (index.meta("written") or 0) + 1
    for batch in range(first, 1_000_000):
        for one in range(20):
            index.put(key(f"{batch} {one}"), msgspec.structs.replace(draft(10), generation=batch))
        index.set_meta("written", batch)
        index.commit()
        print(batch, flush=True)
asyncio.run(main())
"""


async def test_a_writer_killed_in_the_middle_of_its_batches_leaves_whole_ones(tmp_path: Path) -> None:
    path = str(tmp_path / "index")
    for _ in range(3):
        with child(WRITER, path) as writer:
            said = [writer.hear() for _ in range(25)]
            writer.kill()
        index = Index(path, 100_000)
        written = index.meta("written")
        assert written >= said[-1]
        assert index.count() == written * 20
        for one, record in index.records():
            assert one in {key(f"{record.generation} {number}") for number in range(20)}
        index.close()
