"""Whether bytes are in the page cache, asked of the kernel in both ways."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.store import residency
from edge.store.disk import file_system_type
from edge.store.residency import resident

PAGE = 4096
SIZE = 64 * PAGE


@pytest.fixture(params=["cachestat", "probe"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "cachestat" and not residency._has_cachestat:
        pytest.skip("this kernel has no cachestat")
    monkeypatch.setattr(residency, "_has_cachestat", request.param == "cachestat")
    return str(request.param)


@pytest.fixture
def file(ssd: Path) -> Iterator[int]:
    ssd.mkdir(exist_ok=True)
    fd = os.open(ssd / "file", os.O_RDWR | os.O_CREAT)
    os.write(fd, os.urandom(SIZE))
    os.fsync(fd)
    yield fd
    os.close(fd)


def chill(fd: int) -> None:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)


@pytest.mark.usefixtures("way")
class TestBothWays:
    def test_what_was_just_written_is_there(self, file: int) -> None:
        assert resident(file, 0, SIZE)
        assert resident(file, 17, 1)
        assert resident(file, SIZE - 1, 1)

    def test_what_was_dropped_is_not(self, file: int) -> None:
        chill(file)
        assert not resident(file, 0, SIZE)
        assert not resident(file, SIZE - 1, 1)

    def test_a_cold_end(self, file: int) -> None:
        chill(file)
        os.pread(file, 4 * PAGE, 0)
        assert resident(file, 0, 4 * PAGE)
        assert not resident(file, 0, SIZE)

    def test_a_cold_middle(self, file: int) -> None:
        chill(file)
        os.pread(file, PAGE, 0)
        os.pread(file, PAGE, SIZE - PAGE)
        assert not resident(file, 0, SIZE)

    def test_reading_it_makes_it_so(self, file: int) -> None:
        chill(file)
        os.pread(file, SIZE, 0)
        assert resident(file, 0, SIZE)

    def test_memory_is_always_there(self, ram: Path) -> None:
        fd = os.open(ram / "file", os.O_RDWR | os.O_CREAT)
        os.write(fd, bytes(SIZE))
        assert resident(fd, 0, SIZE)
        os.close(fd)


def test_one_cold_page_anywhere_is_found_by_cachestat(file: int) -> None:
    if not residency._has_cachestat:
        pytest.skip("this kernel has no cachestat")
    chill(file)
    for page in range(64):
        if page != 21:
            os.pread(file, PAGE, page * PAGE)
    assert resident(file, 0, 21 * PAGE)
    assert not resident(file, 20 * PAGE, 2 * PAGE)
    assert not resident(file, 21 * PAGE + 100, 5)
    assert resident(file, 22 * PAGE, SIZE - 22 * PAGE)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_user_who_does_not_own_the_interpreter_has_cachestat_too() -> None:
    if not residency._has_cachestat:
        pytest.skip("this kernel has no cachestat")
    script = "import os; from edge.store import residency as r; os.setuid(65534); print(r._cachestat_works())"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"


def test_the_test_folder_is_on_a_disk(ssd: Path) -> None:
    assert file_system_type(str(ssd.parent)) != "tmpfs"
