"""The C programs compile without a warning, and hitload counts what really happened."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from loadtest import native, servers

SIZE = 3000
SECONDS = 0.3

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler on this machine"
)


def load(port: int, *arguments: str, seconds: float = SECONDS, program: str = "hitload") -> dict[str, float]:
    command = [str(native.build(program)), "-p", str(port), "-c", "4", "-d", str(seconds), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=20)
    report: dict[str, float] = json.loads(done.stdout)
    return report


@contextmanager
def canned(*answers: bytes, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A server that gives each connection these answers in turn, then closes it. Its port, and the heads it read."""
    heads: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve(accepted: socket.socket) -> None:
        try:
            connection = tls.wrap_socket(accepted, server_side=True) if tls is not None else accepted
        except OSError:
            accepted.close()
            return
        with connection:
            for answer in answers:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    try:
                        piece = connection.recv(65536)
                    except ConnectionError:
                        return
                    if not piece:
                        return
                    head += piece
                heads.append(head)
                try:
                    connection.sendall(answer)
                except OSError:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=serve, args=(connection,))
            threads.append(thread)
            thread.start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield listener.getsockname()[1], heads
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # close alone does not wake accept
        listener.close()
        for thread in threads:
            thread.join(10)


def answer_of(body: bytes, length: int | None = None) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(body) if length is None else length) + body


@pytest.fixture
def floor_port(tmp_path: Path) -> Iterator[int]:
    place = servers.Place(tmp_path, tmp_path, 0)
    server = servers.Floor(place, 0)
    (tmp_path / "floor").mkdir()
    for name in ("a", "b"):
        (tmp_path / "floor" / name).write_bytes(name.encode() * SIZE)
    with servers.running(server):
        yield server.port


@needs_compiler
@pytest.mark.parametrize("program", native.PROGRAMS)
def test_compiles_without_a_warning(program: str, tmp_path: Path) -> None:
    native.build(program)  # what its library is compiled with is here, then
    flags = ("-Werror", "-Wconversion", "-o", str(tmp_path / program))
    subprocess.run(native.PROGRAMS[program].command(*flags), check=True, timeout=60)


@needs_compiler
def test_is_compiled_once() -> None:
    first = native.build("floor")
    written = first.stat().st_mtime_ns
    assert native.build("floor") == first
    assert first.stat().st_mtime_ns == written


def test_without_a_compiler_the_command_to_type_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(native.NoCompilerError, match=r"sudo apt-get install .*gcc"):
        native.compiler()


@needs_compiler
def test_counts_requests_and_bytes_of_the_floor(floor_port: int) -> None:
    report = load(floor_port, "-s", str(SIZE), "/a", "/b")
    assert report["errors"] == report["reconnects"] == 0
    assert report["requests"] > 100
    # What was under way at the end has its bytes counted, at most one body on each of the four connections.
    assert 0 <= report["bytes"] - report["requests"] * SIZE <= 4 * SIZE
    assert SECONDS <= report["seconds"] < SECONDS + 1
    assert 0 < report["p50_ms"] <= report["p99_ms"] < 1000


@needs_compiler
def test_a_body_of_another_size_or_status_is_an_error(floor_port: int) -> None:
    for arguments in (("-s", str(SIZE + 1), "/a"), ("/missing",)):
        report = load(floor_port, *arguments)
        assert report["requests"] == 0
        assert report["errors"] > 0


@needs_compiler
def test_sends_the_headers_and_goes_round_the_paths() -> None:
    with canned(*[answer_of(b"x")] * 1000) as (port, heads):
        report = load(port, "-H", "Host: a.example", "-H", "User-Agent: player", "/1", "/2", "/3", seconds=0.1)
    expected = {b"GET /%d HTTP/1.1\r\nHost: a.example\r\nUser-Agent: player\r\n\r\n" % n for n in (1, 2, 3)}
    assert report["requests"] > 10
    assert set(heads) == expected


@needs_compiler
def test_a_close_between_answers_is_no_error() -> None:
    with canned(answer_of(b"x" * SIZE), answer_of(b"y" * SIZE)) as (port, _):
        report = load(port, "/a")
    assert report["errors"] == 0
    assert report["reconnects"] > 0
    assert report["requests"] > 2


@needs_compiler
@pytest.mark.parametrize(
    "answer",
    [answer_of(b"x" * 10, length=SIZE), b"HTTP/1.1 200 OK\r\n\r\nno length", b"", answer_of(b"xx", length=1)],
    ids=["short body", "no length", "no answer", "long body"],
)
def test_what_is_no_whole_answer_is_an_error(answer: bytes) -> None:
    with canned(answer) as (port, _):
        report = load(port, "/a", seconds=0.1)
    assert report["requests"] == 0
    assert report["errors"] > 0


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("edge.test").configure_cert(context)
    return context


@needs_compiler
def test_counts_requests_and_bytes_over_tls(tls: ssl.SSLContext) -> None:
    size = 100_000
    with canned(*[answer_of(b"x" * size)] * 5000, tls=tls) as (port, heads):
        report = load(port, "-s", str(size), "-n", "edge.test", "-H", "Host: edge.test", "/1", program="hitload-tls")
    assert report["errors"] == report["reconnects"] == 0
    assert report["requests"] > 20
    assert 0 <= report["bytes"] - report["requests"] * size <= 4 * size
    assert set(heads) == {b"GET /1 HTTP/1.1\r\nHost: edge.test\r\n\r\n"}


@needs_compiler
@pytest.mark.parametrize(
    "answer",
    [answer_of(b"x" * 10, length=SIZE), b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", answer_of(b"xx", length=1)],
    ids=["short body", "not 200", "long body"],
)
def test_what_is_no_whole_answer_is_an_error_over_tls_too(answer: bytes, tls: ssl.SSLContext) -> None:
    with canned(answer, tls=tls) as (port, _):
        report = load(port, "/a", seconds=0.3, program="hitload-tls")
    assert report["requests"] == 0
    assert report["errors"] > 0
