"""Players over TLS: the same bytes, the right certificate, and nothing for who does not speak it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from edge.serve.kernel_tls import kernel_has_tls
from loadtest import procfs
from tests.kit.daemon import Settings
from tests.kit.origin import Origin, expected, gen_path
from tests.kit.secure import Secure, request, response, secured
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secure(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secure]:
    settings = Settings([origin.url], ssd="512MiB")
    async with secured(tmp_path_factory.mktemp("tls"), settings) as made:
        yield made


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
    renewed = secure.issue("edge.test", "localhost")
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


async def test_a_byte_now_and_then_does_not_prolong_a_handshake(secure: Secure) -> None:
    hello, sent = ssl.MemoryBIO(), 0
    tls = secure.client_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="edge.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    began = asyncio.get_running_loop().time()
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.port)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(15):
            while not reader.at_eof():
                writer.write(hello.read(1))
                sent += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.3)
    writer.close()
    assert 1.5 < asyncio.get_running_loop().time() - began < 8
    assert sent >= 5


@pytest.mark.skipif(kernel_has_tls(), reason="OpenSSL 3.0 cannot change keys that the kernel has: it breaks off")
async def test_keys_are_changed_where_a_client_asks_for_it(secure: Secure) -> None:
    client = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", "-servername", "edge.test"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    async with asyncio.timeout(20):
        await client.stdout.readuntil(b"Verify return code")
        for _ in range(3):
            client.stdin.write(b"K\n")
            await asyncio.sleep(0.1)
        client.stdin.write(request(gen_path("1k", "keys"), "Connection: close"))
        assert b"HTTP/1.1 200" in await client.stdout.read()
        await client.wait()


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


async def test_a_connection_at_rest_holds_little(secure: Secure) -> None:
    path = gen_path("2m", "tls-rest")
    (worker,) = await secure.daemon.pids("worker")
    context = secure.client_context()
    writers = []
    before = 0
    for number in range(120):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", secure.port, ssl=context, server_hostname="edge.test"
        )
        writer.write(request(path))
        assert (await response(reader))[0] == 200
        writers.append(writer)
        if number == 19:  # what all share is there
            before = procfs.pss_bytes(worker)
    assert (procfs.pss_bytes(worker) - before) / 100 < 64 << 10
    for writer in writers:
        writer.close()
