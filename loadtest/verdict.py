"""From samples to figures: medians, ratios within a round, goals, tables. Pure, but for the tables' colours."""

from dataclasses import asdict, dataclass
from statistics import median

from rich import box
from rich.table import Table

GIB = 1 << 30
BUSY_MIN = 0.9
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True)
class Sample:
    """One server under load for one round.

    `size` is the body's, "2m" or "2m tls"; `worker_cpu_s` is the serving process alone, `tree_cpu_s` all of them.
    """

    server: str
    size: str
    round: int
    requests: int
    bytes: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    worker_cpu_s: float
    tree_cpu_s: float
    client_cpu_s: float

    @property
    def rate_requests_s(self) -> float:
        return self.requests / self.seconds

    @property
    def rate_gib_s(self) -> float:
        return self.bytes / GIB / self.seconds

    @property
    def worker_cpu_s_per_gib(self) -> float:
        return self.worker_cpu_s / (self.bytes / GIB) if self.bytes else 0.0

    @property
    def tree_cpu_s_per_gib(self) -> float:
        return self.tree_cpu_s / (self.bytes / GIB) if self.bytes else 0.0


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest of what it is the median of."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Goal:
    """`measure` of the edge over that of `peer`, in the same round, at one size, against a bound."""

    size: str
    measure: str
    peer: str
    bound: float
    sense: str  # "at most", "at least", "above"

    def is_met(self, ratio: float) -> bool:
        if self.sense == "at most":
            return ratio <= self.bound
        return ratio >= self.bound if self.sense == "at least" else ratio > self.bound


@dataclass(frozen=True)
class Verdict:
    goal: Goal
    ratio: Spread | None  # None: one of the two was not measured

    @property
    def outcome(self) -> str:
        if self.ratio is None:
            return "not measured"
        return "pass" if self.goal.is_met(self.ratio.median) else "fail"


MEASURES = {
    "rate_requests_s": "requests/s",
    "rate_gib_s": "GiB/s",
    "worker_cpu_s_per_gib": "CPU s/GiB",
}
PAIRS = (("edge", "floor"), ("edge", "nginx"), ("nginx", "floor"))
GOALS = (
    Goal("2m", "worker_cpu_s_per_gib", "floor", 1.25, "at most"),
    Goal("16k", "rate_requests_s", "nginx", 0.9, "at least"),
    *(Goal(size, "rate_gib_s", "nginx", 1.0, "above") for size in ("256k", "2m", "8m")),
    *(Goal(size, "rate_gib_s", "nginx", 1.0, "at least") for size in ("256k tls", "2m tls")),
)


def size_bytes(text: str) -> int:
    """`16k` is 16384."""
    unit = _UNITS.get(text[-1:].lower(), 1)
    size = int(text if unit == 1 else text[:-1]) * unit
    if size <= 0:
        raise ValueError(f"not a size: {text!r}")
    return size


def spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def chosen(samples: list[Sample], server: str, size: str) -> list[Sample]:
    return [one for one in samples if (one.server, one.size) == (server, size)]


def ratio(samples: list[Sample], size: str, measure: str, server: str, peer: str) -> Spread | None:
    """One server's measure over another's, each round by itself: what slows a whole round falls out."""
    below = {one.round: float(getattr(one, measure)) for one in chosen(samples, peer, size)}
    ratios = [
        float(getattr(one, measure)) / below[one.round]
        for one in chosen(samples, server, size)
        if below.get(one.round, 0.0) > 0
    ]
    return spread(ratios) if ratios else None


def verdicts(samples: list[Sample]) -> list[Verdict]:
    return [Verdict(goal, ratio(samples, goal.size, goal.measure, "edge", goal.peer)) for goal in GOALS]


def figures_table(samples: list[Sample]) -> Table:
    table = Table(title="Hits: medians over the rounds", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("size", "server"):
        table.add_column(heading)
    for heading in ("req/s", "GiB/s", "CPU s/GiB\nworker", "CPU s/GiB\ntree", "µs/req", "p99 ms", "busy %\nserver"):
        table.add_column(heading, justify="right")
    for heading in ("busy %\nclient", "errors"):
        table.add_column(heading, justify="right")
    for size in dict.fromkeys(one.size for one in samples):
        for server in dict.fromkeys(one.server for one in samples):
            if rows := chosen(samples, server, size):
                table.add_row(size, server, *_figures(rows))
        table.add_section()
    return table


def _figures(rows: list[Sample]) -> list[str]:
    errors = sum(one.errors for one in rows)
    return [
        f"{median(one.rate_requests_s for one in rows):,.0f}",
        f"{median(one.rate_gib_s for one in rows):.2f}",
        f"{median(one.worker_cpu_s_per_gib for one in rows):.3f}",
        f"{median(one.tree_cpu_s_per_gib for one in rows):.3f}",
        f"{median(one.worker_cpu_s / max(one.requests, 1) for one in rows) * 1e6:.1f}",
        f"{median(one.p99_ms for one in rows):.2f}",
        f"{median(one.tree_cpu_s / one.seconds for one in rows) * 100:.0f}",
        f"{median(one.client_cpu_s / one.seconds for one in rows) * 100:.0f}",
        f"[red]{errors}[/]" if errors else "0",
    ]


def ratios_table(samples: list[Sample]) -> Table:
    table = Table(
        title="Ratios within each round: median (least to greatest)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("size")
    table.add_column("of")
    for heading in MEASURES.values():
        table.add_column(heading, justify="right")
    for size in dict.fromkeys(one.size for one in samples):
        for server, peer in PAIRS:
            found = [ratio(samples, size, measure, server, peer) for measure in MEASURES]
            if any(found):
                table.add_row(size, f"{server} / {peer}", *(str(one) if one else "" for one in found))
        table.add_section()
    return table


def goals_table(judged: list[Verdict]) -> Table:
    table = Table(title="Goals", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("goal", "measured", "verdict"):
        table.add_column(heading)
    colours = {"pass": "green", "fail": "red", "not measured": "yellow"}
    for one in judged:
        goal = one.goal
        factor = "" if goal.bound == 1 else f"{goal.bound:g} times "
        text = f"{goal.size}: edge's {MEASURES[goal.measure]} {goal.sense} {factor}{goal.peer}'s"
        table.add_row(text, str(one.ratio or ""), f"[{colours[one.outcome]}]{one.outcome}[/]")
    return table


def caveats(samples: list[Sample]) -> list[str]:
    """Where neither the server's core nor the client's was the limit: rates then say what else ran on the machine."""
    found = []
    for size, server in dict.fromkeys((one.size, one.server) for one in samples):
        rows = chosen(samples, server, size)
        busy = median(max(one.tree_cpu_s, one.client_cpu_s) / one.seconds for one in rows)
        if busy < BUSY_MIN:
            found.append(f"{size} {server}: no core over {busy:.0%} busy; trust its CPU figures, not its rates")
    return found


def as_json(samples: list[Sample], judged: list[Verdict]) -> dict[str, object]:
    sizes = dict.fromkeys(one.size for one in samples)
    return {
        "samples": [asdict(one) for one in samples],
        "ratios": [
            {"size": size, "server": server, "peer": peer, "measure": measure, **asdict(found)}
            for size in sizes
            for server, peer in PAIRS
            for measure in MEASURES
            if (found := ratio(samples, size, measure, server, peer))
        ],
        "goals": [
            {**asdict(one.goal), "ratio": asdict(one.ratio) if one.ratio else None, "outcome": one.outcome}
            for one in judged
        ],
    }
