"""The whole of it on one machine: a real title, an origin, an edge and a player.

Makes a title with ffmpeg, serves it from an origin process through an edge process, plays it twice with ffmpeg, over
HLS and over DASH each time, and shows where the bytes came from. The second play must take none from the origin.
"""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from loadtest import ffmpeg, title
from loadtest.ffmpeg import FfmpegError
from loadtest.figures import Figures, Sources, table
from loadtest.processes import Process, ProcessError, free_port
from loadtest.title import DASH, HLS, Recipe, Title

SCRATCH = Path(__file__).parents[1] / ".scratch"
SHARED_MEMORY = Path("/dev/shm")
EDGE = (sys.executable, "-m", "edge", "serve", "--config")
PLAYS = 2
_READY_S_MAX = 60.0
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Stack:
    """Origin and edge, both running."""

    edge: str
    control: str
    origin: str
    access_log: Path
    processes: Sequence[Process]

    def check(self) -> None:
        for process in self.processes:
            process.check()


def config_text(made: Title, origin: str, edge: str, control: str, scratch: Path, ram: Path) -> str:
    """The edge's configuration. Neither the RAM nor the SSD tier can hold the whole title."""
    ram_mib = max(4, made.size_bytes // 5 // _MIB)
    ssd_mib = max(8, made.size_bytes // 2 // _MIB)
    disks = {
        "ram": (ram, f"{ram_mib}MiB"),
        "ssd": (scratch / "ssd0", f"{ssd_mib}MiB"),
        "hdd": (scratch / "hdd0", "1GiB"),
    }
    lines = ["workers = 2", f"state_dir = {_quoted(scratch / 'state')}"]
    lines += ["[[listeners]]", f"address = {_quoted(edge)}"]
    lines += ["[control]", f"address = {_quoted(control)}"]
    lines += ["[[sites]]", 'name = "demo"', 'hosts = ["*"]', f"origins = [{_quoted(origin)}]"]
    for tier, (path, size) in disks.items():
        # No reserve: a container's /dev/shm may be smaller than the usual one.
        lines += [f"[[tiers.{tier}.disks]]", f"path = {_quoted(path)}", f"size = {_quoted(size)}", "reserve = 0"]
    lines += ["[log]", f"access = {_quoted(scratch / 'access.log')}", 'level = "info"']
    return "\n".join(lines) + "\n"


def _quoted(value: object) -> str:
    return json.dumps(str(value))  # a JSON string is a TOML string


@contextmanager
def scratch_folders(keep: Path | None) -> Iterator[tuple[Path, Path]]:
    """A folder for everything and one in RAM, both removed afterwards (but not a folder that is to be kept)."""
    with ExitStack() as stack:
        if keep is None:
            SCRATCH.mkdir(parents=True, exist_ok=True)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-", dir=SCRATCH)))
        else:
            scratch = keep.resolve()
            scratch.mkdir(parents=True, exist_ok=True)
        if SHARED_MEMORY.is_dir():
            ram = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-demo-", dir=SHARED_MEMORY)))
        else:
            ram = scratch / "ram0"
        for folder in (ram, scratch / "state", scratch / "ssd0", scratch / "hdd0"):
            folder.mkdir(exist_ok=True)
        yield scratch, ram


@contextmanager
def running(made: Title, scratch: Path, ram: Path) -> Iterator[Stack]:
    """Starts origin and edge, and ends both whatever happens."""
    with ExitStack() as stack:

        def started(name: str, command: Sequence[str]) -> Process:
            process = Process(name, command, scratch / f"{name}.log")
            stack.callback(process.stop)
            return process

        arguments = ["--listen", "127.0.0.1:0", "--dir", str(made.directory), "--manifest-max-age", "3600"]
        origin = started("origin", [sys.executable, "-m", "loadtest.origin", *arguments])
        origin_url = origin.wait_for_line("origin: ", _READY_S_MAX)
        address, control = (f"127.0.0.1:{free_port()}" for _ in range(2))
        config = scratch / "edge.toml"
        config.write_text(config_text(made, origin_url, address, control, scratch, ram))
        edge = started("edge", [*EDGE, str(config)])
        edge.wait_for_url(f"http://{control}/readyz", _READY_S_MAX)
        yield Stack(f"http://{address}", f"http://{control}", origin_url, scratch / "access.log", (origin, edge))


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def make_title(executable: str, console: Console) -> Title:
    recipe = Recipe()
    with _progress(console) as progress:
        task = progress.add_task("title", total=1.0)
        made = title.make(executable, SCRATCH, recipe, lambda share: progress.update(task, completed=share))
        progress.update(task, completed=1.0)
    size = f"{made.size_bytes / _MIB:.1f} MiB in {len(made.sizes)} files"
    console.print(f"{recipe.duration_s} s, {len(made.streams)} renditions, {size}, one HLS and one DASH manifest")
    return made


def play(executable: str, made: Title, stack: Stack, number: int, console: Console) -> None:
    """Decode every frame of every rendition over HLS, then over DASH. FfmpegError unless all are the right ones."""
    with _progress(console) as progress:
        for kind, manifest in (("HLS", HLS), ("DASH", DASH)):
            task = progress.add_task(f"play {number}, {kind}", total=sum(stream.frames for stream in made.streams))
            try:
                streams = ffmpeg.decode(executable, f"{stack.edge}/{manifest}", partial(progress.advance, task))
            finally:
                stack.check()  # where a process has died, that is the reason
            if streams != made.streams:
                found, wanted = (", ".join(f"{s.name}: {s.frames}" for s in part) for part in (streams, made.streams))
                raise FfmpegError(f"not the title's frames. Decoded {found}; the title has {wanted}")


def complaints(plays: Sequence[Figures], made: Title) -> list[str]:
    """What is not as it must be, a sentence each."""
    # Each play fetches every segment twice, once for each manifest.
    least_bytes = made.size_bytes + sum(made.sizes[name] for name in made.segments)
    found = []
    for number, figures in enumerate(plays, 1):
        if figures.failures:
            named = ", ".join(f"{count} {name}" for name, count in sorted(figures.failures.items()))
            found.append(f"Play {number} had failures: {named}.")
        if figures.served_bytes < least_bytes:
            found.append(
                f"Play {number} should have been {least_bytes} bytes, the edge counted {figures.served_bytes}."
            )
    if plays[-1].origin_bytes:
        found.append(f"The last play took {plays[-1].origin_bytes} bytes from the origin, it should take none.")
    return found


def show(executable: str, stack: Stack, made: Title, console: Console) -> bool:
    """Play the title PLAYS times and say how it went. True if all was as it must be."""
    sources = Sources(stack.control, stack.origin, stack.access_log)
    plays, before = [], sources.settled()
    for number in range(1, PLAYS + 1):
        play(executable, made, stack, number, console)
        after = sources.settled()
        plays.append(sources.between(before, after))
        before = after
    console.print(table(plays))
    found = complaints(plays, made)
    for sentence in found:
        console.print(sentence, style="red")
    if not found:
        console.print("Every frame of every rendition was decoded, and the last play took nothing from the origin.")
    return not found


def stay(stack: Stack, console: Console) -> None:
    """Until Ctrl-C, or until origin or edge ends by itself."""
    pages = {"HLS": f"{stack.edge}/{HLS}", "DASH": f"{stack.edge}/{DASH}", "status": f"{stack.control}/status"}
    pages |= {"metrics": f"{stack.control}/metrics", "origin": f"{stack.origin}/_origin/stats"}
    for name, url in pages.items():
        console.print(f"{name:8} {url}")
    console.print("Ctrl-C ends it.")
    try:
        while True:
            stack.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("Ending.")


def _interrupted(number: int, frame: FrameType | None) -> None:
    """A polite request to end takes the way of Ctrl-C, so that everything is cleaned up."""
    raise KeyboardInterrupt


@click.command()
@click.option("--once", is_flag=True, help="End after the plays; exit status 0 only if all was as it must be.")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="Leave logs, configuration and disks here."
)
def main(once: bool, keep: Path | None) -> None:
    """Make a title, serve it through an edge, play it twice, stay up."""
    console = Console()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        executable = ffmpeg.find()
        made = make_title(executable, console)
        with scratch_folders(keep) as (scratch, ram), running(made, scratch, ram) as stack:
            good = show(executable, stack, made, console)
            if not once:
                stay(stack, console)
    except (FfmpegError, ProcessError, OSError, ValueError) as exc:
        console.print(f"It did not work: {exc}", style="red", markup=False)
        console.print("--keep DIR keeps the logs.")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        sys.exit(130)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
