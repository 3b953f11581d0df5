"""A scene: a scriptable origin, the daemon as processes before it, and bare clients. One daemon a module.

A module may have `settings(origin_url) -> Settings` for a daemon of its own kind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from loadtest.origin import Origin
from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import module_origin

__all__ = ["edge", "module_origin"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(
    request: pytest.FixtureRequest, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Daemon]:
    make = getattr(request.module, "settings", lambda url: Settings([url]))
    async with running(tmp_path_factory.mktemp("edge"), make(origin.url)) as daemon:
        yield daemon
