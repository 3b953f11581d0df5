"""What the test origin counts: every request, every byte of a body, by path and in all; and a log of each request."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from loadtest.answer import Request

PATHS_MAX = 100_000
OWN_PAGES = "/_origin/"  # not counted, not logged
OTHERS = "(others)"  # the paths beyond PATHS_MAX share this one line

Ending = Literal["open", "sent", "stalled", "cut", "reset", "left"]


@dataclass(slots=True)
class Entry:
    """One request and what became of it."""

    request: Request
    status: int = 0  # 0: no answer yet, or garbage in place of one
    body_bytes: int = 0  # sent
    ending: Ending = "open"  # "left": the client went before the end
    counted: bool = True

    @property
    def method(self) -> str:
        return self.request.method

    @property
    def target(self) -> str:
        return self.request.target

    @property
    def range(self) -> str | None:
        return self.request.header("Range")

    def header(self, name: str) -> str | None:
        return self.request.header(name)


@dataclass(slots=True)
class PathCount:
    requests: int = 0
    bytes: int = 0
    statuses: dict[int, int] = field(default_factory=dict)


class Tally:
    """Counts of one origin process. `open` is the number of connections now, and no reset touches it."""

    def __init__(self, entries_max: int) -> None:
        self.log: deque[Entry] = deque(maxlen=entries_max)
        self.by_path: dict[str, PathCount] = {}
        self.requests = 0
        self.bytes = 0
        self.open = 0
        self.connections = 0
        self._news = asyncio.Event()

    def _at(self, path: str) -> PathCount:
        if path not in self.by_path and len(self.by_path) >= PATHS_MAX:
            path = OTHERS
        return self.by_path.setdefault(path, PathCount())

    def began(self, request: Request) -> Entry:
        if request.path.startswith(OWN_PAGES):
            return Entry(request, counted=False)
        entry = Entry(request)
        self.log.append(entry)
        self.requests += 1
        self._at(request.path).requests += 1
        self.tell()
        return entry

    def answered(self, entry: Entry, status: int) -> None:
        entry.status = status
        if not entry.counted:
            return
        statuses = self._at(entry.request.path).statuses
        statuses[status] = statuses.get(status, 0) + 1

    def sent(self, entry: Entry, size: int) -> None:
        entry.body_bytes += size
        if not entry.counted:
            return
        self.bytes += size
        self._at(entry.request.path).bytes += size

    def ended(self, entry: Entry, ending: Ending) -> None:
        if entry.ending == "open":
            entry.ending = ending
            self.tell()

    async def news(self) -> None:
        """Until a request comes in, or one or a connection comes to its end."""
        self._news.clear()
        await self._news.wait()

    def tell(self) -> None:
        self._news.set()

    def reset(self) -> None:
        self.log.clear()
        self.by_path.clear()
        self.requests = self.bytes = self.connections = 0

    def report(self) -> dict[str, object]:
        return {
            "requests": self.requests,
            "bytes": self.bytes,
            "connections": self.connections,
            "open_connections": self.open,
            "by_path": {
                path: {"requests": count.requests, "bytes": count.bytes, "statuses": dict(count.statuses)}
                for path, count in self.by_path.items()
            },
        }
