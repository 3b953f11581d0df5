"""Which rule a test shows: the sections it is marked with, or named by, and the groups they are counted in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# A test is named by its section as in test_9111_4_2_1_what_the_origin_states.
_NAMED = re.compile(r"test_(\d{4})((?:_\d{1,2}(?=_))*)_")
_SECTION = re.compile(r"\d{4}(?:-\d+(?:\.\d+)*)?")

# Of two groups the one with the longer section counts a test.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Storing": ("9111-3", "9111-7.3", "9110-15.1", "6265", "6585-3"),
    "Parts, stored and combined": ("9111-3.3", "9111-3.4", "9110-15.3.7.3"),
    "Authorization": ("9111-3.5",),
    "Reuse": ("9111-4",),
    "Vary": ("9111-4.1", "9110-12"),
    "Freshness": ("9111-4.2", "9111-5.3", "9111-1.2.2", "8246"),
    "Age": ("9111-4.2.3", "9111-5.1"),
    "Serving stale": ("9111-4.2.4", "5861"),
    "Validation": ("9111-4.3", "9111-3.2"),
    "Invalidation": ("9111-4.4",),
    "Request directives": ("9111-5.2.1",),
    "Response directives": ("9111-5.2",),
    "Pragma, Warning": ("9111-5.4", "9111-5.5"),
    "Targeted fields": ("9213",),
    "Cache-Status": ("9211", "8941"),
    "Conditions": ("9110-13", "9110-8.8", "9110-15.4.5"),
    "Ranges": ("9110-14", "9110-15.3.7", "9110-15.5.17", "9110-17.15"),
    "Cache key": ("9111-2", "3986", "9110-4.2"),
    "Methods and statuses": ("9110-9", "9110-15", "9110-10.1.1", "6585"),
    "Interim responses": ("9110-15.2", "8297"),
    "Fields": ("9110-5", "9110-6.6.1", "9110-10.2"),
    "Intermediaries": ("9110-7", "8586"),
    "Digests": ("9530",),
    "Framing and connections": ("9112",),
    "TLS": ("8446",),
}


@dataclass
class Tally:
    """The cases of a group, and how those that were run ended."""

    cases: int = 0
    passed: int = 0
    failed: int = 0


def named(function: str) -> str | None:
    """The section in a test's name."""
    found = _NAMED.match(function)
    if found is None:
        return None
    return found[1] + ("-" + found[2][1:].replace("_", ".") if found[2] else "")


def group_of(section: str) -> str:
    """The group of a section. ValueError if it is none, or belongs nowhere."""
    if not _SECTION.fullmatch(section):
        raise ValueError(f"a section is written as in 9111-4.2.1, not {section!r}")
    found = [(len(part), name) for name, parts in GROUPS.items() for part in parts if _holds(part, section)]
    if not found:
        raise ValueError(f"no group in tests/kit/rules.py has section {section}")
    return max(found)[1]


def _holds(part: str, section: str) -> bool:
    return section == part or section.startswith((part + ".", part + "-"))


def groups_of(sections: Iterable[str]) -> set[str]:
    return {group_of(section) for section in sections}


def sections_of(name: str) -> str:
    """A group's sections as a reader knows them: RFC 9111: 4.1; RFC 9110: 12."""
    texts: dict[str, list[str]] = {}
    for part in GROUPS[name]:
        rfc, _, section = part.partition("-")
        texts.setdefault(rfc, []).extend([section] if section else [])
    return "; ".join(f"RFC {rfc}" + (f", {', '.join(parts)}" if parts else "") for rfc, parts in texts.items())
