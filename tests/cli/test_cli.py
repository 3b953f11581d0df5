"""The command line: what it says of itself, what it refuses, and the one line that starts a cache."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner, Result

from edge.cli import main
from tests.kit.daemon import free_port
from tests.kit.origin import Origin, Step, expected


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, terminal_width=110)


@pytest.mark.parametrize(
    ("command", "sentences"),
    [
        (
            (),
            [
                "An edge cache for video: serves segments from RAM, SSD and HDD, fills what it lacks from origins.",
                "edge serve --origin http://127.0.0.1:9000 --listen 127.0.0.1:8080 --store /tmp/edge",
                "edge serve --config /etc/edge/edge.toml",
                "edge check --config /etc/edge/edge.toml",
            ],
        ),
        (
            ("serve",),
            [
                "Run the cache, in the foreground, until SIGTERM or Ctrl-C.",
                "any host name and any method are let through to the origin",
                "Running transfers are finished before it ends, within limits.drain.",
                "0 for none. [default: 512M]",
                "[default: 127.0.0.1:8080]",
                "[default: 127.0.0.1:9900]",
            ],
        ),
        (
            ("check",),
            [
                "Check a configuration file. Opens nothing, changes nothing.",
                "Names every mistake with its key, what was found and what is allowed, and exits 1",
                "Print the configuration with every default filled in, as JSON.",
            ],
        ),
    ],
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(command: tuple[str, ...], sentences: list[str], flag: str) -> None:
    done = run(*command, flag)
    assert done.exit_code == 0
    text = " ".join(done.output.split())
    for sentence in sentences:
        assert sentence in text
    assert all(len(line) <= 110 for line in done.output.splitlines())


def test_version() -> None:
    done = run("--version")
    assert done.exit_code == 0
    assert done.output.startswith("edge, version ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("serve",), "give --config FILE, or --origin URL and --store DIR."),
        (("serve", "--origin", "http://o"), "give --config FILE, or --origin URL and --store DIR."),
        (("serve", "--store", "/s"), "give --config FILE, or --origin URL and --store DIR."),
        (
            ("serve", "--config", "f", "--origin", "http://o"),
            "--origin does not go with --config: write it in the file.",
        ),
        (("serve", "--config", "f", "--ram", "0"), "--ram does not go with --config: write it in the file."),
        (("serve", "--config", "f", "--workers", "0"), "--workers does not go with --config: write it in the file."),
        (("serve", "--origin", "http://o", "--store", "/s", "--workers", "-1"), "-1 is not in the range 0<=x<=256"),
        (("serve", "--config"), "Option '--config' requires an argument."),
        (("check",), "Missing option '--config'."),
        (("start",), "No such command 'start'."),
        (("serve", "--cofig", "f"), "No such option '--cofig'"),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], told: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert told in done.output
    assert "Error: " in done.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--origin", "o.test"), "edge: sites[0].origins[0]: found 'o.test'; an origin is http://HOST[:PORT]"),
        (("--ram", "much"), "found 'much'; a size is a number of bytes or text such as \"64MiB\""),
        (("--listen", "8080"), "edge: listeners[0].address: found '8080'; an address is \"HOST:PORT\""),
        (("--control", "localhost"), "edge: control.address: found 'localhost'; an address is"),
        (("--control", "127.0.0.1:8080"), "edge: listeners: 127.0.0.1:8080 is listened on twice"),
    ],
)
def test_what_an_option_cannot_be(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    done = run("serve", "--origin", "http://o", "--store", str(tmp_path / "s"), *arguments)
    assert done.exit_code == 1
    assert told in done.output
    assert len(done.output.splitlines()) == 1
    assert not (tmp_path / "s").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for command in ("check", "serve"):
        done = run(command, "--config", str(tmp_path / "none.toml"))
        assert done.exit_code == 1
        assert done.output == f"edge: {tmp_path / 'none.toml'}: No such file or directory\n"


def test_effective(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(
        '[[sites]]\nname = "a"\norigins = ["http://o"]\n[[tiers.ssd.disks]]\npath = "/ssd"\nsize = "1GiB"\n'
    )
    done = run("check", "--config", str(path), "--effective")
    assert done.exit_code == 0
    told = json.loads(done.output)
    assert told["limits"]["request_line"] == 8192
    assert told["tiers"]["ssd"]["disks"][0]["size"] == 1 << 30
    assert told["sites"][0]["hosts"] == ["*"]


# the one line


@contextlib.asynccontextmanager
async def serving(*options: str) -> AsyncIterator[tuple[Process, str, str]]:
    """`edge serve` with free ports, until it is ready: its process and the URLs of both listeners."""
    port, control = free_port(), free_port()
    addresses = ("--listen", f"127.0.0.1:{port}", "--control", f"127.0.0.1:{control}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge", "serve", *addresses, "--workers", "1", *options, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while True:
                assert process.returncode is None
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{control}/readyz") as response:
                        if response.status == 200:
                            break
                await asyncio.sleep(0.05)
        yield process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{control}"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        out, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert out == b""
        assert b"Traceback" not in errors


async def test_one_line_in_front_of_any_origin(origin: Origin, tmp_path: Path) -> None:
    """Any host, any method; what says how long it is fresh is stored, what does not is not."""
    origin.script("/fresh", [Step(body=b"fresh", headers={"Cache-Control": "max-age=60"})])
    bare: dict[str, str | None] = {"Cache-Control": None, "Last-Modified": None, "ETag": None}
    origin.script("/silent", [Step(body=b"silent", headers=bare)])
    async with serving("--origin", origin.url, "--store", str(tmp_path / "store"), "--ram", "64M") as (_, url, control):
        async with aiohttp.ClientSession() as session:
            for path in ("/fresh", "/silent"):
                for host in ("a.test", "b.test:8080", "a.test"):
                    async with session.get(url + path, headers={"Host": host}) as response:
                        assert await response.text() == path[1:]
            for method in ("POST", "PUT", "PATCH", "DELETE", "PROPFIND"):
                async with session.request(method, f"{url}/echo", data=b"x") as response:
                    assert (await response.json())["method"] == method
            async with session.get(f"{control}/status") as response:
                disks = (await response.json())["disks"]
        assert len(origin.requests_for("/fresh")) == 2
        assert len(origin.requests_for("/silent")) == 3
        assert {entry.header("Host") for entry in origin.requests_for("/fresh")} == {"a.test", "b.test:8080"}
        assert [disk["tier"] for disk in disks] == ["ram", "ssd"]
        ram = Path(disks[0]["path"])
        assert ram.parts[:3] == ("/", "dev", "shm")
    shutil.rmtree(ram)


async def test_without_memory_everything_is_on_disk_and_outlives_the_daemon(origin: Origin, tmp_path: Path) -> None:
    path = "/gen/1m/kept"
    options = ("--origin", origin.url, "--store", str(tmp_path / "store"), "--ram", "0")
    for _ in range(2):
        async with serving(*options) as (_, url, control), aiohttp.ClientSession() as session:
            async with session.get(f"{control}/status") as response:
                assert [disk["tier"] for disk in (await response.json())["disks"]] == ["ssd"]
            async with session.get(url + path, headers={"Host": "kept.test"}) as response:
                assert await response.read() == expected(path, 0, 1 << 20)
    assert len(origin.requests_for(path)) == 1
