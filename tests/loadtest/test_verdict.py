from io import StringIO

import pytest
from rich.console import Console

from loadtest import verdict
from loadtest.verdict import GIB, Goal, Sample, Spread


def sample(server: str, size: str, number: int, gib: float = 1.0, cpu_s: float = 0.5, errors: int = 0) -> Sample:
    requests = int(gib * GIB / verdict.size_bytes(size))
    return Sample(server, size, number, requests, int(gib * GIB), errors, 1.0, 1.0, 2.0, cpu_s, cpu_s + 0.1, 0.3)


def test_sizes() -> None:
    assert [verdict.size_bytes(text) for text in ("16k", "2m", "1G", "300")] == [16384, 2 << 20, 1 << 30, 300]
    for text in ("", "k", "0k", "-1m", "2 potatoes"):
        with pytest.raises(ValueError, match=r".*"):
            verdict.size_bytes(text)


def test_figures_of_a_sample() -> None:
    one = sample("edge", "2m", 0, gib=2.0, cpu_s=0.5)
    assert one.rate_requests_s == 1024
    assert one.rate_gib_s == 2.0
    assert one.worker_cpu_s_per_gib == 0.25
    assert one.tree_cpu_s_per_gib == 0.3


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is twice as slow in the second round: the ratio does not notice.
    samples = [
        sample("edge", "2m", 0, gib=4),
        sample("nginx", "2m", 0, gib=2),
        sample("edge", "2m", 1, gib=2),
        sample("nginx", "2m", 1, gib=1),
        sample("edge", "2m", 2, gib=3),
        sample("nginx", "2m", 2, gib=1),
        sample("edge", "2m", 3, gib=9),  # nothing to compare with
    ]
    assert verdict.ratio(samples, "2m", "rate_gib_s", "edge", "nginx") == Spread(2, 2, 3)
    assert verdict.ratio(samples, "8m", "rate_gib_s", "edge", "nginx") is None
    assert verdict.ratio(samples, "2m", "rate_gib_s", "edge", "floor") is None


def test_the_senses_of_goals() -> None:
    at_most, at_least, above = (
        Goal("2m", "rate_gib_s", "nginx", 1.0, sense) for sense in ("at most", "at least", "above")
    )
    assert [goal.is_met(1.0) for goal in (at_most, at_least, above)] == [True, True, False]
    assert [goal.is_met(1.1) for goal in (at_most, at_least, above)] == [False, True, True]
    assert [goal.is_met(0.9) for goal in (at_most, at_least, above)] == [True, False, False]


def test_verdicts_and_tables() -> None:
    samples = [
        sample("edge", "2m", 0, gib=2, cpu_s=0.5),
        sample("floor", "2m", 0, gib=2, cpu_s=0.3),
        sample("nginx", "2m", 0, gib=1, cpu_s=0.5, errors=3),
    ]
    judged = verdict.verdicts(samples)
    assert {(one.goal.size, one.goal.peer): one.outcome for one in judged} == {
        ("2m", "floor"): "fail",
        ("2m", "nginx"): "pass",
        ("16k", "nginx"): "not measured",
        ("256k", "nginx"): "not measured",
        ("8m", "nginx"): "not measured",
        ("256k tls", "nginx"): "not measured",
        ("2m tls", "nginx"): "not measured",
    }
    output = StringIO()
    console = Console(file=output, width=120)
    for table in (verdict.figures_table(samples), verdict.ratios_table(samples), verdict.goals_table(judged)):
        console.print(table)
    for expected in ("edge / floor", "1.67 (1.67 to 1.67)", "at most 1.25 times floor's", "not measured", "0.250"):
        assert expected in output.getvalue()
    report = verdict.as_json(samples, judged)
    assert len(report["samples"]) == 3  # type: ignore[arg-type]


def test_an_idle_core_is_told() -> None:
    busy, idle = sample("edge", "2m", 0, cpu_s=0.95), sample("floor", "2m", 0, cpu_s=0.5)
    (caveat,) = verdict.caveats([busy, idle])
    assert caveat.startswith("2m floor: no core over 60% busy")


def test_no_samples_make_empty_tables() -> None:
    console = Console(file=StringIO(), width=120)
    judged = verdict.verdicts([])
    for table in (verdict.figures_table([]), verdict.ratios_table([]), verdict.goals_table(judged)):
        console.print(table)
    assert {one.outcome for one in judged} == {"not measured"}
