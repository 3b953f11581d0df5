import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from edge.config import load_config
from loadtest.demo import config_text, scratch_folders
from loadtest.processes import Process, ProcessError, free_port
from loadtest.title import Title

# Starts a child of its own, says its number and then heeds nothing but SIGKILL.
STUBBORN = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if sys.argv[1:]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("child:", child.pid, flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("arguments", [[], ["heed nothing"]])
def test_what_a_process_started_ends_with_it(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.processes._STOP_S_MAX", 0.2)
    process = Process("sleeper", [sys.executable, "-c", STUBBORN, *arguments], tmp_path / "log")
    child = int(process.wait_for_line("child:", within_s=10))
    assert is_running(child)
    process.stop()
    assert gone(process.pid)
    assert gone(child)


def test_it_ends_when_the_starter_is_killed(tmp_path: Path) -> None:
    starter = (
        "import sys, time; from pathlib import Path; from loadtest.processes import Process\n"
        "process = Process('sleeper', ['sleep', '600'], Path(sys.argv[1])); print(process.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        pid = int(started.stdout.readline())
        started.kill()
    assert gone(pid)


def test_one_that_ends_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such disk'); raise SystemExit(3)"]
    process = Process("edge", command, tmp_path / "log")
    with pytest.raises(ProcessError, match=r"the edge ended with status 3:\nno such disk"):
        process.wait_for_url(f"http://127.0.0.1:{free_port()}/readyz", within_s=10)
    process.stop()


def test_the_edges_configuration_is_toml_with_tiers_too_small_for_the_title(tmp_path: Path) -> None:
    made = Title(Path(), {"a": 40 << 20}, (), ())
    text = config_text(made, "http://127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", tmp_path / 'a "b', Path("/dev/shm/x"))
    (tmp_path / "edge.toml").write_text(text)
    assert load_config(str(tmp_path / "edge.toml")).workers == 2
    config = tomllib.loads(text)
    assert config["tiers"]["ram"]["disks"] == [{"path": "/dev/shm/x", "size": "8MiB", "reserve": 0}]
    assert config["tiers"]["ssd"]["disks"][0]["size"] == "20MiB"
    assert config["listeners"] == [{"address": "127.0.0.1:2"}]
    assert config["log"]["access"] == str(tmp_path / 'a "b' / "access.log")


def test_folders_are_removed_but_a_kept_one_is_not(tmp_path: Path) -> None:
    with scratch_folders(tmp_path / "kept") as (kept, kept_ram):
        assert (kept / "ssd0").is_dir()
    with scratch_folders(None) as (scratch, ram):
        assert os.listdir(scratch)
    assert kept.exists()
    assert not any(folder.exists() for folder in (scratch, ram, kept_ram))
