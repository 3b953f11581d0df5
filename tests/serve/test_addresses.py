"""No client address takes all connections: what counts as one, and what becomes of one connection too many."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from edge.config.model import Limits
from edge.serve.addresses import Addresses
from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Origin
from tests.serve.wire import Wire, no_exceptions


def addresses(most: int = 2, *trusted: str) -> Addresses:
    return Addresses(Limits(connections_per_address=most, trusted_addresses=trusted))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("2001:db8::1", "2001:0db8:0000:0000:ffff::1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, is_same: bool) -> None:
    counted = addresses(1)
    assert counted.has_room(one)
    counted.enter(one)
    assert counted.has_room(other) != is_same
    assert len(counted) == 1
    counted.leave(other if is_same else one)
    assert counted.has_room(one)
    assert len(counted) == 0


@pytest.mark.parametrize("peer", ["192.0.2.9", "2001:db8::7", "2001:db8::7%eth0"])
def test_who_is_trusted_is_not_bounded(peer: str) -> None:
    bounded, trusting = addresses(1, "198.51.100.0/24"), addresses(1, "192.0.2.0/28", "2001:db8::/32")
    for counted in (bounded, trusting):
        counted.enter(peer)
    assert not bounded.has_room(peer)
    assert trusting.has_room(peer)


@pytest_asyncio.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Daemon]:
    toml = '[limits]\nconnections_per_address = 4\ntrusted_addresses = ["127.0.0.8/31"]'
    async with Origin() as origin, running(tmp_path, Settings([origin.url], toml=toml)) as daemon:
        yield daemon
        no_exceptions(daemon)


async def test_one_connection_more_than_an_address_may_have(edge: Daemon) -> None:
    """It is closed at once; others, and those that are trusted, are served; where one leaves there is room again."""

    async def connected(source: str) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, local_addr=(source, 0))
        return Wire(reader, writer)

    async def is_served(client: Wire) -> bool:
        try:
            return (await client.get("/gen/1k/a")).status == 200
        except (AssertionError, OSError):
            client.writer.close()
            return False

    clients = [await connected("127.0.0.1") for _ in range(4)]
    assert all([await is_served(client) for client in clients])
    assert not await is_served(await connected("127.0.0.1"))
    await edge.eventually("edge_connections_refused_total", 1, limit="connections_per_address")
    others = [await connected("127.0.0.2") for _ in range(4)] + [await connected("127.0.0.9") for _ in range(9)]
    assert all([await is_served(client) for client in others])
    assert await is_served(clients[0])

    # in whatever way a connection ends, its place is free again
    endings: list[Callable[[Wire], object]] = [
        lambda client: client.writer.close(),
        lambda client: client.writer.write(b"rubbish\r\n\r\n"),
        lambda client: client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        lambda client: client.writer.transport.abort(),
    ]
    for client, end in zip(clients, endings, strict=True):
        end(client)
        with contextlib.suppress(OSError):
            await client.reader.read()
        client.writer.close()
    async with asyncio.timeout(15):
        again: list[Wire] = []
        while len(again) < 4:
            client = await connected("127.0.0.1")
            if await is_served(client):
                again.append(client)
    assert not await is_served(await connected("127.0.0.1"))
    for client in (*again, *others):
        client.writer.close()
    await edge.eventually("edge_connections", 0)
    assert await edge.total("edge_connections_refused_total", limit="connections") == 0
