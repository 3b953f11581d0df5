"""Every metric of the appliance, and the pages they are counted in.

Each process counts into a page of its own: an mmap'd array of unsigned 64-bit cells at fixed offsets, so that counting
is one store. The manager renders the pages of all processes at a scrape. A page belongs to a role, not to a process:
the successor of a dead worker goes on where it stopped, so counters never fall while the daemon runs.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from math import inf, prod

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from edge.terms import Outcome, Reason, Source

CODE_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with closed label sets: its cells lie one after the other from `first`."""

    kind: str
    name: str
    text: str
    labels: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    first: int
    width: int
    """Cells of one label combination: 1, or the buckets, the overflow and the sum of a histogram."""

    @property
    def cells(self) -> int:
        return self.width * prod(len(value) for value in self.values)

    def cell(self, *labels: str) -> int:
        """Offset of the first cell of one label combination."""
        position = 0
        for label, values in zip(labels, self.values, strict=True):
            position = position * len(values) + values.index(label)
        return self.first + position * self.width


class _Layout:
    def __init__(self) -> None:
        self.families: list[Family] = []
        self.cells = 0

    def add(self, kind: str, name: str, text: str, **labels: Iterable[str]) -> Family:
        values = tuple(tuple(str(value) for value in closed) for closed in labels.values())
        width = len(SECONDS) + 2 if kind == "histogram" else 1
        family = Family(kind, name, text, tuple(labels), values, self.cells, width)
        self.families.append(family)
        self.cells += family.cells
        return family


_layout = _Layout()

REQUESTS = _layout.add(
    "counter",
    "edge_requests",
    "Requests answered, by how they were answered, where their first byte came from and their status class.",
    outcome=Outcome,
    source=Source,
    code_class=CODE_CLASSES,
)
RESPONSE_BYTES = _layout.add(
    "counter",
    "edge_response_bytes",
    "Bytes of response bodies sent to clients, by where the first byte of the response came from.",
    source=Source,
)
FIRST_BYTE = _layout.add(
    "histogram",
    "edge_first_byte_seconds",
    "Time from a request's last byte to the first byte of its response, by where that byte came from.",
    source=Source,
)
CONNECTIONS = _layout.add("gauge", "edge_connections", "Client connections open now.")
TRANSFERS = _layout.add("gauge", "edge_transfers", "Responses being sent now.")
CONNECTIONS_ACCEPTED = _layout.add("counter", "edge_connections_accepted", "Client connections accepted.")
CONNECTIONS_REFUSED = _layout.add(
    "counter",
    "edge_connections_refused",
    "Client connections refused, by the limit that was reached.",
    limit=("connections", "connections_per_address"),
)
CLIENTS_LEFT = _layout.add("counter", "edge_clients_left", "Clients that left before their response was whole.")
ERRORS = _layout.add("counter", "edge_errors", "Things that went wrong, by reason.", reason=Reason)
OPEN_OBJECTS = _layout.add("gauge", "edge_open_objects", "Objects a worker holds open for the next hit.")
READ_AHEADS = _layout.add("counter", "edge_read_aheads", "Windows read from a disk before they were sent.")
HEARTBEAT = _layout.add("gauge", "edge_heartbeat_timestamp_seconds", "When the oldest process last was alive.")
LOG_LINES_DROPPED = _layout.add("counter", "edge_access_log_dropped_lines", "Access log lines lost, the disk too slow.")

FILLS = _layout.add("counter", "edge_fills", "Objects whose fill began.")
FILL_REQUESTS = _layout.add("counter", "edge_fill_requests", "Requests sent to origins, resumptions included.")
FILL_BYTES = _layout.add("counter", "edge_fill_bytes", "Bytes of response bodies received from origins.")
FILL_RESUMES = _layout.add("counter", "edge_fill_resumes", "Fetches that broke and went on by range.")
FILLS_COLLAPSED = _layout.add("counter", "edge_fill_collapsed_requests", "Requests that joined a fill already running.")
REVALIDATIONS = _layout.add("counter", "edge_revalidations", "Stored objects the origin confirmed as unchanged.")
ORIGIN_FIRST_BYTE = _layout.add(
    "histogram", "edge_origin_first_byte_seconds", "Time from a request to an origin to its response's head."
)
EVICTIONS = _layout.add(
    "counter", "edge_evictions", "Objects that left a tier, by where they went.", tier=("ram", "ssd", "hdd"),
    to=("nowhere", "ssd", "hdd", "copy"),
)  # fmt: skip
MOVED_BYTES = _layout.add(
    "counter", "edge_tier_written_bytes", "Bytes written to a tier, by where they came from.",
    tier=("ram", "ssd", "hdd"), origin=("fill", "demotion", "promotion"),
)  # fmt: skip
INDEX_COMMITS = _layout.add("counter", "edge_index_commits", "Batches written to the index.")

PAGE_BYTES = (_layout.cells * 8 + 4095) // 4096 * 4096


class Page:
    """The cells of one process. Without a path it lives in memory alone (tests)."""

    def __init__(self, path: str | None = None) -> None:
        if path is None:
            self._map = mmap.mmap(-1, PAGE_BYTES)
        else:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                if os.fstat(fd).st_size < PAGE_BYTES:
                    os.ftruncate(fd, PAGE_BYTES)
                self._map = mmap.mmap(fd, PAGE_BYTES)
            finally:
                os.close(fd)
        self.cells = memoryview(self._map).cast("Q")

    def add(self, family: Family, amount: int = 1, *labels: str) -> None:
        self.cells[family.cell(*labels)] += amount

    def set(self, family: Family, value: int, *labels: str) -> None:
        self.cells[family.cell(*labels)] = value

    def get(self, family: Family, *labels: str) -> int:
        return self.cells[family.cell(*labels)]

    def error(self, reason: Reason) -> None:
        self.cells[ERRORS.cell(reason)] += 1

    def observe(self, family: Family, seconds: float, *labels: str) -> None:
        self.observe_at(family.cell(*labels), seconds)

    def observe_at(self, first: int, seconds: float) -> None:
        """Count one duration in the histogram whose cells begin at `first`."""
        self.cells[first + bisect_left(SECONDS, seconds)] += 1
        self.cells[first + len(SECONDS) + 1] += int(seconds * _NANO)

    def clear_gauges(self) -> None:
        """A new process begins with no connections, whatever its predecessor left."""
        for family in _layout.families:
            if family.kind == "gauge":
                for cell in range(family.first, family.first + family.cells):
                    self.cells[cell] = 0


def collect(pages: list[Page]) -> Iterator[Metric]:
    """All families over all pages, as prometheus_client wants them."""
    for family in _layout.families:
        combinations = list(product(*family.values))
        if family.kind == "histogram":
            histogram = HistogramMetricFamily(family.name, family.text, labels=family.labels)
            for labels in combinations:
                buckets, total_s = _histogram(pages, family.cell(*labels))
                histogram.add_metric(labels, buckets, total_s)
            yield histogram
            continue
        flat: CounterMetricFamily | GaugeMetricFamily
        flat = (CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily)(
            family.name, family.text, labels=family.labels
        )
        for labels in combinations:
            cell = family.cell(*labels)
            values = [page.cells[cell] for page in pages]
            flat.add_metric(labels, min(filter(None, values), default=0) if family is HEARTBEAT else sum(values))
        yield flat


def _histogram(pages: list[Page], first: int) -> tuple[list[tuple[str, float]], float]:
    running = 0
    buckets: list[tuple[str, float]] = []
    for position, bound in enumerate((*SECONDS, inf)):
        running += sum(page.cells[first + position] for page in pages)
        buckets.append(("+Inf" if bound == inf else repr(bound), running))
    return buckets, sum(page.cells[first + len(SECONDS) + 1] for page in pages) / _NANO
