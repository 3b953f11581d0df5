"""The whole daemon as real processes on free ports, in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

_START_S = 30.0
_STOP_S = 40.0
_POLL_S = 0.05
_numbers = itertools.count()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Settings:
    """What a test says of its daemon; `toml` is appended as it is."""

    origins: list[str]
    workers: int = 1
    ram: str | None = "64MiB"
    ssd: str | None = None
    hdd: str | None = None
    methods: str = "any"
    hosts: list[str] = field(default_factory=lambda: ["*"])
    site: str = ""
    """More lines of the [[sites]] table."""
    toml: str = ""


class Daemon:
    """A running daemon: its addresses, its metrics, its processes."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.port = free_port()
        self.control_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.control = f"http://127.0.0.1:{self.control_port}"
        self.access_log = folder / "access.log"
        self.output = folder / "daemon.log"
        self.ram_folder = Path(f"/dev/shm/edge-test-{os.getpid()}-{next(_numbers)}")
        self.config = folder / "edge.toml"
        self.config.write_text(self._toml())
        self.process: asyncio.subprocess.Process | None = None

    def _toml(self) -> str:
        settings = self.settings
        tiers = ""
        folders = {"ram": self.ram_folder, "ssd": self.folder / "ssd0", "hdd": self.folder / "hdd0"}
        for name, folder in folders.items():
            if size := getattr(settings, name):
                reserve = "\nreserve = 0"
                tiers += f'[[tiers.{name}.disks]]\npath = "{folder}"\nsize = "{size}"{reserve}\n'
        return f"""
workers = {settings.workers}
state_dir = "{self.folder}/state"
[[listeners]]
address = "127.0.0.1:{self.port}"
[control]
address = "127.0.0.1:{self.control_port}"
[[sites]]
name = "test"
hosts = {json.dumps(settings.hosts)}
origins = {json.dumps(settings.origins)}
methods = "{settings.methods}"
{settings.site}
{tiers}
[log]
access = "{self.access_log}"
level = "debug"
{settings.toml}
"""

    async def start(self) -> None:
        """Start, and wait until it is ready."""
        with self.output.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "edge", "serve", "--config", str(self.config), stdout=output, stderr=output
            )
        async with asyncio.timeout(_START_S):
            while not await self._is_ready():
                if self.process.returncode is not None:
                    raise AssertionError(f"the daemon did not start:\n{self.output.read_text()}")
                await asyncio.sleep(_POLL_S)

    async def _is_ready(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with aiohttp.ClientSession() as session, session.get(f"{self.control}/readyz") as response:
                return response.status == 200
        return False

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal; returns its exit status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_S):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError("the daemon did not stop") from None

    def remove(self) -> None:
        shutil.rmtree(self.ram_folder, ignore_errors=True)

    # looking at it

    async def status(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.control}/status") as response:
            return dict(await response.json())

    async def pids(self, role: str) -> list[int]:
        """Process ids of "worker" or "manager"."""
        return [one["pid"] for one in (await self.status())["processes"] if one["role"] == role]

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Every sample: (name, label values sorted by label name…) → value."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.control}/metrics") as response:
            text = await response.text()
        return {
            (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def total(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.control}/metrics") as response:
            text = await response.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def eventually(self, name: str, expected: float, **labels: str) -> None:
        """Wait until a metric's sum is what is expected: workers count in batches."""
        async with asyncio.timeout(10):
            while (found := await self.total(name, **labels)) != expected:
                await asyncio.sleep(_POLL_S)
                assert found <= expected or not name.endswith("_total"), f"{name} is {found}, past {expected}"

    def log_lines(self) -> list[dict[str, Any]]:
        """The access log so far."""
        if not self.access_log.exists():
            return []
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]


@contextlib.asynccontextmanager
async def running(folder: Path, settings: Settings) -> AsyncIterator[Daemon]:
    """A daemon that is stopped, and must stop cleanly, at the end of the block."""
    daemon = Daemon(folder, settings)
    try:
        await daemon.start()
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.returncode is None:
            code = await daemon.stop()
            assert code == 0, daemon.output.read_text()
        daemon.remove()
