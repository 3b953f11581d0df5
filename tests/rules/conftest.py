"""One daemon, one origin and one event loop for all cases; those that are selected are told side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from loadtest.origin import Origin
from tests.kit.daemon import Settings, running
from tests.rules.story import Case, Teller

Outcome = Callable[[Case], None]
AT_ONCE = 40
NOTHING_ADDED = "not_found_freshness = 0\nstale_if_error = 0\n"  # to the origin's word, by the operator
SMALL_SLICES = '[fill]\nslice_size = "64KiB"\n'  # so that a small body can be stored in part


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def teller(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Teller]:
    async with (
        Origin(cache_control=None) as origin,
        running(
            tmp_path_factory.mktemp("rules"), Settings([origin.url], workers=2, site=NOTHING_ADDED, toml=SMALL_SLICES)
        ) as edge,
    ):
        yield Teller(origin, edge)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def outcome(request: pytest.FixtureRequest, teller: Teller) -> Outcome:
    """Every case of this run, told; the function raises what became of one."""
    cases: dict[str, Case] = {}
    for item in request.session.items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")  # type: ignore[attr-defined]
        if isinstance(case, Case):
            assert cases.setdefault(case.id, case) is case, f"two cases are called {case.id}"
    free = asyncio.Semaphore(AT_ONCE)

    async def told(case: Case) -> None:
        async with free:
            await teller.tell(case)

    results = await asyncio.gather(*map(told, cases.values()), return_exceptions=True)
    errors = dict(zip(cases, results, strict=True))

    def look(case: Case) -> None:
        error = errors[case.id]
        if error is not None:
            raise error

    return look
