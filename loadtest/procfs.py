"""What a process tree costs, read from /proc: CPU seconds, resident and proportional memory."""

import os
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


class Stat(NamedTuple):
    """What is wanted of /proc/PID/stat. `children_cpu_s` is that of children that ended and were waited for."""

    parent: int
    cpu_s: float
    children_cpu_s: float
    started: int


def parse_stat(text: str) -> Stat:
    # The name in parentheses may hold spaces and parentheses itself: fields count from behind the last one.
    fields = text.rpartition(")")[2].split()
    ticks = [int(field) for field in fields[11:15]]
    return Stat(
        parent=int(fields[1]),
        cpu_s=(ticks[0] + ticks[1]) / _TICKS_PER_S,
        children_cpu_s=(ticks[2] + ticks[3]) / _TICKS_PER_S,
        started=int(fields[19]),
    )


def parse_kib(text: str, field: str) -> int:
    """The bytes in a line like `Pss:  123 kB`."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise ValueError(f"no {field} in {text[:80]!r}")


def stat(pid: int) -> Stat:
    return parse_stat((_PROC / str(pid) / "stat").read_text())


def tree(root: int) -> dict[int, Stat]:
    """`root` and everything below it, as it stands now; nothing if it is gone."""
    all_stats: dict[int, Stat] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                all_stats[int(entry.name)] = stat(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = {root: all_stats[root]} if root in all_stats else {}
    frontier = set(found)
    while frontier:
        frontier = {pid for pid, one in all_stats.items() if one.parent in frontier and pid not in found}
        found.update({pid: all_stats[pid] for pid in frontier})
    return found


def tree_cpu_s(root: int) -> float:
    """User and system seconds of a tree, its dead included."""
    return sum(one.cpu_s + one.children_cpu_s for one in tree(root).values())


def cpu_s(pids: list[int]) -> float:
    """User and system seconds of these processes alone."""
    return sum(stat(pid).cpu_s for pid in pids)


def pss_bytes(pid: int) -> int:
    """Memory with shared pages divided among their users."""
    return parse_kib((_PROC / str(pid) / "smaps_rollup").read_text(), "Pss")
