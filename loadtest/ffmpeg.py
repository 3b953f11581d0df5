"""ffmpeg as encoder and as a player that looks at every frame."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from loadtest.processes import speaking


class FfmpegError(Exception):
    """There is none that can do it, or it has failed; the text says why."""


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """What was decoded of one stream: its number of frames and a digest of their pictures or samples."""

    name: str
    frames: int
    digest: str


def find() -> str:
    """The ffmpeg of PATH if it can do what is needed here, else the one that comes with imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found is not None and _is_able(found):
        return found
    try:
        import imageio_ffmpeg  # only where PATH has none
    except ImportError as exc:
        raise FfmpegError("no ffmpeg: put one on PATH, or install the package imageio-ffmpeg") from exc
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _is_able(executable: str) -> bool:
    probe = "-f lavfi -i color=size=16x16:duration=0.1 -c:v libx264 -fps_mode passthrough -f null -"
    quiet = [executable, "-v", "error", "-nostdin"]
    encodes = subprocess.run([*quiet, *probe.split()], capture_output=True, check=False)
    plays = subprocess.run([*quiet, "-demuxers"], capture_output=True, check=False)
    return encodes.returncode == 0 and b" dash " in plays.stdout


@contextmanager
def lines_of(command: Sequence[str]) -> Iterator[Iterator[str]]:
    """The lines a command writes. FfmpegError unless it ends well and has complained of nothing."""
    with speaking(command) as ffmpeg:
        yield ffmpeg.lines
        status = ffmpeg.end()
        said = ffmpeg.complaints()
        if status or said:
            raise FfmpegError(f"ffmpeg ended with status {status}" + (f": {said[-2000:]}" if said else ""))


@dataclass(slots=True)
class _Tally:
    name: str = ""
    frames: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)


def decode(executable: str, source: str, on_frame: Callable[[], object] = lambda: None) -> tuple[Stream, ...]:
    """Decode every stream of a manifest or file to its end. Equal results mean equal pictures and sound."""
    command = [executable, "-v", "error", "-nostdin", "-i", source, "-map", "0"]
    # As they come: no frame doubled or dropped to keep a rate.
    command += ["-fps_mode", "passthrough", "-f", "framecrc", "-"]
    streams: dict[str, _Tally] = {}
    with lines_of(command) as lines:
        for line in lines:
            if line.startswith("#"):
                _note(streams, line)
                continue
            number, _, _, _, size, crc, *_ = line.split(",")
            tally = streams[number.strip()]
            tally.frames += 1
            tally.digest.update(f"{size.strip()} {crc.strip()} ".encode())
            on_frame()
    return tuple(sorted(Stream(tally.name, tally.frames, tally.digest.hexdigest()) for tally in streams.values()))


def _note(streams: dict[str, _Tally], line: str) -> None:
    """'#media_type 0: video' and '#dimensions 0: 640x360' together make the name 'video 640x360'."""
    what, _, value = line[1:].partition(":")
    name, _, number = what.partition(" ")
    if name in ("media_type", "dimensions", "sample_rate"):
        tally = streams.setdefault(number, _Tally())
        tally.name = f"{tally.name} {value.strip()}".strip()
