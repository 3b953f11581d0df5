"""The daemon's processes, as the supervisor writes them down and as their pages show them."""

from __future__ import annotations

import os
from typing import Any

import aiofiles
import msgspec

from edge.clock import Clock
from edge.config import Config
from edge.metrics import HEARTBEAT, Page
from edge.store.layout import Layout

_SILENT_S = 5.0


class Process(msgspec.Struct):
    role: str
    pid: int
    ready: bool


class Roll(msgspec.Struct):
    """The supervisor's list of processes, in a file it replaces at every change."""

    processes: list[Process]
    restarts: int = 0
    draining: bool = False


class Processes:
    def __init__(self, config: Config, clock: Clock, supervisor: int) -> None:
        self._layout = Layout(config)
        self._clock = clock
        self._supervisor = supervisor
        self._pages: dict[str, Page] = {}
        self._roll = Roll([])

    async def refresh(self) -> None:
        """Read the supervisor's list anew; what follows answers from it."""
        try:
            async with aiofiles.open(self._layout.roll, "rb") as file:
                self._roll = msgspec.json.decode(await file.read(), type=Roll)
        except (OSError, msgspec.DecodeError):
            self._roll = Roll([])

    def pages(self) -> list[Page]:
        """The pages of all roles there have been since the daemon started."""
        for name in os.listdir(self._layout.run):
            if name.endswith(".page") and name not in self._pages:
                self._pages[name] = Page(os.path.join(self._layout.run, name))
        return list(self._pages.values())

    def restarts(self) -> int:
        return self._roll.restarts

    def not_ready(self) -> list[str]:
        """Why the box should get no traffic; empty: it should."""
        roll = self._roll
        if roll.draining:
            return ["draining"]
        workers = [process for process in roll.processes if process.role.startswith("worker")]
        if not workers:
            return ["no workers yet"]
        self.pages()
        now = self._clock.wall()
        reasons = []
        for process in workers:
            page = self._pages.get(f"{process.role}.page")
            if not process.ready:
                reasons.append(f"{process.role} is starting")
            elif page is None or now - page.get(HEARTBEAT) > _SILENT_S:
                reasons.append(f"{process.role} does not answer")
        return reasons

    def describe(self) -> list[dict[str, Any]]:
        roll = self._roll
        told = [{"role": "supervisor", "pid": self._supervisor}]
        for process in roll.processes:
            role, _, index = process.role.partition("-")
            told.append({"role": role, "pid": process.pid} | ({"index": int(index)} if index else {}))
        return told
