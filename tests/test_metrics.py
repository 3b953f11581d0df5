"""Pages of counters, and what a scrape makes of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from edge import metrics
from edge.metrics import (
    CONNECTIONS,
    ERRORS,
    FIRST_BYTE,
    HEARTBEAT,
    PAGE_BYTES,
    REQUESTS,
    RESPONSE_BYTES,
    SECONDS,
    Page,
    collect,
)
from edge.terms import Outcome, Reason, Source


class Samples(dict[tuple[str, frozenset[str]], float]):
    """As a scraper reads them, by name and label values."""

    def of(self, name: str, *labels: str) -> float:
        return self[name, frozenset(labels)]


def samples(*pages: Page) -> Samples:

    class Collector:
        def collect(self) -> list[Metric]:
            return list(collect(list(pages)))

    registry = CollectorRegistry()
    registry.register(Collector())
    text = generate_latest(registry).decode()
    return Samples(
        ((sample.name, frozenset(sample.labels.values())), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    )


def test_every_cell_is_one_metrics_alone() -> None:
    seen: set[int] = set()
    for family in metrics._layout.families:
        cells = set(range(family.first, family.first + family.cells))
        assert not cells & seen
        seen |= cells
    assert seen == set(range(metrics._layout.cells))
    assert len(seen) * 8 <= PAGE_BYTES


def test_every_label_combination_has_a_cell_of_its_own() -> None:
    cells = {
        REQUESTS.cell(outcome, source, code)
        for outcome in Outcome
        for source in Source
        for code in metrics.CODE_CLASSES
    }
    assert len(cells) == REQUESTS.cells == len(Outcome) * len(Source) * 5


@pytest.mark.parametrize("labels", [(), ("hit",), ("hit", "ram", "9xx"), ("hit", "nowhere", "2xx")])
def test_a_label_outside_its_set_is_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        REQUESTS.cell(*labels)


def test_names_and_sentences() -> None:
    names = [family.name for family in metrics._layout.families]
    assert len(set(names)) == len(names)
    for family in metrics._layout.families:
        assert family.name.startswith("edge_")
        assert not family.name.endswith("_total")
        assert family.text.endswith(".")


def test_counts_of_all_processes_are_added() -> None:
    one, two = Page(), Page()
    one.add(REQUESTS, 3, "hit", "ram", "2xx")
    two.add(REQUESTS, 4, "hit", "ram", "2xx")
    two.add(REQUESTS, 1, "miss", "origin", "5xx")
    one.error(Reason.CHECKSUM)
    found = samples(one, two)
    assert found.of("edge_requests_total", "hit", "ram", "2xx") == 7
    assert found.of("edge_requests_total", "miss", "origin", "5xx") == 1
    assert found.of("edge_requests_total", "stale", "ram", "2xx") == 0
    assert found.of("edge_errors_total", "checksum") == 1
    assert one.get(ERRORS, "checksum") == 1


def test_gauges_go_up_and_down_and_are_added() -> None:
    one, two = Page(), Page()
    one.add(CONNECTIONS, 5)
    one.add(CONNECTIONS, -2)
    two.set(CONNECTIONS, 10)
    assert samples(one, two).of("edge_connections") == 13


def test_the_heartbeat_is_the_oldest_of_those_that_beat() -> None:
    pages = [Page() for _ in range(3)]
    assert samples(*pages).of("edge_heartbeat_timestamp_seconds") == 0
    pages[0].set(HEARTBEAT, 1_800_000_005)
    pages[1].set(HEARTBEAT, 1_800_000_002)
    assert samples(*pages).of("edge_heartbeat_timestamp_seconds") == 1_800_000_002


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, "0.0005"), (0.0005, "0.0005"), (0.00051, "0.001"), (30.0, "30.0"), (30.1, "+Inf")]
)
def test_a_duration_is_in_its_bucket_and_all_larger_ones(seconds: float, bucket: str) -> None:
    page = Page()
    page.observe(FIRST_BYTE, seconds, "ram")
    found = samples(page)
    name = "edge_first_byte_seconds"
    bounds = [repr(bound) for bound in SECONDS] + ["+Inf"]
    assert [found.of(f"{name}_bucket", "ram", bound) for bound in bounds] == [
        float(position >= bounds.index(bucket)) for position in range(len(bounds))
    ]
    assert found.of(f"{name}_count", "ram") == 1
    assert found.of(f"{name}_sum", "ram") == pytest.approx(seconds, abs=1e-9)
    assert found.of(f"{name}_count", "ssd") == 0


def test_histograms_of_all_processes_are_added() -> None:
    pages = [Page(), Page()]
    for page in pages:
        for _ in range(1000):
            page.observe(FIRST_BYTE, 0.002, "hdd")
    found = samples(*pages)
    assert found.of("edge_first_byte_seconds_count", "hdd") == 2000
    assert found.of("edge_first_byte_seconds_sum", "hdd") == pytest.approx(4.0)


def test_a_terabyte_is_counted_to_the_byte() -> None:
    page = Page()
    page.add(RESPONSE_BYTES, (1 << 52) + 1, "ssd")
    page.add(RESPONSE_BYTES, 1, "ssd")
    assert page.get(RESPONSE_BYTES, "ssd") == (1 << 52) + 2
    assert samples(page).of("edge_response_bytes_total", "ssd") == (1 << 52) + 2


def test_a_successor_goes_on_where_the_dead_stopped(tmp_path: Path) -> None:
    path = str(tmp_path / "worker-0.page")
    script = """
import os, signal, sys
from edge.metrics import CONNECTIONS, RESPONSE_BYTES, Page
page = Page(sys.argv[1])
page.add(RESPONSE_BYTES, 1000, "ram")
page.add(CONNECTIONS, 7)
os.kill(os.getpid(), signal.SIGKILL)
"""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script, path], check=False)
    page = Page(path)
    assert (page.get(RESPONSE_BYTES, "ram"), page.get(CONNECTIONS)) == (2000, 14)
    page.clear_gauges()
    assert (page.get(RESPONSE_BYTES, "ram"), page.get(CONNECTIONS)) == (2000, 0)


def test_a_page_is_seen_by_another_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "page")
    one, two = Page(path), Page(path)
    one.add(CONNECTIONS)
    assert two.get(CONNECTIONS) == 1
    assert Path(path).stat().st_size == PAGE_BYTES
