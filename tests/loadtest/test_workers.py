"""The origin as a command."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "loadtest.origin", "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().removeprefix("origin: ").strip()
        finally:
            process.kill()


def told(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=5) as answer:
        value: dict[str, Any] = json.load(answer)
        return value


@pytest.mark.parametrize("workers", ["1", "3"])
def test_all_processes_count_as_one(workers: str) -> None:
    with running("--workers", workers) as (process, url):
        for number in range(20):
            with urlopen(f"{url}/gen/1k/{number}", timeout=5) as answer:
                assert len(answer.read()) == 1024
        stats = told(f"{url}/_origin/stats")
        assert (stats["requests"], stats["bytes"], len(stats["by_path"])) == (20, 20 * 1024, 20)
        assert told(f"{url}/_origin/reset")["requests"] == 0
        assert told(f"{url}/_origin/stats")["bytes"] == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_no_process_outlives_the_first_one() -> None:
    with running("--workers", "2") as (process, url):
        process.kill()
        process.wait()
        until = time.monotonic() + 5
        while _answers(url):
            assert time.monotonic() < until


def _answers(url: str) -> bool:
    try:
        told(f"{url}/_origin/stats")
    except (URLError, ConnectionError):
        return False
    return True


def test_an_address_that_is_taken_is_said_in_a_sentence() -> None:
    with running() as (_, url):
        command = [sys.executable, "-m", "loadtest.origin", "--listen", url.removeprefix("http://")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "cannot listen on" in done.stderr
