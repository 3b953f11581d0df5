"""Waiting for what another process does: for a condition, not for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.kit.daemon import Daemon

_PATIENCE_S = 15.0
_POLL_S = 0.02


async def until(condition: Callable[[], Awaitable[object]], within_s: float = _PATIENCE_S) -> None:
    """Return when the condition holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110 - another process gives no signal
            await asyncio.sleep(_POLL_S)


async def landed(edge: Daemon) -> None:
    """Return when no fill is under way: a request that comes before would still share its answer."""

    fills: list[object] = []

    async def none_in_the_air() -> bool:
        fills[:] = (await edge.status())["fills"]
        return not fills

    try:
        await until(none_in_the_air)
    except TimeoutError:
        raise AssertionError(f"still in the air: {fills}") from None
