"""Counting and the access log: off the hot path, in batches.

A response leaves one tuple behind. Twice a second they become counters, popularity and lines of JSON; a thread writes
the lines, and what a disk refuses or a pipe's reader does not take in time is dropped and counted: no response waits
for a log.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from edge.http.head import Block
from edge.logs import get_logger
from edge.metrics import FIRST_BYTE, LOG_LINES_DROPPED, REQUESTS, RESPONSE_BYTES, Page
from edge.serve.objects import OpenObject
from edge.terms import Outcome, Source

if TYPE_CHECKING:
    from edge.serve.misses import Misses
    from edge.store.reader import StoreReader

Entry = tuple[float, str, Block, bytes, bytes, int, int, Outcome, Source, float, float, OpenObject | None, str]
"""Time, client, fields, method, target, status, body bytes, outcome, source, first byte, duration, object, reason."""

_BATCHES_WAITING_MAX = 8
_PIPE_WAIT_MS = 500
_log = get_logger()
_HOT_HITS = 2.0
_encode = msgspec.json.encode


class AccessLog:
    def __init__(self, path: str | None, page: Page, store: StoreReader, misses: Misses) -> None:
        self.entries: list[Entry] = []
        self._path = path
        self._page = page
        self._store = store
        self._misses = misses
        self._cells: dict[tuple[Outcome, Source, int], tuple[int, int, int]] = {}
        self._thread = ThreadPoolExecutor(1, "access-log")
        self._writing: set[Future[int]] = set()
        self._is_torn = False
        """The last line was not written to its end. The thread's own."""
        self._fd = -1
        self.reopen()

    def reopen(self) -> None:
        """After a rotation: the next lines go to a new file of the same name."""
        if self._path is None:
            return
        try:
            fresh = _open(self._path)
        except OSError as error:
            _log.error("cannot open the access log", path=self._path, error=str(error))
            return
        old, self._fd = self._fd, fresh
        if old >= 0:
            self._thread.submit(os.close, old)

    def flush(self, now_s: int) -> None:
        """Count what was answered since the last time, and hand its lines to the thread."""
        if self._writing:
            self._count_dropped()
        entries, self.entries = self.entries, []
        if not entries:
            return
        self._count(entries, now_s)
        if self._path is None:
            return
        if self._fd < 0 or len(self._writing) >= _BATCHES_WAITING_MAX:
            self._page.add(LOG_LINES_DROPPED, len(entries))
            return
        data = "".join([_line(*entry) for entry in entries]).encode("latin-1")
        self._writing.add(self._thread.submit(self._write, self._fd, data))

    def _count_dropped(self) -> None:
        done = {batch for batch in self._writing if batch.done()}
        self._writing -= done
        self._page.add(LOG_LINES_DROPPED, sum(batch.result() for batch in done))

    def _count(self, entries: list[Entry], now_s: int) -> None:
        cells = self._page.cells
        accesses: dict[OpenObject, int] = {}
        for _, _, _, _, _, status, sent, outcome, source, first_byte_s, _, opened, _ in entries:
            found = self._cells.get((outcome, source, status))
            if found is None:
                found = self._cells[(outcome, source, status)] = (
                    REQUESTS.cell(outcome, source, f"{min(status // 100, 5) or 4}xx"),  # 0: the client did not wait
                    RESPONSE_BYTES.cell(source),
                    FIRST_BYTE.cell(source),
                )
            requests, response_bytes, first_byte = found
            cells[requests] += 1
            cells[response_bytes] += sent
            if first_byte_s:
                self._page.observe_at(first_byte, first_byte_s)
            if opened is not None:
                accesses[opened] = accesses.get(opened, 0) + 1
        slots = self._store.slots
        for opened, count in accesses.items():
            if slots.stamp(opened.record.slot) != opened.stamp:
                continue
            slots.touch(opened.record.slot, now_s, count)
            if not opened.is_memory and slots.hits(opened.record.slot, now_s) >= _HOT_HITS:
                self._misses.hot(opened)

    def _write(self, fd: int, data: bytes) -> int:
        """In the thread: how many lines could not be written."""
        left = b"\n" + data if self._is_torn else data
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        try:
            for piece in (left,) if is_file else _pieces(left):
                rest = piece
                while rest:
                    if not is_file and not _is_writable(fd):
                        raise BlockingIOError
                    written = os.write(fd, rest)
                    self._is_torn = rest[written - 1 : written] != b"\n"
                    rest, left = rest[written:], left[written:]
        except OSError:
            return left.count(b"\n")
        return 0

    async def close(self) -> None:
        """Write what is left."""
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        self._count_dropped()
        if self._fd >= 0:
            os.close(self._fd)


def _open(path: str) -> int:
    if path == "-":
        return os.dup(1)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):
            flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC  # to write only, the open would wait for a reader
    except FileNotFoundError:
        pass
    return os.open(path, flags, 0o640)


def _is_writable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(_PIPE_WAIT_MS))


def _pieces(data: bytes) -> Iterator[bytes]:
    """Whole lines, as many as a pipe takes at once: other workers write to the same one."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


def _line(
    now: float, peer: str, block: Block, method: bytes, target: bytes, status: int, sent: int, outcome: Outcome,
    source: Source, first_byte_s: float, duration_s: float, _: Any, reason: str,
) -> str:  # fmt: skip
    told = block.log_fields
    if told is None:
        told = block.log_fields = _told(block)
    name = target.decode("latin-1")
    if '"' in name or "\\" in name:
        name = _encode(name).decode()[1:-1]
    told += f',"reason":"{reason}"' if reason else ""
    return (
        f'{{"time":{now:.3f},"client":"{peer}","method":"{method.decode("latin-1")}","target":"{name}","status":{status},'
        f'"bytes":{sent},"outcome":"{outcome._value_}","source":"{source._value_}","first_byte_s":{first_byte_s:.6f},'
        f'"duration_s":{duration_s:.6f}{told}}}\n'
    )


def _told(block: Block) -> str:
    """What the client said of itself: the same for all requests with this block."""
    told = ""
    for name, field in (("host", "host"), ("range", "range"), ("user_agent", "user-agent"), ("referer", "referer")):
        value = block.fields.get(field)
        if value is not None:
            told += f',"{name}":' + _ascii(value)
    return told


def _ascii(text: str) -> str:
    """A JSON string in ASCII alone."""
    return "".join(char if ord(char) < 127 else f"\\u{ord(char):04x}" for char in _encode(text).decode())
