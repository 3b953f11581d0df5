import os
import socket
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from loadtest import browser, idle, procfs, servers

# Answers nothing to SIGTERM, and has a child that does not either.
STUBBORN = """
import os, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    time.sleep(600)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""


class Stubborn(servers.Server):
    name = "stubborn"

    def command(self) -> list[str]:
        return [sys.executable, "-c", STUBBORN, str(self.port)]


class Broken(servers.Server):
    name = "broken"

    def command(self) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such setting')"]


@pytest.fixture
def where(tmp_path: Path) -> servers.Place:
    return servers.Place(tmp_path, tmp_path, servers.RAM_BYTES_MIN)


def test_a_stubborn_tree_is_pinned_and_ended(where: servers.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "STOP_S_MAX", 0.2)
    before = os.sched_getaffinity(0)
    with servers.running(Stubborn(where, 0)) as server:
        family = procfs.tree(server.pid)
        assert len(family) == 2
        assert all(os.sched_getaffinity(pid) == servers.SERVER_CORES for pid in family)
        assert os.sched_getaffinity(0) == before
        assert all(size > 0 for size in server.memory_bytes())
    # The orphan is init's to bury: its number may stand a moment longer.
    deadline = time.monotonic() + 5
    while any(_is_alive(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_is_alive(pid) for pid in family)


def _is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_does_not_start_says_why(where: servers.Place) -> None:
    with pytest.raises(servers.StartError, match="no such setting"):
        Broken(where, 0).start()


def test_place_is_gone_afterwards() -> None:
    with servers.place() as found:
        assert found.scratch.is_dir()
        assert found.ram.is_dir()
    assert not found.scratch.exists()
    assert not found.ram.exists()


def test_every_name_in_nginx_conf_is_filled(where: servers.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "nginx_path", lambda: "/usr/sbin/nginx")
    command = servers.Nginx(where, 9000).command()
    text = Path(command[-1]).read_text()
    settings = [line.partition("#")[0] for line in text.splitlines()]
    assert not [line for line in settings if "@" in line]
    assert any("server 127.0.0.1:9000;" in line for line in settings)


def test_the_edges_configuration_is_toml() -> None:
    text = servers.EDGE_CONFIG.substitute(scratch="/s", port=1, control=2, origin=3, cache="/c", ram_mib=512)
    found = tomllib.loads(text)
    assert found["listeners"] == [{"address": "127.0.0.1:1"}]
    assert found["tiers"]["ram"]["disks"] == [{"path": "/c", "size": "512MiB"}]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_head_in_pieces_is_read_once_it_is_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair

    def send() -> None:
        for piece in (b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 1000\r\n\r", b"\nabc", b"d" * 900):
            theirs.sendall(piece)
            time.sleep(0.02)
        theirs.shutdown(socket.SHUT_WR)

    thread = Thread(target=send)
    thread.start()
    size, got = idle.read_head(ours)
    assert size == 1000
    assert idle.read_body(ours, size - got) == 97
    thread.join()


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200"]
)
def test_no_body_to_read_is_an_error(head: bytes, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(head)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionError):
        idle.read_head(ours)


def test_goals_of_resting_connections() -> None:
    assert idle.Idle("edge", 100, 0, 100 * idle.IDLE_BYTES_MAX, 0.0, 3.0).is_met
    assert not idle.Idle("edge", 100, 0, 101 * idle.IDLE_BYTES_MAX, 0.0, 3.0).is_met
    assert idle.Stalled("edge", 200, 0.05, 0.07, 3.0, 3).is_met
    assert not idle.Stalled("edge", 200, 0.05, 0.20, 3.0, 3).is_met
    assert not idle.Stalled("edge", 200, 0.05, 0.05, 3.0, 0).is_met


def test_a_hit_is_what_the_server_says() -> None:
    def said(**headers: str) -> bool | None:
        return browser.Answer(200, {name.replace("_", "-"): value for name, value in headers.items()}, b"").is_hit

    assert said(x_cache_status="HIT") is True
    assert said(cache_status="edge; fwd=uri-miss; stored") is False
    assert said(cache_status="edge; hit; ttl=30") is True
    assert said() is None
