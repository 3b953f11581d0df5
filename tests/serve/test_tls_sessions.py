"""Sessions are resumed by whichever worker a client comes to, also after a worker's death and a new certificate."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from edge.serve import tickets
from edge.serve.tickets import PERIOD_S, SECRET_BYTES, TicketKeys
from tests.kit.daemon import Settings
from tests.kit.origin import Origin, gen_path
from tests.kit.secure import Secure, request, secured
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORKERS = 4
CONNECTIONS = 24
"""The kernel deals them out by their ports: that all come to one worker of four has a chance of 4**-23."""
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secure]:
    async with Origin() as origin:
        settings = Settings([origin.url], workers=WORKERS)
        async with secured(tmp_path_factory.mktemp("tls"), settings) as made:
            yield made


def context_for(secure: Secure, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = secure.client_context()
    context.minimum_version = context.maximum_version = version
    return context


def visit(
    secure: Secure, context: ssl.SSLContext, session: ssl.SSLSession | None = None, name: str = "edge.test"
) -> tuple[bool, ssl.SSLSession]:
    """One connection with one request: whether the session was resumed, and the session to come back with."""
    with (
        socket.create_connection(("127.0.0.1", secure.port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname=name, session=session) as tls,
    ):
        tls.sendall(request(gen_path("1k", "session"), "Connection: close", host=name))
        received = b""
        while piece := tls.recv(65536):
            received += piece
        assert received.startswith(b"HTTP/1.1 200 ")
        assert tls.session is not None
        return bool(tls.session_reused), tls.session


async def resumptions(secure: Secure, context: ssl.SSLContext, session: ssl.SSLSession) -> int:
    return sum([(await asyncio.to_thread(visit, secure, context, session))[0] for _ in range(CONNECTIONS)])


@VERSIONS
async def test_every_worker_resumes(secure: Secure, version: ssl.TLSVersion) -> None:
    context = context_for(secure, version)
    is_resumed, session = await asyncio.to_thread(visit, secure, context)
    assert not is_resumed
    assert await resumptions(secure, context, session) == CONNECTIONS


@VERSIONS
async def test_a_name_with_a_certificate_of_its_own_resumes(secure: Secure, version: ssl.TLSVersion) -> None:
    context = context_for(secure, version)
    _, session = await asyncio.to_thread(visit, secure, context, None, "a.other.test")
    found = [await asyncio.to_thread(visit, secure, context, session, "a.other.test") for _ in range(CONNECTIONS)]
    assert all(is_resumed for is_resumed, _ in found)


@VERSIONS
async def test_workers_that_replace_dead_ones_resume(secure: Secure, version: ssl.TLSVersion) -> None:
    context = context_for(secure, version)
    _, session = await asyncio.to_thread(visit, secure, context)
    before = await secure.daemon.pids("worker")
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    async def replaced() -> bool:
        now = await secure.daemon.pids("worker")
        return len(now) == WORKERS and not set(now) & set(before)

    await until(replaced)
    assert await resumptions(secure, context, session) == CONNECTIONS


@VERSIONS
async def test_a_new_certificate_does_not_end_sessions(secure: Secure, version: ssl.TLSVersion) -> None:
    context = context_for(secure, version)
    _, session = await asyncio.to_thread(visit, secure, context)
    reloads = secure.daemon.output.read_text().count("certificates reloaded")
    secure.issue("edge.test", "localhost")

    async def reloaded() -> bool:
        return secure.daemon.output.read_text().count("certificates reloaded") >= reloads + WORKERS

    await until(reloaded)
    assert await resumptions(secure, context, session) == CONNECTIONS


async def test_openssl_resumes(secure: Secure, tmp_path: Path) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", "-servername", "edge.test"]
    command += ["-CAfile", str(secure.trusted), "-verify_return_error", "-ign_eof"]

    async def said(*more: str) -> str:
        client = await asyncio.create_subprocess_exec(
            *command, *more, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(20):
            out, _ = await client.communicate(request(gen_path("1k", "openssl"), "Connection: close"))
        return out.decode("latin-1")

    kept = str(tmp_path / "session.pem")
    assert re.search("^New, TLSv1.3", await said("-sess_out", kept), re.MULTILINE)
    for _ in range(6):
        assert re.search("^Reused, TLSv1.3", await said("-sess_in", kept), re.MULTILINE)


# without a daemon


def contexts(count: int) -> tuple[ssl.SSLContext, list[ssl.SSLContext]]:
    """A client's context, and as many of servers with the same certificate."""
    authority = trustme.CA()
    issued = authority.issue_cert("edge.test")
    client = ssl.create_default_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # where the session is there as soon as hands are shaken
    authority.configure_trust(client)
    servers = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(count)]
    for server in servers:
        issued.configure_cert(server)
    return client, servers


def shake(client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname="edge.test", session=session)
    theirs = server.wrap_bio(up, down, server_side=True)
    left = [ours, theirs]
    while left:
        for side in list(left):
            try:
                side.do_handshake()
                left.remove(side)
            except ssl.SSLWantReadError:
                pass
    return ours


async def test_a_period_s_key_is_the_same_for_all_who_have_the_secret() -> None:
    client, (one, two, later, stranger) = contexts(4)
    secret = os.urandom(SECRET_BYTES)
    TicketKeys(secret, 10 * PERIOD_S).give(one)
    TicketKeys(secret, 11 * PERIOD_S - 1).give(two)
    TicketKeys(secret, 11 * PERIOD_S).give(later)
    TicketKeys(os.urandom(SECRET_BYTES), 10 * PERIOD_S).give(stranger)
    session = shake(client, one).session
    assert [shake(client, server, session).session_reused for server in (one, two, later, stranger)] == [
        True,
        True,
        False,
        False,
    ]


async def test_a_period_turns_once() -> None:
    keys = TicketKeys(bytes(SECRET_BYTES), 10 * PERIOD_S)
    assert [keys.turn(at * PERIOD_S) for at in (10.5, 10.9, 11.0, 11.1)] == [False, False, True, False]


async def test_where_python_keeps_the_context_elsewhere_sessions_are_not_shared(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    client, (one, two) = contexts(2)
    keys = TicketKeys(bytes(SECRET_BYTES), 0)
    monkeypatch.setattr(tickets, "_WORDS_SEEN", 0)
    keys.give(one)
    keys.give(two)
    first = shake(client, one)
    assert not shake(client, two, first.session).session_reused
    out, err = capfd.readouterr()
    assert (out + err).count("resumed only by the worker that began them") == 1


def words_at(address: int) -> list[int]:
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        return tickets._words(memory.fileno(), address, 1)


async def test_an_address_that_is_none_does_not_crash() -> None:
    with pytest.raises(OSError, match="Input/output error"):
        words_at(8)
