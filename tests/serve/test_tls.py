"""Players over TLS: the same bytes, the right certificate, and nothing for who does not speak it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from tests.kit.daemon import Daemon, Settings, free_port, running
from tests.kit.origin import Origin, expected, gen_path
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Secure:
    daemon: Daemon
    port: int
    authority: trustme.CA
    folder: Path

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    def issue(self, name: str, *more: str) -> bytes:
        """A certificate where the daemon looks for it; returns its DER form."""
        issued = self.authority.issue_cert(name, *more)
        (self.folder / f"{name}.key.new").write_bytes(issued.private_key_pem.bytes())
        (self.folder / f"{name}.pem.new").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        os.rename(self.folder / f"{name}.key.new", self.folder / f"{name}.key")
        os.rename(self.folder / f"{name}.pem.new", self.folder / f"{name}.pem")
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    def table(self, name: str) -> str:
        return f'[[certificates]]\ncertificate = "{self.folder}/{name}.pem"\nkey = "{self.folder}/{name}.key"\n'

    async def connect(self, name: str = "edge.test") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.client_context(), server_hostname=name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secure(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    port = free_port()
    settings = Settings([origin.url], ssd="512MiB")
    made = Secure(Daemon(folder, settings), port, trustme.CA(), folder)
    made.issue("edge.test")
    made.issue("other.test", "*.other.test")
    settings.toml = (
        f'[limits]\nhead_timeout = "2s"\n[[listeners]]\naddress = "127.0.0.1:{port}"\ntls = true\n'
        + made.table("edge.test")
        + made.table("other.test")
    )
    async with running(folder, settings) as daemon:
        made.daemon = daemon
        yield made


def request(path: str, *fields: str, host: str = "edge.test", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


async def response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split()[1]), fields, await reader.readexactly(int(fields.get("content-length", "0")))


@pytest.mark.parametrize("size", ["1k", "16k", "300k", "3m", "40m"])
async def test_the_same_bytes_cold_and_hot(secure: Secure, size: str) -> None:
    path = gen_path(size, "tls")
    reader, writer = await secure.connect()
    bodies = []
    for _ in range(3):
        writer.write(request(path))
        status, fields, body = await response(reader)
        assert status == 200
        bodies.append(body)
    assert "hit" in fields["cache-status"]
    assert bodies[0] == expected(path, 0, len(bodies[0]))
    assert bodies[1] == bodies[0]
    assert bodies[2] == bodies[0]
    writer.close()


async def test_ranges_and_pipelining(secure: Secure) -> None:
    path = gen_path("2m", "tls-ranges")
    reader, writer = await secure.connect()
    writer.write(b"".join(request(path, f"Range: bytes={at}-{at + 99_999}") for at in range(0, 1_500_000, 100_000)))
    for at in range(0, 1_500_000, 100_000):
        status, _, body = await response(reader)
        assert status == 206
        assert body == expected(path, at, at + 100_000)
    writer.close()


async def test_a_body_goes_through_to_the_origin(secure: Secure) -> None:
    reader, writer = await secure.connect()
    body = os.urandom(3 << 20)
    writer.write(request("/echo", f"Content-Length: {len(body)}", method="POST") + body)
    status, _, echoed = await response(reader)
    assert status == 200
    assert hashlib.sha256(body).hexdigest().encode() in echoed
    writer.close()


@pytest.mark.parametrize(
    ("name", "expected_name"),
    [("edge.test", "edge.test"), ("other.test", "other.test"), ("a.other.test", "other.test")],
)
async def test_the_certificate_is_the_names(secure: Secure, name: str, expected_name: str) -> None:
    _, writer = await secure.connect(name)  # the client checks that it is for this name
    tls = writer.get_extra_info("ssl_object")
    names = [value for _, value in tls.getpeercert()["subjectAltName"]]
    assert expected_name in names
    assert tls.selected_alpn_protocol() == "http/1.1"
    assert tls.version() == "TLSv1.3"
    writer.close()


async def test_who_asks_for_another_name_gets_the_first_certificate(secure: Secure) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await secure.connect("stranger.test")


async def test_a_renewed_certificate_is_taken_up(secure: Secure) -> None:
    renewed = secure.issue("edge.test")
    async with asyncio.timeout(20):
        while True:
            _, writer = await secure.connect()
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            if found == renewed:
                break
            await asyncio.sleep(0.1)


async def test_a_certificate_that_cannot_be_read_leaves_the_old_one(secure: Secure) -> None:
    (secure.folder / "edge.test.pem").write_text("rubbish")

    async def told() -> bool:
        return "certificates not reloaded" in secure.daemon.output.read_text()

    await until(told)
    _, writer = await secure.connect()
    writer.close()
    secure.issue("edge.test")


async def test_tls_1_2_is_spoken_and_1_1_is_not(secure: Secure) -> None:
    context = secure.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.port, ssl=context, server_hostname="edge.test")
    writer.write(request(gen_path("16k", "old")))
    assert (await response(reader))[0] == 200
    writer.close()
    context = secure.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", secure.port, ssl=context, server_hostname="edge.test")


async def test_who_speaks_no_tls_is_turned_away(secure: Secure) -> None:
    before = await secure.daemon.total("edge_errors_total", reason="tls")
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: edge.test\r\n\r\n")
    assert b"HTTP" not in await reader.read()
    writer.close()
    assert await secure.daemon.total("edge_errors_total", reason="tls") == before + 1


async def test_a_handshake_that_stands_still_is_ended(secure: Secure) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.port)
    async with asyncio.timeout(15):
        assert await reader.read() == b""
    writer.close()


async def test_a_client_that_stops_reading_gets_all_when_it_goes_on(secure: Secure) -> None:
    path = gen_path("40m", "tls-slow")
    raw = socket.create_connection(("127.0.0.1", secure.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    reader, writer = await asyncio.open_connection(sock=raw, ssl=secure.client_context(), server_hostname="edge.test")
    writer.write(request(path))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head

    async def under_way() -> bool:
        return await secure.daemon.total("edge_transfers") >= 1

    await until(under_way)
    body = await reader.readexactly(40 << 20)
    assert body == expected(path, 0, 40 << 20)
    writer.close()


async def test_the_connection_ends_with_close_notify(secure: Secure) -> None:
    reader, writer = await secure.connect()
    writer.write(request(gen_path("16k", "end"), "Connection: close"))
    status, _, _ = await response(reader)
    assert status == 200
    assert await reader.read() == b""  # a cut without close_notify would raise
    writer.close()
