"""The servers that are compared, as real processes: started on one core, measured as a tree, ended by pid."""

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import ClassVar

import trustme

from loadtest import browser, native, procfs

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = {CORES[0]}
CLIENT_CORES = {CORES[-1]}
START_S_MAX = 20.0
STOP_S_MAX = 10.0
LOG_TAIL_BYTES = 2000
SHM = Path("/dev/shm")
RAM_BYTES_MAX = 2 << 30
RAM_BYTES_MIN = 512 << 20
# What one sendfile call of the floor may send: nginx's own bound, so that the two are measured under one rule.
FLOOR_CHUNK_BYTES = 2 << 20
EDGE_CONFIG = Template("""\
workers = 1
state_dir = "$scratch/edge-state"
[[listeners]]
address = "127.0.0.1:$port"
[control]
address = "127.0.0.1:$control"
[[sites]]
name = "bench"
hosts = ["*"]
origins = ["http://127.0.0.1:$origin"]
[[tiers.ram.disks]]
path = "$cache"
size = "${ram_mib}MiB"
[log]
access = "$scratch/edge-access.log"
level = "warning"
""")


EDGE_TLS_CONFIG = Template("""\
[[listeners]]
address = "127.0.0.1:$port"
tls = true
[[certificates]]
certificate = "$folder/server.pem"
key = "$folder/server.key"
""")


class UnavailableError(RuntimeError):
    """This machine has no such server."""


class StartError(RuntimeError):
    pass


@dataclass(frozen=True)
class Place:
    """Folders of one run: `scratch` for state and logs, `ram` on a tmpfs for cached bytes."""

    scratch: Path
    ram: Path
    ram_bytes: int


@contextlib.contextmanager
def place() -> Iterator[Place]:
    native.SCRATCH.mkdir(exist_ok=True)
    free_bytes = shutil.disk_usage(SHM).free if SHM.is_dir() else 0
    has_ram = free_bytes >= RAM_BYTES_MIN
    if not has_ram:
        print(f"{SHM} has no {RAM_BYTES_MIN >> 20} MiB free: cached bytes lie in {native.SCRATCH}", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=native.SCRATCH, ignore_cleanup_errors=True) as scratch,
        tempfile.TemporaryDirectory(
            prefix="edge-bench-", dir=SHM if has_ram else native.SCRATCH, ignore_cleanup_errors=True
        ) as ram,
    ):
        ram_bytes = min(RAM_BYTES_MAX, free_bytes // 2) if has_ram else RAM_BYTES_MIN
        yield Place(Path(scratch), Path(ram), ram_bytes)


def tls_folder(where: Place) -> Path:
    """A folder with the run's certificate, server.pem with server.key, and ca.pem that it is signed with."""
    folder = where.scratch / "tls"
    if not folder.exists():
        folder.mkdir()
        authority = trustme.CA()
        issued = authority.issue_cert(browser.HOST, "127.0.0.1")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        issued.private_key_pem.write_to_path(folder / "server.key")
        for part in issued.cert_chain_pems:
            part.write_to_path(folder / "server.pem", append=True)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def spawn(command: list[str], cores: set[int], log: Path) -> subprocess.Popen[bytes]:
    """Start a process that is on `cores` from its first instruction, as will be all its children."""
    own_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        with log.open("ab") as output:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=native.ROOT)
    finally:
        os.sched_setaffinity(0, own_cores)


class Server(ABC):
    """One server process tree. `start` returns once it answers; `stop` leaves nothing of it running."""

    name: ClassVar[str]
    cores: ClassVar[set[int]] = SERVER_CORES

    def __init__(self, where: Place, origin_port: int) -> None:
        self.where = where
        self.origin_port = origin_port
        self.port = free_port()
        self.tls_port = 0
        """Where it speaks TLS; 0: nowhere."""
        self.cache = where.ram / self.name
        self.log = where.scratch / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to run; writes the configuration it names."""

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} is not started"
        return self._process.pid

    def start(self) -> None:
        self.cache.mkdir(exist_ok=True)
        self._process = spawn(self.command(), self.cores, self.log)
        deadline = time.monotonic() + START_S_MAX
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise StartError(f"{self.name} did not start:\n{self.log_tail()}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        """Ask, wait, and end by pid whatever of the tree is left then."""
        if self._process is None:
            return
        family = procfs.tree(self._process.pid)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S_MAX)
        family |= procfs.tree(self._process.pid)  # what it started while it was asked
        for pid, before in family.items():
            with contextlib.suppress(OSError):
                # The start time tells the process from another one that got its number since.
                if procfs.stat(pid).started == before.started:
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def log_tail(self) -> str:
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if self.log.exists() else ""

    def worker_pids(self) -> list[int]:
        """The processes that serve clients; the only one where nothing else is known."""
        return [self.pid]

    def memory_bytes(self) -> tuple[int, int]:
        """Proportional memory (PSS) of the workers, and of the whole tree."""
        workers = sum(map(procfs.pss_bytes, self.worker_pids()))
        return workers, sum(map(procfs.pss_bytes, procfs.tree(self.pid)))

    def warm(self, digests: dict[str, str]) -> None:
        browser.warm(self.port, digests)

    def warm_tls(self, digests: dict[str, str]) -> None:
        """The same for what it serves over TLS, if it does."""
        if self.tls_port:
            tls = ssl.create_default_context(cafile=str(tls_folder(self.where) / "ca.pem"))
            browser.warm(self.tls_port, digests, tls=tls)


class Origin(Server):
    """Where the caches fill from. It shares the client's core: it has nothing to do while hits are measured."""

    name = "origin"
    cores = CLIENT_CORES

    def command(self) -> list[str]:
        return [sys.executable, "-m", "loadtest.origin", "--listen", f"127.0.0.1:{self.port}"]


class Floor(Server):
    """The C program that only sends: its files are put before it, not fetched."""

    name = "floor"
    chunk_bytes = FLOOR_CHUNK_BYTES

    def command(self) -> list[str]:
        return [str(native.build("floor")), str(self.port), str(self.cache), str(self.chunk_bytes)]

    def warm(self, digests: dict[str, str]) -> None:
        for path in digests:
            file = self.cache / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(browser.fetch(self.origin_port, path).body)
        super().warm(digests)


class Nginx(Server):
    """nginx's proxy_cache, set up as peers/nginx.conf.in says and why."""

    name = "nginx"
    connections_max = 16384

    def __init__(self, where: Place, origin_port: int) -> None:
        super().__init__(where, origin_port)
        self.tls_port = free_port()

    def command(self) -> list[str]:
        template = (Path(__file__).parent / "peers" / "nginx.conf.in").read_text()
        values = {
            "USER": "root" if os.geteuid() == 0 else "nobody",
            "SCRATCH": str(self.where.scratch),
            "CONNECTIONS": str(self.connections_max),
            "CACHE": str(self.cache),
            "ORIGIN": f"127.0.0.1:{self.origin_port}",
            "PORT": str(self.port),
            "TLS_PORT": str(self.tls_port),
            "TLS": str(tls_folder(self.where)),
        }
        for name, value in values.items():
            template = template.replace(f"@{name}@", value)
        config = self.where.scratch / "nginx.conf"
        config.write_text(template)
        return [nginx_path(), "-e", str(self.where.scratch / "nginx-error.log"), "-c", str(config)]

    def worker_pids(self) -> list[int]:
        # The cache's manager and loader are children as well; a worker says so in its title.
        children = [pid for pid, one in procfs.tree(self.pid).items() if one.parent == self.pid]
        return [pid for pid in children if b"worker process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


class Edge(Server):
    """The daemon of this project: supervisor, one worker, manager."""

    name = "edge"

    def __init__(self, where: Place, origin_port: int) -> None:
        super().__init__(where, origin_port)
        self.tls_port = free_port()
        self.control_port = free_port()

    def command(self) -> list[str]:
        if importlib.util.find_spec("edge.__main__") is None:
            raise UnavailableError("there is no `python -m edge` yet")
        config = self.where.scratch / "edge.toml"
        config.write_text(
            EDGE_CONFIG.substitute(
                scratch=self.where.scratch,
                port=self.port,
                control=self.control_port,
                origin=self.origin_port,
                cache=self.cache,
                ram_mib=self.where.ram_bytes >> 20,
            )
            + EDGE_TLS_CONFIG.substitute(port=self.tls_port, folder=tls_folder(self.where))
        )
        return [sys.executable, "-m", "edge", "serve", "--config", str(config)]

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._ask_control("/readyz").status == 200
        return False

    def worker_pids(self) -> list[int]:
        status = json.loads(self._ask_control("/status").body)
        return [process["pid"] for process in status["processes"] if process["role"] == "worker"]

    def _ask_control(self, path: str) -> browser.Answer:
        # As an operator's tool asks, not as a page on another site.
        return browser.fetch(self.control_port, path, (("Host", f"127.0.0.1:{self.control_port}"),), timeout_s=2)


def nginx_path() -> str:
    path = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise UnavailableError("nginx is not installed here (apt-get install nginx-light)")
    return path


KINDS: dict[str, type[Server]] = {kind.name: kind for kind in (Edge, Floor, Nginx)}


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
