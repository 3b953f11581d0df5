"""What the suite found, in its own terms."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# The suite's signs (lib/display.mjs, resultTypes).
VERDICTS = {
    "✅": "pass",
    "⛔️": "fail",
    "⚠️": "optional",
    "Y": "yes",
    "N": "no",
    "🔹": "setup",
    "⁉️": "harness",
    "⚪️": "dependency",
    "↻": "retry",
    "-": "untested",
}
KINDS = ("required", "optimal", "check")
GOOD = ("pass", "yes")


@dataclass(frozen=True, slots=True)
class Result:
    """One test. `verdict`: pass, fail (a requirement broken), optional (not done, as is allowed), yes or no (what it
    does where either is right), dependency (another test it builds on did not pass), setup and retry (could not be
    tried: its preparation went otherwise, or a request came to the origin twice).
    """

    section: str
    id: str
    kind: str
    verdict: str
    why: str
    name: str


@dataclass(frozen=True)
class Results:
    tests: tuple[Result, ...]
    names: dict[str, str]  # of the sections

    @classmethod
    def read(cls, suites: list[dict[str, Any]]) -> "Results":
        tests = tuple(
            Result(suite["id"], test["id"], test["kind"], VERDICTS[test["sign"]], test["why"], test["name"])
            for suite in suites
            for test in suite["tests"]
        )
        return cls(tests, {suite["id"]: suite["name"] for suite in suites})

    def of(self, kind: str, section: str | None = None) -> Iterator[Result]:
        """The tests of a kind that were run."""
        return (
            test
            for test in self.tests
            if test.kind == kind and section in (None, test.section) and test.verdict != "untested"
        )

    def count(self, kind: str, section: str | None = None) -> tuple[int, int]:
        """How many are well, of how many."""
        verdicts = [test.verdict in GOOD for test in self.of(kind, section)]
        return sum(verdicts), len(verdicts)

    def broken(self) -> list[Result]:
        """Requirements that are not met."""
        return [test for test in self.of("required") if test.verdict in ("fail", "harness")]

    def untried(self) -> list[Result]:
        """Requirements that could not be tried, because what they build on is not done here."""
        return [test for test in self.of("required") if test.verdict in ("setup", "dependency", "retry")]

    def unmet(self) -> list[Result]:
        """What is merely better, and is not done."""
        return [test for test in self.of("optimal") if test.verdict not in GOOD]

    def json(self) -> str:
        counts = {kind: dict(zip(("passed", "of"), self.count(kind), strict=True)) for kind in KINDS}
        verdicts = Counter(test.verdict for test in self.tests)
        tests = [{name: getattr(test, name) for name in Result.__slots__} for test in self.tests]
        return json.dumps({"totals": counts, "verdicts": verdicts, "tests": tests}, indent=2, ensure_ascii=False)
