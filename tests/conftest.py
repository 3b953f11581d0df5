"""Tests by the rule they show: -k rfc9111-4.2 selects a section and all below it, --rules counts them by group."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.kit.rules import GROUPS, Tally, groups_of, named, sections_of

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- rules: written by `make rules` -->", "<!-- /rules -->"
# Whole files that show a rule.
FILES = {
    "tests/serve/test_fuzz.py": ("9112-2.2", "9112-11.2"),
    "tests/serve/test_tls.py": ("8446", "9112-9.8"),
}

_groups = pytest.StashKey[set[str]]()
_tallies = pytest.StashKey[dict[str, Tally]]()
_by_id = pytest.StashKey[dict[str, set[str]]]()
is_whole = pytest.StashKey[bool]()
"""Whether nothing was left out of this run's collection."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rules")
    group.addoption("--rules", action="store_true", help="show how many cases there are for each rule of HTTP")
    group.addoption("--rules-readme", action="store_true", help="write that table into the README (make rules)")


def sections(item: pytest.Item) -> set[str]:
    found = {str(section) for mark in item.iter_markers("rfc") for section in mark.args}
    found.update(FILES.get(item.nodeid.partition("::")[0], ()))
    own = named(getattr(item, "originalname", None) or item.name)
    return found | ({own} if own else set())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tallies = config.stash.setdefault(_tallies, {name: Tally() for name in GROUPS})
    by_id = config.stash.setdefault(_by_id, {})
    for item in items:
        shown = sections(item)
        item.extra_keyword_matches.update(f"rfc{section}" for section in shown)
        by_id[item.nodeid] = groups_of(shown)
        for name in by_id[item.nodeid]:
            tallies[name].cases += 1
    whole = {Path(path).resolve() for path in config.args} == {Path(__file__).parent}
    config.stash[is_whole] = whole


@pytest.fixture(scope="session")
def rule_tallies(request: pytest.FixtureRequest) -> tuple[dict[str, Tally], bool]:
    """The groups and their cases, and whether all tests were collected."""
    return request.config.stash[_tallies], request.config.stash[is_whole]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    tallies = item.config.stash[_tallies]
    for name in item.config.stash[_by_id].get(item.nodeid, ()):
        tallies[name].passed += report.when == "call" and report.passed
        tallies[name].failed += report.failed
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tallies = config.stash.get(_tallies, {})
    if config.getoption("--rules"):
        width = max(map(len, GROUPS))
        terminalreporter.section("rules of HTTP")
        for name, tally in tallies.items():
            ran = f"{tally.passed:4} passed {tally.failed:4} failed" if tally.passed or tally.failed else ""
            terminalreporter.line(f"{name:{width}} {tally.cases:5} {ran}  {sections_of(name)}")
    if config.getoption("--rules-readme"):
        README.write_text(written(README.read_text(), tallies))


def written(text: str, tallies: dict[str, Tally]) -> str:
    """The README with the table of now between its marks."""
    rows = [f"| {name} | {sections_of(name)} | {tally.cases} |" for name, tally in tallies.items()]
    table = "\n".join(["| rules | sections | cases |", "| --- | --- | --- |", *rows])
    return re.sub(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", table + "\n", text, flags=re.DOTALL)
