from pathlib import Path

from rich.console import Console

from loadtest.demo import complaints
from loadtest.figures import Figures, Snapshot, figures, read_counts, table
from loadtest.title import Title

BEFORE = """\
# TYPE edge_requests_total counter
edge_requests_total{outcome="hit",source="ram",code_class="2xx"} 5
# TYPE edge_response_bytes_total counter
edge_response_bytes_total{source="ram"} 100
"""
AFTER = """\
# TYPE edge_requests_total counter
edge_requests_total{outcome="hit",source="ram",code_class="2xx"} 8
edge_requests_total{outcome="hit",source="ssd",code_class="2xx"} 2
edge_requests_total{outcome="miss",source="origin",code_class="2xx"} 4
edge_requests_total{outcome="error",source="edge",code_class="5xx"} 1
# TYPE edge_response_bytes_total counter
edge_response_bytes_total{source="ram"} 250
edge_response_bytes_total{source="ssd"} 150
edge_response_bytes_total{source="origin"} 100
# TYPE edge_errors_total counter
edge_errors_total{reason="disk"} 1
# TYPE edge_first_byte_seconds histogram
edge_first_byte_seconds_bucket{source="ram",le="+Inf"} 3
edge_first_byte_seconds_sum{source="ram"} 0.5
edge_first_byte_seconds_count{source="ram"} 3
"""
TITLE = Title(Path(), {"master.m3u8": 10, "segment": 100}, ("segment",), ())


def played(origin_bytes: int = 0, served_bytes: int = 210, failures: dict[str, int] | None = None) -> Figures:
    return Figures(1, {("hit", "ram"): 1}, {"ram": served_bytes}, failures or {}, 0, origin_bytes, [0.1])


def test_a_play_is_what_lies_between_two_snapshots() -> None:
    lines = [{"first_byte_s": time_s} for time_s in (0.004, 0.001, 0.002, 0.003)] + [{"outcome": "error"}]
    play = figures(Snapshot(read_counts(BEFORE), 7, 70, 0), Snapshot(read_counts(AFTER), 11, 90, 0), lines)
    assert play.requests == 10
    assert [play.hits(tier) for tier in ("ram", "ssd", "hdd")] == [3, 2, 0]
    assert (play.misses, play.others, play.failures) == (4, 1, {"5xx": 1, "disk": 1})
    assert (play.served_bytes, play.hit_ratio) == (400, 0.75)
    assert (play.origin_requests, play.origin_bytes) == (4, 20)
    assert (play.first_byte(0.5), play.first_byte(0.95)) == (0.002, 0.004)


def test_the_table_has_a_column_for_each_play() -> None:
    nothing = figures(Snapshot({}, 0, 0, 0), Snapshot({}, 0, 0, 0), [])
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table([played(origin_bytes=20 << 20), nothing]))
    text = capture.get()
    assert "20.00 MiB" in text
    assert "100.0%" in text
    assert "play 2" in text


def test_what_is_wrong_is_said_in_sentences() -> None:
    assert complaints([played(origin_bytes=110), played()], TITLE) == []
    assert complaints([played(failures={"disk": 3, "5xx": 1}), played()], TITLE) == [
        "Play 1 had failures: 1 5xx, 3 disk."
    ]
    assert complaints([played(), played(origin_bytes=5)], TITLE) == [
        "The last play took 5 bytes from the origin, it should take none."
    ]
    assert complaints([played(served_bytes=209), played()], TITLE) == [
        "Play 1 should have been 210 bytes, the edge counted 209."
    ]
