"""A short title, made with the real encoder and looked at with the real player."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import ffmpeg, manifests, title
from loadtest.faults import Step
from loadtest.origin import Origin
from loadtest.title import DASH, HLS, Recipe, Title

RECIPE = Recipe(duration_s=6, segment_s=2, pictures=((160, 90, 200), (96, 54, 100)))


@pytest.fixture(scope="module")
def executable() -> str:
    return ffmpeg.find()


@pytest.fixture(scope="module")
def made(executable: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Title]:
    shares: list[float] = []
    yield title.make(executable, tmp_path_factory.mktemp("titles"), RECIPE, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_both_manifests_name_the_same_files_and_no_other_is_there(made: Title) -> None:
    playlists = manifests.hls_playlists(made.directory / HLS)
    assert len(playlists) == 3
    assert len(made.segments) == len(set(made.segments))
    renditions = [name.split("-")[1].removesuffix(".mp4") for name in made.segments]
    assert [renditions.count(number) for number in "01"] == [1 + 3, 1 + 3]
    assert set(made.sizes) == {*made.segments, *playlists, HLS, DASH}
    assert made.size_bytes == sum(path.stat().st_size for path in made.directory.iterdir())


async def test_hls_and_dash_over_http_decode_to_the_very_same_frames(made: Title, executable: str) -> None:
    frames = {stream.name: stream.frames for stream in made.streams}
    assert frames == {"video 160x90": 150, "video 96x54": 150, "audio 48000": 283}
    async with Origin(str(made.directory)) as origin:
        for manifest in (HLS, DASH):
            assert await asyncio.to_thread(ffmpeg.decode, executable, f"{origin.url}/{manifest}") == made.streams
        assert {entry.request.path.lstrip("/") for entry in origin.log} == set(made.sizes)


async def test_a_wrong_byte_or_a_missing_segment_is_noticed(made: Title, executable: str) -> None:
    name = made.segments[2]
    body = bytearray((made.directory / name).read_bytes())
    body[len(body) * 3 // 4] ^= 0x5A
    async with Origin(str(made.directory)) as origin:
        for step in (Step(status=404), Step(cut_after=200)):
            origin.script(f"/{name}", [step])
            assert await _decoded(executable, f"{origin.url}/{DASH}") != made.streams
        origin.script(f"/{name}", [Step(body=bytes(body))])
        assert await _decoded(executable, f"{origin.url}/{HLS}") != made.streams


def test_the_second_time_it_is_there_and_a_changed_one_is_made_anew(made: Title, executable: str) -> None:
    scratch = made.directory.parents[1]
    inode = made.directory.stat().st_ino
    assert title.make(executable, scratch, RECIPE).directory.stat().st_ino == inode
    (made.directory / made.segments[0]).write_bytes(b"")
    again = title.make(executable, scratch, RECIPE)
    assert again.streams == made.streams
    assert [path.name for path in scratch.iterdir()] == [RECIPE.name()]


def test_a_failed_encoding_leaves_nothing(tmp_path: Path, executable: str) -> None:
    with pytest.raises(ffmpeg.FfmpegError, match="ffmpeg ended with status"):
        title.make(executable, tmp_path, Recipe(pictures=((161, 91, 200),)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("dash", "text"), [("a.mp4", "differ"), ("gone.mp4", "not there")])
def test_manifests_that_do_not_fit_are_refused(tmp_path: Path, dash: str, text: str) -> None:
    (tmp_path / "b.mp4").write_bytes(b"x")
    (tmp_path / HLS).write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n")
    (tmp_path / "v.m3u8").write_text(f'#EXTM3U\n#EXT-X-MAP:URI="{dash.replace("a.", "b.")}"\n')
    (tmp_path / DASH).write_text(
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet><Representation id="0">'
        f'<SegmentTemplate initialization="{dash}" media="s$Number$"/></Representation></AdaptationSet></Period></MPD>'
    )
    with pytest.raises(ValueError, match=text):
        manifests.shared_files(tmp_path / HLS, tmp_path / DASH)


async def _decoded(executable: str, url: str) -> tuple[ffmpeg.Stream, ...] | None:
    try:
        return await asyncio.to_thread(ffmpeg.decode, executable, url)
    except ffmpeg.FfmpegError:
        return None
