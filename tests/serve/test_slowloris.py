"""Two thousand slow clients at once: the others do not notice, and none of the slow ones stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from tests.kit.daemon import Daemon, Settings, free_port, running
from tests.kit.origin import Origin
from tests.kit.slow import BIG
from tests.serve.wire import no_exceptions, request, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNTS = (800, 400, 300, 500)
"""Heads, bodies, readers, handshakes."""
WARM = "/gen/16k/warm"
_LEFT_S = 4.0
_LATEST_S = 2 * _LEFT_S + 4.0
"""A reader has its kernel's buffer to fill in the first of its windows; sweeps are a second apart."""
_LIMITS = f"""
head_timeout = {_LEFT_S}
idle_timeout = 3
handshake_timeout = {_LEFT_S}
body_timeout = {_LEFT_S}
send_timeout = {_LEFT_S / 2}
send_rate_min = "16KiB"
"""


@dataclass
class Latency:
    median_s: float
    p99_s: float
    count: int

    def __str__(self) -> str:
        return f"median {self.median_s * 1e6:.0f} µs, p99 {self.p99_s * 1e6:.0f} µs of {self.count}"


def measured(port: int, seconds: float) -> Latency:
    """What a hit takes a client with a connection of its own, one after the other."""
    took: list[float] = []
    data = request(WARM)
    with socket.create_connection(("127.0.0.1", port)) as client:
        until = time.monotonic() + seconds
        while (started := time.monotonic()) < until:
            client.sendall(data)
            got = client.recv(1 << 16)
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            while len(body) < 16 << 10:
                more = client.recv(1 << 16)
                assert more
                body += more
            took.append(time.monotonic() - started)
            time.sleep(0.001)
    return Latency(statistics.median(took), statistics.quantiles(took, n=100)[98], len(took))


@pytest_asyncio.fixture(loop_scope="module")
async def edge(tmp_path: Path) -> AsyncIterator[tuple[Daemon, int]]:
    port = free_port()
    issued = trustme.CA().issue_cert("edge.test")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for number, part in enumerate(issued.cert_chain_pems):
        part.write_to_path(tmp_path / "certificate.pem", append=number > 0)
    toml = (
        f"[limits]{_LIMITS}\n"
        f'[[listeners]]\naddress = "127.0.0.1:{port}"\ntls = true\n'
        f'[[certificates]]\ncertificate = "{tmp_path}/certificate.pem"\nkey = "{tmp_path}/key.pem"\n'
    )
    async with Origin() as origin, running(tmp_path, Settings([origin.url], toml=toml)) as daemon:
        yield daemon, port
        no_exceptions(daemon)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="asking for a key update takes openssl's client")
async def test_tls_noise_earns_no_patience(edge: tuple[Daemon, int]) -> None:
    """A client asks for a new key (RFC 8446, 4.6.3) all the time, and for nothing else: it is idle."""
    daemon, port = edge
    client = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert client.stdin is not None
    assert client.stdout is not None
    ending = asyncio.create_task(client.stdout.read())
    await daemon.eventually("edge_connections", 1)
    started = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while not ending.done() and time.monotonic() - started < 10:
            client.stdin.write(b"K\n")
            await client.stdin.drain()
            await asyncio.sleep(0.005)
    if client.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            client.kill()
    told = await ending
    await client.wait()
    assert told.count(b"KEYUPDATE") > 50
    assert time.monotonic() - started < 8
    await daemon.eventually("edge_connections", 0)
    assert await daemon.total("edge_errors_total", reason="tls") == 0


async def test_two_thousand_slow_clients(edge: tuple[Daemon, int]) -> None:
    """1. The latency of a hit is measured. 2. 2000 clients send heads, bodies and TLS hellos by the byte, or read so.
    3. It is measured again. Result: it is as it was, and every slow client is left at its deadline.
    """
    daemon, tls_port = edge
    await stored(daemon, WARM)
    await stored(daemon, BIG)
    before = await asyncio.to_thread(measured, daemon.port, 1.5)
    slow = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kit.slow", str(daemon.port), str(tls_port), *(str(count) for count in COUNTS),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert slow.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert (await slow.stdout.readline()).split() == [b"open", b"%d" % sum(COUNTS)]
            during = await asyncio.to_thread(measured, daemon.port, 2.5)
            assert await daemon.total("edge_connections") >= sum(COUNTS)
            # while they are sent away as well
            after = await asyncio.to_thread(measured, daemon.port, 3.0)
            told = json.loads(await slow.stdout.readline())
    finally:
        if slow.returncode is None:
            slow.terminate()
        await slow.wait()
    print(f"before: {before}; with {sum(COUNTS)} slow ones: {during}; as they are left: {after}; {told}")
    assert not any(told["alive"].values())
    assert max(told["left_s"].values()) < told["opened_s"] + _LATEST_S
    for kind, left_s in told["left_s"].items():
        assert left_s > (_LEFT_S / 2 if kind == "readers" else _LEFT_S), kind
    for there in (during, after):
        assert there.median_s < 2 * before.median_s + 0.0005, f"{before} → {there}"
        assert there.p99_s < 5 * before.p99_s + 0.02, f"{before} → {there}"
    await daemon.eventually("edge_connections", 0)
    await daemon.eventually("edge_transfers", 0)
    await daemon.eventually("edge_errors_total", sum(COUNTS[:2]), reason="client_timeout")
    await daemon.eventually("edge_errors_total", COUNTS[2], reason="client_too_slow")
    assert await daemon.total("edge_connections_refused_total") == 0
