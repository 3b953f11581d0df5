"""The public tests for HTTP caches (cache-tests.fyi), against the edge as `edge serve --origin` makes it."""

from __future__ import annotations

import pytest

from loadtest.conformance.caches import Edge
from loadtest.conformance.install import InstallError, Tools, tools
from loadtest.conformance.results import Result, Results
from loadtest.conformance.run import run, started

pytestmark = pytest.mark.timeout(600)  # the first run fetches node and the suite
# What is merely better, of 95. Raise it when more is done; what is left out is a choice, written down in the README.
OPTIONAL_MIN = 80


@pytest.fixture(scope="module")
def found() -> Tools:
    try:
        return tools()
    except InstallError as error:
        pytest.skip(f"neither node nor the suite is here, nor to be had: {error}")


@pytest.fixture(scope="module")
def results(found: Tools) -> Results:
    with started(found, Edge) as stack:
        return run(stack)


def told(tests: list[Result]) -> str:
    return "\n".join(f"{test.id}: {test.verdict}: {test.why}" for test in tests)


@pytest.mark.rfc("9111-3", "9111-4")
def test_no_requirement_is_broken(results: Results) -> None:
    assert results.count("required")[1] > 150
    assert results.broken() == [], told(results.broken())


@pytest.mark.rfc("9111-3", "9111-4")
def test_what_is_better_is_mostly_done(results: Results) -> None:
    assert results.count("optimal")[0] >= OPTIONAL_MIN, told(results.unmet())
