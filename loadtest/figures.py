"""What a play did, in figures: the edge's metrics and access log and the origin's own count, before and after."""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

TIERS = ("ram", "ssd", "hdd")
_STILL_S = 2.0  # counters and log lines come in bulk: so long without a change and all of them are in
_STILL_S_MAX = 15.0
_POLL_S = 0.25

Labels = tuple[tuple[str, str], ...]
Counts = dict[tuple[str, Labels], float]
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Snapshot:
    counts: Counts  # of the edge: (metric, labels) → value
    origin_requests: int
    origin_bytes: int
    log_bytes: int  # length of the access log


@dataclass(frozen=True, slots=True)
class Figures:
    """A play, counted between two snapshots."""

    requests: int
    outcomes: Mapping[tuple[str, str], int]  # (outcome, source) → requests
    bytes_by_source: Mapping[str, int]
    failures: Mapping[str, int]  # answers 4xx and 5xx by class, and errors the edge counted on the way by reason
    origin_requests: int
    origin_bytes: int
    first_byte_s: Sequence[float] = field(repr=False)  # of each request, ascending

    @property
    def served_bytes(self) -> int:
        return sum(self.bytes_by_source.values())

    @property
    def hit_ratio(self) -> float | None:
        """Share of the bytes served that came from a tier."""
        held = sum(self.bytes_by_source.get(tier, 0) for tier in TIERS)
        return held / self.served_bytes if self.served_bytes else None

    def hits(self, tier: str) -> int:
        return self.outcomes.get(("hit", tier), 0)

    @property
    def misses(self) -> int:
        return sum(count for (outcome, _), count in self.outcomes.items() if outcome == "miss")

    @property
    def others(self) -> int:
        return self.requests - self.misses - sum(self.hits(tier) for tier in TIERS)

    def first_byte(self, share: float) -> float | None:
        """The time that this share of the requests did not exceed, in seconds."""
        if not self.first_byte_s:
            return None
        return self.first_byte_s[max(0, math.ceil(share * len(self.first_byte_s)) - 1)]


def read_counts(text: str) -> Counts:
    """The samples of a page of Prometheus' text format."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _fetch(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from."""

    control: str
    origin: str
    access_log: Path

    def snapshot(self) -> Snapshot:
        stats = json.loads(_fetch(f"{self.origin}/_origin/stats"))
        size = self.access_log.stat().st_size if self.access_log.exists() else 0
        return Snapshot(read_counts(_fetch(f"{self.control}/metrics")), stats["requests"], stats["bytes"], size)

    def settled(self) -> Snapshot:
        """A snapshot after which nothing more comes in of what was done before."""
        last, since = self.snapshot(), time.monotonic()
        deadline = since + _STILL_S_MAX
        while time.monotonic() < min(since + _STILL_S, deadline):
            time.sleep(_POLL_S)
            now = self.snapshot()
            if _moving(now) != _moving(last):
                since = time.monotonic()
            last = now
        return last

    def between(self, before: Snapshot, after: Snapshot) -> Figures:
        with self.access_log.open("rb") as log:
            log.seek(before.log_bytes)
            lines = log.read(after.log_bytes - before.log_bytes).splitlines()
        return figures(before, after, [json.loads(line) for line in lines])


def _moving(snapshot: Snapshot) -> object:
    """The part of a snapshot that only requests change, not the looking at it."""
    edge = {key: value for key, value in snapshot.counts.items() if key[0].startswith(("edge_requests", "edge_fill"))}
    return edge, snapshot.origin_bytes, snapshot.log_bytes


def _grown(before: Counts, after: Counts, metric: str, key: Callable[[dict[str, str]], K]) -> Counter[K]:
    """How much a counter has grown, summed over the labels that make the same key."""
    grown: Counter[K] = Counter()
    for (name, labels), value in after.items():
        if name == metric and (more := int(value - before.get((name, labels), 0))):
            grown[key(dict(labels))] += more
    return grown


def figures(before: Snapshot, after: Snapshot, lines: Sequence[Mapping[str, Any]]) -> Figures:
    """What lies between two snapshots; `lines` are those of the access log."""
    counts = before.counts, after.counts
    outcomes = _grown(*counts, "edge_requests_total", lambda at: (at.get("outcome", ""), at.get("source", "")))
    classes = _grown(*counts, "edge_requests_total", lambda at: at.get("code_class", ""))
    errors = _grown(*counts, "edge_errors_total", lambda at: at.get("reason", ""))
    return Figures(
        requests=outcomes.total(),
        outcomes=outcomes,
        bytes_by_source=_grown(*counts, "edge_response_bytes_total", lambda at: at.get("source", "")),
        failures=errors + Counter({name: classes[name] for name in ("4xx", "5xx")}),
        origin_requests=after.origin_requests - before.origin_requests,
        origin_bytes=after.origin_bytes - before.origin_bytes,
        first_byte_s=sorted(float(line["first_byte_s"]) for line in lines if line.get("first_byte_s") is not None),
    )


def _bytes_text(count: int) -> str:
    return f"{count:,} B" if count < 10_000 else f"{count / (1 << 20):,.2f} MiB"


def _ms_text(value_s: float | None) -> str:
    return "-" if value_s is None else f"{value_s * 1000:.2f} ms"


def table(plays: Sequence[Figures]) -> Table:
    """A column for each play."""
    result = Table(title="Each play: HLS, then DASH")
    result.add_column("")
    for number in range(1, len(plays) + 1):
        result.add_column(f"play {number}", justify="right")
    rows: list[tuple[str, Callable[[Figures], str]]] = [
        ("requests", lambda play: f"{play.requests:,}"),
        ("hits from ram", lambda play: f"{play.hits('ram'):,}"),
        ("hits from ssd", lambda play: f"{play.hits('ssd'):,}"),
        ("hits from hdd", lambda play: f"{play.hits('hdd'):,}"),
        ("misses", lambda play: f"{play.misses:,}"),
        ("other outcomes", lambda play: f"{play.others:,}"),
        ("failures", lambda play: f"{sum(play.failures.values()):,}"),
        ("bytes served", lambda play: _bytes_text(play.served_bytes)),
        ("bytes from the origin", lambda play: _bytes_text(play.origin_bytes)),
        ("requests to the origin", lambda play: f"{play.origin_requests:,}"),
        ("hit ratio by bytes", lambda play: "-" if play.hit_ratio is None else f"{play.hit_ratio:.1%}"),
        ("first byte, p50", lambda play: _ms_text(play.first_byte(0.5))),
        ("first byte, p95", lambda play: _ms_text(play.first_byte(0.95))),
    ]
    for name, text in rows:
        result.add_row(name, *(text(play) for play in plays))
    return result
