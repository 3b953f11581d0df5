"""The README's table of rules: its groups exist, and have at least the cases it states."""

from __future__ import annotations

import re

import pytest

from tests.conftest import BEGIN, END, README, written
from tests.kit.rules import GROUPS, Tally, group_of, named, sections_of

_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| (\d+) \|$", re.MULTILINE)


def stated() -> dict[str, int]:
    table = README.read_text().partition(BEGIN)[2].partition(END)[0]
    return {name: int(cases) for name, _, cases in _ROW.findall(table)}


def test_the_readme_names_every_group() -> None:
    assert list(stated()) == list(GROUPS)


def test_the_readme_states_no_case_that_is_not_there(rule_tallies: tuple[dict[str, Tally], bool]) -> None:
    tallies, is_whole = rule_tallies
    if not is_whole:
        pytest.skip("only a part of the tests was collected")
    assert {name: cases for name, cases in stated().items() if cases > tallies[name].cases} == {}


def test_a_section_is_counted_where_it_belongs() -> None:
    assert group_of("9111-4.2.3") == "Age"
    assert group_of("9111-4.2.1") == "Freshness"
    assert group_of("9111-3.1") == "Storing"
    assert group_of("9110-15.2.1") == "Interim responses"
    assert group_of("5861") == "Serving stale"
    for section in ("9111", "9111-8", "4.2", "9111-4.2."):
        with pytest.raises(ValueError):
            group_of(section)


def test_sections_in_names() -> None:
    assert named("test_9111_4_2_1_what_the_origin_states") == "9111-4.2.1"
    assert named("test_6585_never_stored") == "6585"
    assert named("test_9112_6_3_content_by_method_and_status") == "9112-6.3"
    assert named("test_http_1_0") is None


def test_a_written_table_reads_back() -> None:
    text = written(f"a\n{BEGIN}\nold\n{END}\nb\n", {name: Tally(cases=7) for name in GROUPS})
    assert text.startswith(f"a\n{BEGIN}\n| rules |")
    assert text.endswith(f"|\n{END}\nb\n")
    assert {int(cases) for _, _, cases in _ROW.findall(text)} == {7}
    assert {sections for _, sections, _ in _ROW.findall(text)} == {sections_of(name) for name in GROUPS}
