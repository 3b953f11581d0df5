"""The test origin for any test: in a conftest, `from tests.kit.origin import origin` makes it a fixture, one a test;
`import module_origin` the same for all tests of a module.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from loadtest.answer import Request
from loadtest.content import Checker, digest, expected, gen_path
from loadtest.faults import Step
from loadtest.origin import Origin
from loadtest.tally import Entry

__all__ = ["Checker", "Entry", "Origin", "Request", "Step", "digest", "expected", "gen_path", "module_origin", "origin"]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="origin")
async def module_origin() -> AsyncIterator[Origin]:
    async with Origin() as started:
        yield started
