"""The caches under test: the edge as it comes, and peers with the configuration the suite itself has for them."""

import json
import os
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from loadtest.processes import free_port

_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)*")


class MissingError(RuntimeError):
    """This machine has no such cache."""


class Cache(ABC):
    """How to start one before an origin, everything it writes in a folder of its own."""

    name: ClassVar[str]
    package: ClassVar[str] = ""
    program: ClassVar[str] = ""
    says_version: ClassVar[tuple[str, ...]] = ("-v",)

    def __init__(self, suite: Path, folder: Path, origin_port: int) -> None:
        self.suite = suite
        self.folder = folder
        self.origin_port = origin_port
        self.port = free_port()

    @abstractmethod
    def command(self) -> list[str]:
        """What to run; writes the configuration it names."""

    @property
    def ready_url(self) -> str:
        """An address that answers 200 once it serves: a file of the suite's origin, through the cache."""
        return f"http://127.0.0.1:{self.port}/index.html"

    def found(self) -> str:
        path = shutil.which(self.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if path is None:
            raise MissingError(f"{self.name} is not installed here (apt-get install {self.package})")
        return path

    def version(self) -> str:
        done = subprocess.run([self.found(), *self.says_version], capture_output=True, text=True, check=False)
        match = _VERSION.search(done.stdout + done.stderr)
        return match[0] if match else "?"

    def configuration(self, name: str) -> str:
        """A file of the suite's docker folder."""
        return (self.suite / "docker" / self.name / name).read_text()

    def written(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    def made(self, name: str, user: str | None = None) -> str:
        """A folder, for a program that gives up its rights to be this user."""
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        if user is not None and os.geteuid() == 0:
            shutil.chown(path, user)
            for above in path.parents:
                if above == self.folder.parent:
                    break
                above.chmod(0o755)
        return str(path)


class Edge(Cache):
    """As `edge serve --origin` makes it."""

    name = "edge"

    def __init__(self, suite: Path, folder: Path, origin_port: int) -> None:
        super().__init__(suite, folder, origin_port)
        self.control_port = free_port()

    def command(self) -> list[str]:
        options = {
            "--listen": f"127.0.0.1:{self.port}",
            "--origin": f"http://127.0.0.1:{self.origin_port}",
            "--store": self.made("store"),
            "--ram": "0",
            "--control": f"127.0.0.1:{self.control_port}",
            "--workers": "2",
        }
        return [sys.executable, "-m", "edge", "serve", *(word for pair in options.items() for word in pair)]

    @property
    def ready_url(self) -> str:
        return f"http://127.0.0.1:{self.control_port}/readyz"

    def version(self) -> str:
        from importlib.metadata import version

        return version("edge-cache")


class Nginx(Cache):
    name = "nginx"
    package = "nginx-light"
    program = "nginx"

    def command(self) -> list[str]:
        site = self.configuration("nginx.conf").replace("/var/cache/nginx", self.made("cache"))
        site = site.replace("listen       8002", f"listen 127.0.0.1:{self.port}")
        site = site.replace("localhost:8000", f"127.0.0.1:{self.origin_port}")
        folders = ("client_body", "fastcgi", "uwsgi", "scgi")
        # the frame is what the distribution's nginx.conf has around it
        text = f"""daemon off;
user {"root" if os.geteuid() == 0 else "nobody"};
pid {self.folder}/nginx.pid;
error_log {self.folder}/error.log;
events {{ worker_connections 2048; }}
http {{
sendfile on;
tcp_nopush on;
gzip on;
access_log off;
{"".join(f"{name}_temp_path {self.folder}/{name};" for name in folders)}
{site}
}}
"""
        return [self.found(), "-e", f"{self.folder}/error.log", "-c", self.written("nginx.conf", text)]


class Varnish(Cache):
    name = "varnish"
    package = "varnish"
    program = "varnishd"
    says_version = ("-V",)

    def command(self) -> list[str]:
        vcl = f'vcl 4.0;\nbackend default {{ .host = "127.0.0.1"; .port = "{self.origin_port}"; }}\n'
        # the arguments of the suite's docker/serve.sh
        return [self.found(), "-F", "-j", "none", "-n", self.made("work"), "-a", f"127.0.0.1:{self.port}",
                "-f", self.written("default.vcl", vcl), "-p", "default_ttl=0", "-p", "default_grace=0",
                "-p", "default_keep=3600", "-s", "malloc,64M"]  # fmt: skip


class Squid(Cache):
    name = "squid"
    package = "squid"
    program = "squid"

    def command(self) -> list[str]:
        site = self.configuration("squid.conf").replace("http_port 8001", f"http_port 127.0.0.1:{self.port}")
        site = site.replace("cache_peer localhost parent 8000", f"cache_peer 127.0.0.1 parent {self.origin_port}")
        logs = self.made("logs", "proxy")
        own = f"""pid_filename {self.folder}/squid.pid
cache_log {logs}/cache.log
access_log none
coredump_dir {logs}
pinger_enable off
visible_hostname localhost
"""
        return [self.found(), "-N", "-n", f"suite{self.port}", "-f", self.written("squid.conf", site + own)]


class TrafficServer(Cache):
    name = "trafficserver"
    package = "trafficserver"
    program = "traffic_server"
    says_version = ("-V",)
    defaults = Path("/etc/trafficserver")

    def command(self) -> list[str]:
        user = "trafficserver"
        etc = Path(self.made("etc", user))
        for file in self.defaults.iterdir() if self.defaults.is_dir() else ():
            if file.is_file():
                shutil.copy(file, etc)
        records = self.configuration("records.config")
        own = {
            "http.server_ports STRING": str(self.port),
            "admin.user_id STRING": user,
        }
        self.made("run", user)
        self.made("log", user)
        kept = [line for line in records.splitlines() if not any(f"proxy.config.{name}" in line for name in own)]
        kept += [f"CONFIG proxy.config.{name} {value}" for name, value in own.items()]
        (etc / "records.config").write_text("\n".join(kept) + "\n")
        # the suite's one rule, for these ports
        (etc / "remap.config").write_text(f"map / http://127.0.0.1:{self.origin_port}/\n")
        (etc / "storage.config").write_text(f"{self.made('cache', user)} 256M\n")
        (etc / "ip_allow.config").write_text(self.configuration("ip_allow.config"))
        runroot = {
            "prefix": "/usr", "exec_prefix": "/usr", "bindir": "/usr/bin", "sbindir": "/usr/sbin",
            "sysconfdir": str(etc), "datadir": str(self.folder / "cache"), "includedir": "/usr/include",
            "libdir": "/usr/lib", "libexecdir": "/usr/lib/trafficserver/modules",
            "localstatedir": str(self.folder / "run"), "runtimedir": str(self.folder / "run"),
            "logdir": str(self.folder / "log"), "mandir": "/usr/share/man", "infodir": "/usr/share/info",
            "cachedir": str(self.folder / "cache"),
        }  # fmt: skip
        lines = "".join(f"{name}: {json.dumps(value)}\n" for name, value in runroot.items())
        return [self.found(), f"--run-root={self.written('runroot.yaml', lines)}"]


KINDS: dict[str, type[Cache]] = {kind.name: kind for kind in (Edge, Nginx, Varnish, Squid, TrafficServer)}
