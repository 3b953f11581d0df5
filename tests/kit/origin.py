"""The test origin for any test: `from tests.kit.origin import origin` in a conftest makes it a fixture."""

from collections.abc import AsyncIterator

import pytest

from loadtest.answer import Request
from loadtest.content import Checker, digest, expected, gen_path
from loadtest.faults import Step
from loadtest.origin import Origin
from loadtest.tally import Entry

__all__ = ["Checker", "Entry", "Origin", "Request", "Step", "digest", "expected", "gen_path", "origin"]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as started:
        yield started
