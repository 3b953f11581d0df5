"""Processes that this one starts for a while and always ends, with everything they started."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

_STOP_S_MAX = 15.0
_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class ProcessError(Exception):
    """A process did not start, or ended before it should; the text says which and why."""


def _end_with_parent() -> None:
    """In the child: SIGTERM for it when the parent dies, even by SIGKILL."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Speaker:
    """A command whose lines are read as they come; what it complains of is kept."""

    def __init__(self, process: "subprocess.Popen[str]", complaints: IO[str]) -> None:
        assert process.stdout is not None
        self.lines: Iterator[str] = iter(process.stdout)
        self._process = process
        self._complaints = complaints

    def end(self) -> int:
        """Wait for it; returns its status."""
        return self._process.wait()

    def complaints(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read().strip()


@contextlib.contextmanager
def speaking(command: Sequence[str]) -> Iterator[Speaker]:
    """A command that runs until the block is left, at the most."""
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as process,
    ):
        try:
            yield Speaker(process, complaints)
        finally:
            process.kill()


class Process:
    """A command in a process group of its own, so that all of it ends with it. What it writes goes to a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def check(self) -> None:
        """ProcessError if it has ended."""
        status = self._popen.poll()
        if status is not None:
            raise ProcessError(f"the {self.name} ended with status {status}:\n{self.last_lines()}")

    def last_lines(self, count: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def wait_for_line(self, start: str, within_s: float) -> str:
        """The rest of the first line of its output that starts so."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for line in self.log.read_text(errors="replace").splitlines(keepends=True):
                if line.startswith(start) and line.endswith("\n"):
                    return line[len(start) :].strip()
            self.check()
            time.sleep(_POLL_S)
        raise ProcessError(f"the {self.name} did not say {start!r} within {within_s:g} s:\n{self.last_lines()}")

    def wait_for_url(self, url: str, within_s: float) -> None:
        """Until this address answers 200."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(URLError, OSError), urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
            time.sleep(_POLL_S)
        raise ProcessError(f"the {self.name} was not ready within {within_s:g} s ({url}):\n{self.last_lines()}")

    def stop(self) -> None:
        """SIGTERM to the process, then SIGKILL to all of its group that is left."""
        try:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_STOP_S_MAX)
        finally:  # a second Ctrl-C lands here: no more patience then
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()
