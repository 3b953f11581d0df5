"""Makes a real title: CMAF segments in three picture sizes and sound, one HLS and one DASH manifest over them."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest import ffmpeg, manifests

HLS, DASH = "master.m3u8", "manifest.mpd"
_FACTS = "title.json"
_MEDIA = "media"


@dataclass(frozen=True, slots=True)
class Recipe:
    duration_s: int = 64
    segment_s: int = 4
    frames_per_s: int = 25
    pictures: tuple[tuple[int, int, int], ...] = ((640, 360, 1500), (480, 270, 700), (256, 144, 300))  # w, h, kbit/s
    sound_kbit_s: int = 96
    tone_hz: int = 440

    def arguments(self) -> list[str]:
        """What ffmpeg is told, up to the name of the DASH manifest."""
        width, height, _ = self.pictures[0]
        outputs = range(len(self.pictures))
        graph = f"[0:v]split={len(self.pictures)}" + "".join(f"[s{n}]" for n in outputs)
        for n, (w, h, _) in enumerate(self.pictures):
            graph += f";[s{n}]scale={w}:{h},format=yuv420p[v{n}]"
        key_frames = str(self.segment_s * self.frames_per_s)
        arguments = ["-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={self.frames_per_s}"]
        arguments += ["-f", "lavfi", "-i", f"sine=frequency={self.tone_hz}:sample_rate=48000"]
        arguments += ["-t", str(self.duration_s), "-filter_complex", graph]
        for n in outputs:
            arguments += ["-map", f"[v{n}]"]
        arguments += ["-map", "1:a", "-c:v", "libx264", "-preset", "ultrafast"]
        arguments += ["-g", key_frames, "-keyint_min", key_frames, "-sc_threshold", "0"]
        for n, (_, _, kbit_s) in enumerate(self.pictures):
            arguments += [f"-b:v:{n}", f"{kbit_s}k"]
        arguments += ["-c:a", "aac", "-b:a", f"{self.sound_kbit_s}k", "-ac", "2"]
        arguments += ["-f", "dash", "-seg_duration", str(self.segment_s), "-use_template", "1", "-use_timeline", "1"]
        arguments += [
            "-adaptation_sets",
            "id=0,streams=v id=1,streams=a",
            "-hls_playlist",
            "1",
            "-hls_master_name",
            HLS,
        ]
        # With an edit list ffmpeg's DASH reader drops a frame of sound at each segment, its HLS reader does not.
        arguments += ["-format_options", "use_editlist=0"]
        arguments += ["-init_seg_name", "init-$RepresentationID$.mp4"]
        return [*arguments, "-media_seg_name", "segment-$RepresentationID$-$Number%03d$.m4s"]

    def name(self) -> str:
        return "title-" + hashlib.blake2b(json.dumps(self.arguments()).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Title:
    directory: Path  # of the manifests and segments
    sizes: dict[str, int]  # every file of it, in bytes
    segments: tuple[str, ...]  # the ones that both manifests name
    streams: tuple[ffmpeg.Stream, ...]  # what a player must decode

    @property
    def size_bytes(self) -> int:
        return sum(self.sizes.values())


OnProgress = Callable[[float], object]


def _load(directory: Path) -> Title | None:
    """A title made earlier; None if there is none or a file of it has changed."""
    try:
        facts = json.loads((directory / _FACTS).read_text())
        sizes = {name: (directory / _MEDIA / name).stat().st_size for name in facts["sizes"]}
    except (OSError, ValueError, KeyError):
        return None
    if sizes != facts["sizes"]:
        return None
    streams = tuple(ffmpeg.Stream(**stream) for stream in facts["streams"])
    return Title(directory / _MEDIA, sizes, tuple(facts["segments"]), streams)


def _encode(executable: str, recipe: Recipe, media: Path, on_progress: OnProgress) -> None:
    command = [executable, "-v", "error", "-nostdin", "-progress", "pipe:1", *recipe.arguments(), str(media / DASH)]
    with ffmpeg.lines_of(command) as lines:
        for line in lines:
            name, _, value = line.strip().partition("=")
            if name == "out_time_us" and value.isdigit():
                on_progress(min(1.0, int(value) / 1e6 / recipe.duration_s))


def _decoded(executable: str, media: Path, segments: list[str]) -> tuple[ffmpeg.Stream, ...]:
    """What the segments of each rendition hold, read from the disk one after the other without any manifest."""
    streams: list[ffmpeg.Stream] = []
    renditions: dict[str, list[str]] = {}
    for name in segments:
        renditions.setdefault(name.partition(".")[0].split("-")[1], []).append(name)
    for names in renditions.values():
        with tempfile.NamedTemporaryFile(suffix=".mp4") as whole:
            for name in names:
                whole.write((media / name).read_bytes())
            whole.flush()
            streams += ffmpeg.decode(executable, whole.name)
    return tuple(sorted(streams))


def make(executable: str, scratch: Path, recipe: Recipe, on_progress: OnProgress = lambda _: None) -> Title:
    """The title of a recipe: the one made earlier, or a new one. on_progress is called with a share, 0 to 1."""
    # Absolute: ffmpeg's DASH reader loses its way among relative paths.
    final = scratch.resolve() / recipe.name()
    if (found := _load(final)) is not None:
        return found
    scratch.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix="title-unfinished-", dir=scratch))
    try:
        media = building / _MEDIA
        media.mkdir()
        _encode(executable, recipe, media, on_progress)
        segments = manifests.shared_files(media / HLS, media / DASH)
        facts = {
            "sizes": {entry.name: entry.stat().st_size for entry in os.scandir(media)},
            "segments": segments,
            "streams": [asdict(stream) for stream in _decoded(executable, media, segments)],
        }
        (building / _FACTS).write_text(json.dumps(facts, indent=1))
        shutil.rmtree(final, ignore_errors=True)
        building.rename(final)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    made = _load(final)
    assert made is not None
    return made
