"""What an operator adds to the origin's word: short times for errors, stale answers, CORS, cookies, cache keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Reply, get
from tests.kit.daemon import Daemon, Settings, running
from tests.kit.until import landed
from tests.rules.story import LOST, says

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAYER = "https://player.test"
CORS = f"""
not_found_freshness = "30s"
error_freshness = "30s"
heuristic_max = 0
stale_while_revalidate = "60s"
stale_if_error = "60s"
request_directives = false
set_cookie = "pass"
[sites.cors]
origins = ["{PLAYER}"]
credentials = true
max_age = "10m"
[sites.cache_key]
query = "drop"
names = ["token"]
sort = true
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def origin() -> AsyncIterator[Origin]:
    async with Origin(cache_control=None) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    async with running(tmp_path_factory.mktemp("operator"), Settings([origin.url], workers=2, site=CORS)) as daemon:
        yield daemon


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_to_all(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    settings = Settings([origin.url], site="[sites.cors]\n")
    async with running(tmp_path_factory.mktemp("open"), settings) as daemon:
        yield daemon


async def twice(edge: Daemon, path: str, *lines: str) -> tuple[Reply, Reply]:
    first = await get(edge.port, path, *lines)
    await landed(edge)
    return first, await get(edge.port, path, *lines)


@pytest.mark.rfc("9111-3", "9111-4.2.2")
@pytest.mark.parametrize("status", [404, 410, 500, 502, 503, 504])
async def test_errors_have_a_short_time_of_their_own(origin: Origin, edge: Daemon, status: int) -> None:
    path = f"/negative-{status}"
    origin.script(path, [says("gone", None, status), says("back", "max-age=60")])
    replies = await twice(edge, path)
    assert [(reply.status, reply.body) for reply in replies] == [(status, b"gone")] * 2
    assert len(origin.requests_for(path)) == 1


@pytest.mark.rfc("9111-5.2.2.5")
async def test_but_the_origin_s_word_goes_first(origin: Origin, edge: Daemon) -> None:
    path = "/negative-not-stored"
    origin.script(path, [says("gone", "no-store", 404), says("back", "max-age=60")])
    replies = await twice(edge, path)
    assert [reply.status for reply in replies] == [404, 200]


@pytest.mark.rfc("5861-3")
async def test_stale_at_once_and_fresh_behind_it(origin: Origin, edge: Daemon) -> None:
    path, gate = "/swr", asyncio.Event()
    slow = Step(status=200, body=b"new", headers={"Cache-Control": "max-age=60", "ETag": '"2"'}, gate=gate)
    origin.script(path, [says("old", "max-age=1", ETag='"1"'), slow])
    await get(edge.port, path)
    await landed(edge)
    await asyncio.sleep(1.3)
    for _ in range(3):  # the origin is asked once, and nobody waits for it
        reply = await get(edge.port, path)
        assert (reply.body, reply.field("Cache-Status")) == (b"old", "edge; hit; ttl=0; detail=ram") or (
            reply.body == b"old" and "; hit; ttl=-" in (reply.field("Cache-Status") or "")
        )
    await origin.seen(path, 2)
    gate.set()
    await landed(edge)
    assert (await get(edge.port, path)).body == b"new"
    assert len(origin.requests_for(path)) == 2


@pytest.mark.rfc("5861-4", "9111-4.2.4")
@pytest.mark.parametrize("failure", [LOST, says("broken", "no-store", 503)], ids=["lost", "503"])
async def test_stale_while_the_origin_fails(origin: Origin, edge: Daemon, failure: Step) -> None:
    path = f"/sie-{failure.status}"
    first = says("old", "max-age=1, stale-while-revalidate=0", ETag='"1"')
    origin.script(path, [first, failure, failure, says("new", "max-age=60", ETag='"2"')])
    await get(edge.port, path)
    await landed(edge)
    await asyncio.sleep(1.3)
    reply = await get(edge.port, path)
    assert (reply.status, reply.body) == (200, b"old")
    asked = len(origin.requests_for(path))
    assert (await get(edge.port, path)).body == b"old"
    assert len(origin.requests_for(path)) == asked  # for a moment a failing origin is left alone


@pytest.mark.rfc("9111-5.2.1")
async def test_a_client_s_directives_may_be_ignored(origin: Origin, edge: Daemon) -> None:
    path = "/ignored"
    origin.script(path, [says("one", "max-age=60"), says("two", "max-age=60")])
    await twice(edge, path)
    for value in ("no-cache", "max-age=0", "no-store", "only-if-cached"):
        assert (await get(edge.port, path, f"Cache-Control: {value}")).body == b"one"
    assert len(origin.requests_for(path)) == 1


@pytest.mark.rfc("9111-7.3")
async def test_cookies_may_be_kept_out_of_the_store(origin: Origin, edge: Daemon) -> None:
    path = "/cookie"
    origin.script(path, [says("one", "max-age=60", Set_Cookie="a=1"), says("two", "max-age=60", Set_Cookie="a=2")])
    replies = await twice(edge, path)
    assert [(reply.body, reply.field("Set-Cookie")) for reply in replies] == [(b"one", "a=1"), (b"two", "a=2")]


class TestCors:
    def fields(self, reply: Reply) -> dict[str, str]:
        return {name.lower(): value for name, value in reply.fields if name.lower().startswith("access-control-")}

    async def test_a_preflight_is_answered_here(self, origin: Origin, edge: Daemon) -> None:
        path = "/preflight"
        lines = (f"Origin: {PLAYER}", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: range")
        reply = await get(edge.port, path, *lines, method="OPTIONS")
        assert (reply.status, reply.body) == (204, b"")
        assert "Range" in self.fields(reply).pop("access-control-allow-headers")
        assert (
            self.fields(reply).items()
            >= {
                "access-control-allow-origin": PLAYER,
                "access-control-allow-methods": "GET, HEAD, OPTIONS",
                "access-control-allow-credentials": "true",
                "access-control-max-age": "600",
            }.items()
        )
        assert "Origin" in (reply.field("Vary") or "")
        assert not origin.requests_for(path)

    @pytest.mark.parametrize(
        "lines",
        [
            ("Origin: https://other.test", "Access-Control-Request-Method: GET"),
            (f"Origin: {PLAYER}", "Access-Control-Request-Method: DELETE"),
        ],
        ids=["origin", "method"],
    )
    async def test_who_may_not_is_not_told_so(self, edge: Daemon, lines: tuple[str, ...]) -> None:
        reply = await get(edge.port, "/preflight", *lines, method="OPTIONS")
        assert (reply.status, self.fields(reply)) == (204, {})

    async def test_one_object_serves_every_web_site(self, origin: Origin, edge: Daemon) -> None:
        """The origin's own word is not used, nor is it told who asks."""
        path = "/cors"
        answer = says("x", "max-age=60", Vary="Origin", Access_Control_Allow_Origin="https://wrong.test")
        origin.script(path, [answer])
        for name in (PLAYER, "https://other.test", None, PLAYER):
            lines = () if name is None else (f"Origin: {name}",)
            for extra in ((), ("Range: bytes=0-0",)):
                reply = await get(edge.port, path, *lines, *extra)
                allowed = PLAYER if name == PLAYER else None
                assert reply.field("Access-Control-Allow-Origin") == allowed
                assert "Origin" in (reply.field("Vary") or "")
            await landed(edge)
        (entry,) = origin.requests_for(path)
        assert entry.header("Origin") is None

    async def test_any_web_site_at_full_speed(self, origin: Origin, open_to_all: Daemon) -> None:
        path = "/cors-any"
        origin.script(path, [says("x", "max-age=60")])
        for name in ("https://one.test", "https://two.test", "https://one.test"):
            reply = await get(open_to_all.port, path, f"Origin: {name}")
            assert self.fields(reply) == {
                "access-control-allow-origin": "*",
                "access-control-expose-headers": "Content-Length, Content-Range, Age, Cache-Status, Date, ETag",
            }
            await landed(open_to_all)
        assert len(origin.requests_for(path)) == 1


@pytest.mark.rfc("3986-6")
async def test_the_key_is_what_the_site_says(origin: Origin, edge: Daemon) -> None:
    path = "/key"
    origin.on(path, lambda request: says(request.target, "max-age=60"))
    first = await get(edge.port, f"{path}?b=2&token=x&a=1")
    await landed(edge)
    for query in ("a=1&b=2", "b=2&a=1&token=y", "a=1&CMCD=bl%3D1&b=2", "%61=1&b=2"):
        reply = await get(edge.port, f"{path}?{query}")
        assert reply.body == first.body, query
    assert (await get(edge.port, f"{path}?a=2&b=1")).body != first.body


async def test_what_is_stored_is_not_decided_by_how_a_path_looks(origin: Origin, edge: Daemon) -> None:
    """Cache deception: a private page asked for as if it were a segment."""
    path = "/account/x.m4s"
    origin.script(path, [says("mine", None), says("yours", None)])
    replies = await twice(edge, path)
    assert [reply.body for reply in replies] == [b"mine", b"yours"]
