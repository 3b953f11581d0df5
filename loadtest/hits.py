"""What a hit costs: the edge, a C floor and nginx's proxy_cache under the same load, in turns, on one core.

    python -m loadtest.hits [--seconds 3] [--rounds 5] [--sizes 16k,256k,2m,8m] [--tls 256k,2m]
                            [--only edge,floor,nginx]

The servers share one core, the load generator has another. One round measures each server once; figures are
compared within a round only, and the medians of those ratios are what the goals speak of. The floor knows no TLS.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.progress import Progress

from loadtest import browser, native, procfs, servers, verdict
from loadtest.verdict import Sample

LOAD_S_EXTRA = 20.0
WIDTH = 120
NAMES = "abcdefghijklmnopqrstuvwxyz"


def paths_of(size: str, count: int) -> list[str]:
    return [f"/gen/{size}/{name}" for name in NAMES[:count]]


@dataclass(frozen=True)
class Case:
    """What is asked for: bodies of one size, over TLS or not."""

    size: str
    over_tls: bool = False

    def __str__(self) -> str:
        return f"{self.size} tls" if self.over_tls else self.size


def load(server: servers.Server, case: Case, args: argparse.Namespace) -> dict[str, float]:
    """Run hitload on the client's core; its line of JSON."""
    port, program = (server.tls_port, "hitload-tls") if case.over_tls else (server.port, "hitload")
    command = [str(native.build(program)), "-p", str(port), "-c", str(args.connections), "-d", str(args.seconds)]
    command += ["-s", str(verdict.size_bytes(case.size))]
    if case.over_tls:
        command += ["-n", browser.HOST]
    for name, value in browser.HEADERS:
        command += ["-H", f"{name}: {value}"]
    own_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, servers.CLIENT_CORES)
    try:
        done = subprocess.run(
            [*command, *paths_of(case.size, args.objects)],
            check=True,
            stdout=subprocess.PIPE,
            timeout=args.seconds + LOAD_S_EXTRA,
            text=True,
        )
    finally:
        os.sched_setaffinity(0, own_cores)
    report: dict[str, float] = json.loads(done.stdout)
    return report


def measure(server: servers.Server, case: Case, number: int, args: argparse.Namespace) -> Sample:
    pids = server.worker_pids()
    worker_before, tree_before = procfs.cpu_s(pids), procfs.tree_cpu_s(server.pid)
    report = load(server, case, args)
    return Sample(
        server=server.name,
        size=str(case),
        round=number,
        requests=int(report["requests"]),
        bytes=int(report["bytes"]),
        errors=int(report["errors"]),
        seconds=report["seconds"],
        p50_ms=report["p50_ms"],
        p99_ms=report["p99_ms"],
        worker_cpu_s=procfs.cpu_s(pids) - worker_before,
        tree_cpu_s=procfs.tree_cpu_s(server.pid) - tree_before,
        client_cpu_s=report["cpu_s"],
    )


def say_without(console: Console, name: str, why: str) -> None:
    # What a server wrote is no markup.
    console.print(f"without {name}: {why}", markup=False, style="yellow")


def start_all(
    names: list[str], where: servers.Place, origin_port: int, stack: contextlib.ExitStack, console: Console
) -> tuple[list[servers.Server], int]:
    """The servers that came up, and how many should have and did not."""
    up: list[servers.Server] = []
    broken = 0
    for name in names:
        try:
            up.append(stack.enter_context(servers.running(servers.KINDS[name](where, origin_port))))
        except servers.UnavailableError as error:
            say_without(console, name, str(error))
        except (servers.StartError, native.NoCompilerError) as error:
            say_without(console, name, str(error))
            broken += 1
    return up, broken


def warm_all(
    up: list[servers.Server], digests: dict[str, str], tls_digests: dict[str, str], console: Console
) -> list[servers.Server]:
    """Those that serve the origin's bytes as hits."""
    warm = []
    for server in up:
        try:
            server.warm(digests)
            server.warm_tls(tls_digests)
            warm.append(server)
        except (browser.WarmingError, OSError) as error:
            say_without(console, server.name, f"{error}\n{server.log_tail()}")
    return warm


@dataclass
class Run:
    """What came of it: all samples, memory by server after its load, and how many servers failed."""

    samples: list[Sample]
    memory_bytes: dict[str, tuple[int, int]]
    broken: int


def run(args: argparse.Namespace, console: Console) -> Run:
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(servers.place())
        origin_port = args.origin or stack.enter_context(servers.running(servers.Origin(where, 0))).port
        servers.Floor.chunk_bytes = args.floor_chunk << 10
        up, broken = start_all(args.only, where, origin_port, stack, console)
        plain, over_tls = (
            browser.digests(origin_port, [path for size in sizes for path in paths_of(size, args.objects)])
            for sizes in (args.sizes, args.tls)
        )
        warm = warm_all(up, plain, over_tls, console)
        samples = take_turns(warm, args, console)
        memory = {server.name: server.memory_bytes() for server in warm}
    return Run(samples, memory, broken + len(up) - len(warm))


def take_turns(warm: list[servers.Server], args: argparse.Namespace, console: Console) -> list[Sample]:
    """All sizes and rounds. A server that fails once is out of `warm` from there on."""
    samples: list[Sample] = []
    cases = [Case(size) for size in args.sizes] + [Case(size, over_tls=True) for size in args.tls]
    with Progress(console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("", total=len(cases) * args.rounds)
        for case in cases:
            for number in range(args.rounds):
                for server in [one for one in warm if one.tls_port or not case.over_tls]:
                    progress.update(task, description=f"{case}, round {number + 1}: {server.name}")
                    try:
                        samples.append(measure(server, case, number, args))
                    except (OSError, subprocess.SubprocessError) as error:
                        warm.remove(server)
                        say_without(console, server.name, f"{error}\n{server.log_tail()}")
                progress.advance(task)
    return samples


def machine() -> dict[str, object]:
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def server_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(servers.KINDS):
        raise argparse.ArgumentTypeError(f"no such server: {', '.join(sorted(unknown))}")
    return names


def _sizes(text: str) -> list[str]:
    sizes = [] if text == "none" else text.split(",")
    for size in sizes:
        verdict.size_bytes(size)
    return sizes


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m loadtest.hits", description=(__doc__ or "").splitlines()[0])
    found.add_argument("--seconds", type=float, default=3.0, help="of load, each server and round (3)")
    found.add_argument("--rounds", type=int, default=5, help="turns of all servers, each size (5)")
    found.add_argument("--sizes", type=_sizes, default=_sizes("16k,256k,2m,8m"), help="16k,256k,2m,8m; or none")
    found.add_argument("--tls", type=_sizes, default=_sizes("256k,2m"), help="sizes over TLS: 256k,2m; or none")
    found.add_argument("--only", type=server_names, default=list(servers.KINDS), help="edge,floor,nginx")
    found.add_argument("--connections", type=int, default=32, help="keep-alive connections (32)")
    found.add_argument("--objects", type=int, choices=range(1, len(NAMES) + 1), default=4, metavar="N", help="(4)")
    found.add_argument(
        "--floor-chunk", type=int, default=servers.FLOOR_CHUNK_BYTES >> 10, metavar="KIB", help="0: no bound (2048)"
    )
    found.add_argument("--origin", type=int, metavar="PORT", help="fill from this one on 127.0.0.1, start none")
    found.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    found.add_argument("--strict", action="store_true", help="exit with 1 on a missed goal, an error, a broken server")
    return found


def leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(143)


def console_of_run() -> Console:
    """In a file or a pipe the tables are not folded to 80 columns."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def main() -> int:
    args = parser().parse_args()
    signal.signal(signal.SIGTERM, leave)  # so that the servers are stopped then, too
    console = console_of_run()
    if len(servers.CORES) < 2:
        console.print("[yellow]one core only: the load generator shares it with the servers[/]")
    try:
        for name in ("hitload", "hitload-tls") if args.tls else ("hitload",):
            native.build(name)  # before any server stands waiting for it
        done = run(args, console)
    except (native.NoCompilerError, servers.StartError) as error:
        console.print(str(error), markup=False, style="red")
        return 1
    samples, judged = done.samples, verdict.verdicts(done.samples)
    for table in (verdict.figures_table(samples), verdict.ratios_table(samples), verdict.goals_table(judged)):
        console.print(table)
    for caveat in verdict.caveats(samples):
        console.print(caveat, style="yellow")
    for name, (worker, tree) in done.memory_bytes.items():
        console.print(f"memory of {name} after the load: worker {worker >> 20} MiB, all {tree >> 20} MiB (PSS)")
    if args.json:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        report = {"machine": machine(), "settings": settings, "memory_bytes": done.memory_bytes}
        report |= verdict.as_json(samples, judged)
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    has_failed = done.broken or any(one.outcome == "fail" for one in judged) or any(one.errors for one in samples)
    return 1 if args.strict and has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
