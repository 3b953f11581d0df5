"""Counting and the access log: off the hot path, in batches.

A response leaves one tuple behind. Twice a second they become counters, popularity and lines of JSON; a thread writes
the lines, and when the disk is too slow for it lines are dropped and counted: no response waits for a log.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from edge.http.head import Block
from edge.metrics import FIRST_BYTE, LOG_LINES_DROPPED, REQUESTS, RESPONSE_BYTES, Page
from edge.serve.objects import OpenObject
from edge.terms import Outcome, Source

if TYPE_CHECKING:
    from edge.serve.misses import Misses
    from edge.store.reader import StoreReader

Entry = tuple[float, str, Block, bytes, bytes, int, int, Outcome, Source, float, float, OpenObject | None, str]
"""Time, client, fields, method, target, status, body bytes, outcome, source, first byte, duration, object, reason."""

_BATCHES_WAITING_MAX = 8
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
        self._writing: set[Future[None]] = set()
        self._fd = -1
        if path is not None:
            self._fd = self._open(path)

    @staticmethod
    def _open(path: str) -> int:
        if path == "-":
            return os.dup(1)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def reopen(self) -> None:
        """After a rotation: the next lines go to a new file of the same name."""
        if self._path is None:
            return
        fresh = self._open(self._path)
        old, self._fd = self._fd, fresh
        self._thread.submit(os.close, old)

    def flush(self, now_s: int) -> None:
        """Count what was answered since the last time, and hand its lines to the thread."""
        entries, self.entries = self.entries, []
        if not entries:
            return
        self._count(entries, now_s)
        if self._fd < 0:
            return
        self._writing = {batch for batch in self._writing if not batch.done()}
        if len(self._writing) >= _BATCHES_WAITING_MAX:
            self._page.add(LOG_LINES_DROPPED, len(entries))
            return
        lines = [_line(*entry) for entry in entries]
        self._writing.add(self._thread.submit(self._write, self._fd, "".join(lines).encode("latin-1"), len(lines)))

    def _count(self, entries: list[Entry], now_s: int) -> None:
        cells = self._page.cells
        accesses: dict[OpenObject, int] = {}
        for _, _, _, _, _, status, sent, outcome, source, first_byte_s, _, opened, _ in entries:
            found = self._cells.get((outcome, source, status))
            if found is None:
                found = self._cells[(outcome, source, status)] = (
                    REQUESTS.cell(outcome, source, f"{min(max(status // 100, 1), 5)}xx"),
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

    def _write(self, fd: int, data: bytes, lines: int) -> None:
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError:
            self._page.add(LOG_LINES_DROPPED, lines)

    async def close(self) -> None:
        """Write what is left."""
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        if self._fd >= 0:
            os.close(self._fd)


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
