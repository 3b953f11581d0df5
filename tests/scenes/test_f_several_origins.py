"""Origins that are not there, and others behind them."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.content import expected
from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Client, get
from tests.kit.daemon import Daemon, Settings, free_port, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILL = '[fill]\nattempts = 2\nfirst_byte_timeout = "2s"\n'


def settings(url: str) -> Settings:
    return Settings([f"http://127.0.0.1:{free_port()}", url], workers=1, toml=FILL)


async def test_the_second_is_used_where_the_first_refuses(origin: Origin, edge: Daemon) -> None:
    path = "/gen/2m/second"
    reply = await get(edge.port, path)
    assert (reply.status, reply.whole) == (200, True)
    assert reply.body == expected(path, 0, 2 << 20)
    assert len(origin.requests_for(path)) == 1


async def test_the_second_is_used_for_a_part_and_for_a_resumption(origin: Origin, edge: Daemon) -> None:
    path = "/gen/8m/second-part"
    origin.script(path, [Step(), Step(reset_after=100_000), Step()])
    await get(edge.port, path, "Range: bytes=0-9")
    reply = await get(edge.port, path, "Range: bytes=5000000-5999999")
    assert (reply.status, reply.body) == (206, expected(path, 5_000_000, 6_000_000))


async def test_the_second_is_used_for_what_is_passed_on(origin: Origin, edge: Daemon) -> None:
    reply = await get(edge.port, "/gen/100k/head-second", method="HEAD")
    assert (reply.status, reply.field("Content-Length")) == (200, str(100 << 10))


async def test_an_error_of_the_first_is_not_the_last_word(
    origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = "/gen/100k/first-errs"
    async with Origin() as broken:
        broken.on("*", lambda _: Step(status=503, body=b"broken"))
        both = Settings([broken.url, origin.url], toml=FILL)
        async with running(tmp_path_factory.mktemp("both"), both) as edge:
            reply = await get(edge.port, path)
            assert (reply.status, reply.body) == (200, expected(path, 0, 100 << 10))
            assert (broken.requests, len(origin.requests_for(path))) == (1, 1)


async def _speaks_no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


@pytest.mark.rfc("9110-15.6.3")
async def test_none_is_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = await asyncio.start_server(_speaks_no_tls, "127.0.0.1", 0)
    origins = {
        "refused": f"http://127.0.0.1:{free_port()}",
        "unresolved": "http://no-such-host.invalid",
        "tls": f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}",
    }
    sites = [
        f'[[sites]]\nname = "{name}"\nhosts = ["{name}.test"]\norigins = ["{url}"]\n' for name, url in origins.items()
    ]
    none = Settings(["http://127.0.0.1:9"], hosts=["other.test"], toml=FILL + "".join(sites))

    async def refused(edge: Daemon, name: str) -> None:
        async with Client(edge.port) as client:
            for method in ("GET", "HEAD", "GET"):
                reply = await client.get("/gen/1k/a", method=method, host=f"{name}.test")
                assert (reply.status, reply.whole) == (502, True)
                assert reply.field("Cache-Control") == "no-store"
                assert reply.body == (b"" if method == "HEAD" else f"502 origin_{name}\n".encode())
        assert await edge.total("edge_errors_total", reason=f"origin_{name}") >= 3
        assert f'"reason": "origin_{name}"' in edge.output.read_text()

    async with server, running(tmp_path_factory.mktemp("none"), none) as edge:
        await asyncio.gather(*(refused(edge, name) for name in origins))
