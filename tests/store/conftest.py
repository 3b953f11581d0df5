from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.store.disk import file_system_type


@pytest.fixture
def ram() -> Iterator[Path]:
    """A folder in memory."""
    path = Path(tempfile.mkdtemp(prefix="edge-store-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def ssd(tmp_path: Path) -> Iterator[Path]:
    """A folder on a real disk."""
    if file_system_type(str(tmp_path)) != "tmpfs":
        yield tmp_path / "ssd"
        return
    path = Path(tempfile.mkdtemp(prefix="edge-store-", dir="/var/tmp"))
    yield path / "ssd"
    shutil.rmtree(path)


@pytest.fixture
def hdd(ssd: Path) -> Path:
    return ssd.parent / "hdd"
