import os
import subprocess
import sys
import time

import pytest

from loadtest import procfs

LINE = "42 (a) b (c) S 7 42 42 0 -1 4194304 100 0 0 0 250 50 30 20 20 0 1 0 9876 1000 10 18446744073709551615"


def test_fields_count_from_behind_the_name() -> None:
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    found = procfs.parse_stat(LINE)
    assert found == procfs.Stat(parent=7, cpu_s=300 / ticks_per_s, children_cpu_s=50 / ticks_per_s, started=9876)


def test_memory_lines_are_in_kib() -> None:
    text = "Rss:   2048 kB\nPss:    123 kB\nPss_Dirty: 5 kB\n"
    assert procfs.parse_kib(text, "Pss") == 123 * 1024
    with pytest.raises(ValueError, match="Swap"):
        procfs.parse_kib(text, "Swap")


def test_a_tree_has_its_children_and_their_cpu() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    process = subprocess.Popen([sys.executable, "-c", child])
    try:
        deadline = time.monotonic() + 20
        while procfs.tree_cpu_s(process.pid) < 0.2 and time.monotonic() < deadline:
            time.sleep(0.05)
        family = procfs.tree(process.pid)
        assert len(family) == 2
        (grandchild,) = set(family) - {process.pid}
        assert family[grandchild].parent == process.pid
        assert procfs.cpu_s([grandchild]) > 0
        assert procfs.pss_bytes(grandchild) > 100_000
        os.kill(grandchild, 9)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert procfs.tree(process.pid) == {}
