"""What a connection costs while nothing moves: memory of idle ones, CPU of readers that stopped reading.

    python -m loadtest.idle [--connections 10000] [--stalled 200] [--only edge,nginx]

Idle connections have had one answer each and are kept alive. A stalled reader took the first bytes of an 8 MiB body
and reads no more; a few read on in the end, to show that their bodies were still there.
"""

import argparse
import contextlib
import json
import re
import resource
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from loadtest import browser, hits, procfs, servers

IDLE_PATH = "/gen/16k/a"
STALLED_PATH = "/gen/8m/a"
DESCRIPTORS_SPARE = 512
FIRST_CONNECTIONS = 100  # opened and closed before the baseline: what a process allocates once is not theirs
IDLE_BYTES_MAX = 16 * 1024
STALLED_CPU_MAX = 0.01  # of one core, over what the same worker takes with nobody there
STALLED_RECEIVE_BUFFER_BYTES = 64 * 1024
STALLED_RESUMED = 3
SETTLE_S = 1.0
ANSWER_S_MAX = 20.0
READ_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Idle:
    """`cpu_s` is the workers' over `seconds` with all connections open and silent."""

    server: str
    connections: int
    before_bytes: int
    after_bytes: int
    cpu_s: float
    seconds: float

    @property
    def bytes_per_connection(self) -> float:
        return (self.after_bytes - self.before_bytes) / self.connections

    @property
    def is_met(self) -> bool:
        return self.bytes_per_connection <= IDLE_BYTES_MAX


@dataclass(frozen=True)
class Stalled:
    """The workers' CPU over `seconds`: with nobody there, and with `readers` waiting in the middle of a body."""

    server: str
    readers: int
    quiet_cpu_s: float
    stalled_cpu_s: float
    seconds: float
    resumed_whole: int

    @property
    def is_met(self) -> bool:
        return self.stalled_cpu_s - self.quiet_cpu_s <= STALLED_CPU_MAX * self.seconds and self.resumed_whole > 0


def raise_descriptor_limit(wanted: int) -> int:
    """Allow this process and its children `wanted` open files, or as many as may be; how many these are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        wanted = hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def dial(port: int, receive_buffer_bytes: int = 0) -> socket.socket:
    connection = socket.socket()
    try:
        connection.settimeout(ANSWER_S_MAX)
        if receive_buffer_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connection.connect(("127.0.0.1", port))
    except BaseException:
        connection.close()
        raise
    return connection


def read_head(connection: socket.socket) -> tuple[int, int]:
    """The length the head announces, and how many of these bytes came with it."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(READ_BYTES)
        if not piece:
            raise ConnectionError(f"closed after {got[:80]!r}")
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200") or length is None:
        raise ConnectionError(f"no body to read: {head[:200]!r}")
    return int(length[1]), len(body)


def read_body(connection: socket.socket, left: int) -> int:
    """How many of `left` bytes never came."""
    while left > 0 and (piece := connection.recv(min(left, READ_BYTES))):
        left -= len(piece)
    return left


def ask_once(connection: socket.socket) -> None:
    connection.sendall(browser.request_bytes(IDLE_PATH))
    size, got = read_head(connection)
    if read_body(connection, size - got):
        raise ConnectionError("body cut short")


def open_idle(port: int, count: int, stack: contextlib.ExitStack) -> None:
    for _ in range(count):
        ask_once(stack.enter_context(dial(port)))


def worker_cpu_s(pids: list[int], seconds: float) -> float:
    before = procfs.cpu_s(pids)
    time.sleep(seconds)
    return procfs.cpu_s(pids) - before


def measure_idle(server: servers.Server, connections: int, seconds: float) -> Idle:
    pids = server.worker_pids()
    with contextlib.ExitStack() as first:
        open_idle(server.port, FIRST_CONNECTIONS, first)
    time.sleep(SETTLE_S)
    before = sum(map(procfs.pss_bytes, pids))
    with contextlib.ExitStack() as opened:
        open_idle(server.port, connections, opened)
        time.sleep(SETTLE_S)
        after = sum(map(procfs.pss_bytes, pids))
        cpu_s = worker_cpu_s(pids, seconds)
    return Idle(server.name, connections, before, after, cpu_s, seconds)


def measure_stalled(server: servers.Server, readers: int, seconds: float) -> Stalled:
    pids = server.worker_pids()
    time.sleep(SETTLE_S)
    quiet_cpu_s = worker_cpu_s(pids, seconds)
    with contextlib.ExitStack() as opened:
        waiting = []
        for _ in range(readers):
            # A small buffer here, or the two kernels' buffers between them take a good part of the body.
            connection = opened.enter_context(dial(server.port, STALLED_RECEIVE_BUFFER_BYTES))
            connection.sendall(browser.request_bytes(STALLED_PATH))
            size, got = read_head(connection)
            waiting.append((connection, size - got))
        time.sleep(SETTLE_S)
        stalled_cpu_s = worker_cpu_s(pids, seconds)
        whole = sum(read_body(connection, left) == 0 for connection, left in waiting[:STALLED_RESUMED])
    return Stalled(server.name, readers, quiet_cpu_s, stalled_cpu_s, seconds, whole)


def table(idle: list[Idle], stalled: list[Stalled]) -> Table:
    found = Table(title="Connections that rest", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("server", "measure", "figure", "goal", "verdict"):
        found.add_column(heading)
    for one in idle:
        found.add_row(
            one.server,
            f"memory of {one.connections:,} idle connections",
            f"{one.bytes_per_connection:,.0f} bytes each (PSS {one.before_bytes >> 20} to {one.after_bytes >> 20} MiB)",
            f"at most {IDLE_BYTES_MAX:,}",
            _coloured(one.is_met),
        )
        found.add_row(one.server, "their CPU", f"{one.cpu_s:.2f} s in {one.seconds:g} s", "", "")
    for two in stalled:
        found.add_row(
            two.server,
            f"CPU of {two.readers} stalled readers",
            f"{two.stalled_cpu_s:.2f} s in {two.seconds:g} s (quiet: {two.quiet_cpu_s:.2f} s); "
            f"{two.resumed_whole} of {min(STALLED_RESUMED, two.readers)} read on to the end",
            f"at most {STALLED_CPU_MAX:.0%} of a core more",
            _coloured(two.is_met),
        )
    return found


def _coloured(is_met: bool) -> str:
    return "[green]pass[/]" if is_met else "[red]fail[/]"


def run(args: argparse.Namespace, console: Console) -> tuple[list[Idle], list[Stalled], int]:
    """What was measured, and the number of servers that failed."""
    idle: list[Idle] = []
    stalled: list[Stalled] = []
    limit = raise_descriptor_limit(args.connections + DESCRIPTORS_SPARE)
    connections = min(args.connections, limit - DESCRIPTORS_SPARE)
    if connections < args.connections:
        console.print(f"[yellow]{limit} open files are the limit here: {connections} connections[/]")
    servers.Nginx.connections_max = max(servers.Nginx.connections_max, connections + DESCRIPTORS_SPARE)
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(servers.place())
        origin_port = args.origin or stack.enter_context(servers.running(servers.Origin(where, 0))).port
        up, broken = hits.start_all(args.only, where, origin_port, stack, console)
        warm = hits.warm_all(up, browser.digests(origin_port, [IDLE_PATH, STALLED_PATH]), {}, console)
        broken += len(up) - len(warm)
        for server in warm:
            try:
                idle.append(measure_idle(server, connections, args.seconds))
                stalled.append(measure_stalled(server, args.stalled, args.seconds))
            except OSError as error:
                hits.say_without(console, server.name, f"{error}\n{server.log_tail()}")
                broken += 1
    return idle, stalled, broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.idle", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000, help="idle ones (10000)")
    parser.add_argument("--stalled", type=int, default=200, help="readers that stop (200)")
    parser.add_argument("--seconds", type=float, default=3.0, help="over which CPU is measured (3)")
    parser.add_argument("--only", type=hits.server_names, default=["edge", "nginx"], help="edge,floor,nginx")
    parser.add_argument("--origin", type=int, metavar="PORT", help="fill from this one on 127.0.0.1, start none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where the edge misses a goal or fails")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, hits.leave)
    console = hits.console_of_run()
    try:
        idle, stalled, broken = run(args, console)
    except servers.StartError as error:
        console.print(str(error), markup=False, style="red")
        return 1
    console.print(table(idle, stalled))
    if args.json:
        rows = {"idle": [asdict(one) for one in idle], "stalled": [asdict(one) for one in stalled]}
        args.json.write_text(json.dumps({"machine": hits.machine(), **rows}, indent=1) + "\n")
    measured: list[Idle | Stalled] = [*idle, *stalled]
    missed = [one for one in measured if one.server == "edge" and not one.is_met]
    return 1 if args.strict and (missed or broken) else 0


if __name__ == "__main__":
    sys.exit(main())
