"""How a failure is told: to the client, in the metrics and in the daemon's log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from loadtest.content import expected
from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Reply, get
from tests.kit.daemon import Daemon
from tests.kit.until import until


def told(edge: Daemon) -> list[dict[str, Any]]:
    """The daemon's own log."""
    return [json.loads(line) for line in edge.output.read_text().splitlines() if line.startswith("{")]


@dataclass
class Errors:
    """How often a reason was counted before, to tell what was added."""

    edge: Daemon
    reason: str
    before: float

    async def counted(self) -> bool:
        async def more() -> bool:
            return await self.edge.total("edge_errors_total", reason=self.reason) > self.before

        await until(more)
        return True


async def errors(edge: Daemon, reason: str) -> Errors:
    return Errors(edge, reason, await edge.total("edge_errors_total", reason=reason))


async def was_refused(edge: Daemon, errors: Errors, path: str, reply: Reply, status: int) -> bool:
    """Whether an error was answered as all are: short, not to be stored, and its reason counted and logged."""
    assert (reply.status, reply.whole) == (status, True)
    assert reply.field("Cache-Control") == "no-store"
    assert len(reply.body) < 100
    assert reply.body == f"{status} {errors.reason}\n".encode()
    assert await errors.counted()
    assert any(path in line.get("url", "") and line.get("reason") == errors.reason for line in told(edge))
    return True


async def is_not_stored(origin: Origin, edge: Daemon, path: str) -> bool:
    """Whether the next request goes to the origin for all of it, and gets what a sound origin sends."""
    asked = len(origin.requests_for(path))
    origin.on(path, lambda _: Step())
    size = int(path.split("/")[2].removesuffix("k")) << 10
    reply = await get(edge.port, path)
    assert (reply.status, reply.whole) == (200, True)
    assert reply.body == expected(path, 0, size)
    assert len(origin.requests_for(path)) == asked + 1
    assert origin.requests_for(path)[-1].range is None
    return True
