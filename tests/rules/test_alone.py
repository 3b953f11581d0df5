"""What a table cannot tell: an origin that is gone, loops, requests side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import http_sf
import pytest
import pytest_asyncio

from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import get
from tests.kit.daemon import Daemon, Settings, running
from tests.kit.until import landed
from tests.rules.story import Teller

pytestmark = pytest.mark.asyncio(loop_scope="session")
BRIEF = {"Cache-Control": "max-age=1", "ETag": '"t"'}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def abandoned(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    """A daemon that stored a few answers of an origin, which then stopped listening; all of them are stale by now."""
    origin = Origin(cache_control=None)
    await origin.start()
    async with running(tmp_path_factory.mktemp("abandoned"), Settings([origin.url])) as edge:
        for name, more in (("sie", ", stale-if-error=60"), ("must", ", must-revalidate"), ("none", "")):
            headers = BRIEF | {"Cache-Control": BRIEF["Cache-Control"] + more}
            origin.script(f"/{name}", [Step(status=200, body=name.encode(), headers=headers)])
            assert (await get(edge.port, f"/{name}")).body == name.encode()
        await landed(edge)
        await origin.stop()
        await asyncio.sleep(2.3)
        yield edge


@pytest.mark.rfc("5861-4", "9111-4.2.4")
async def test_connection_refused_and_stale_if_error(abandoned: Daemon) -> None:
    reply = await get(abandoned.port, "/sie")
    assert (reply.status, reply.body) == (200, b"sie")


@pytest.mark.rfc("9111-5.2.2.2")
async def test_connection_refused_and_must_revalidate(abandoned: Daemon) -> None:
    assert (await get(abandoned.port, "/must")).status in (502, 504)


@pytest.mark.rfc("9111-4.2.4")
async def test_connection_refused_and_nothing_said(abandoned: Daemon) -> None:
    """A disconnected cache may serve stale; an error is as good."""
    reply = await get(abandoned.port, "/none")
    assert reply.status in (502, 504) or reply.body == b"none"


@pytest.mark.rfc("8586-2")
async def test_a_request_that_was_here_before_does_not_go_on(teller: Teller) -> None:
    path = "/loop"
    teller.origin.script(path, [Step(status=200, body=b"x", headers={"Cache-Control": "no-store"})])
    await get(teller.edge.port, path)
    ids = teller.origin.requests_for(path)[0].header("CDN-Loop")
    assert ids is not None
    reply = await get(teller.edge.port, path, f"CDN-Loop: first.example, {ids}, last.example")
    assert reply.status == 508
    assert len(teller.origin.requests_for(path)) == 1


@pytest.mark.rfc("8586-2")
async def test_a_request_of_other_networks_goes_on(teller: Teller) -> None:
    path = "/no-loop"
    teller.origin.script(path, [Step(status=200, body=b"x", headers={"Cache-Control": "no-store"})])
    reply = await get(teller.edge.port, path, "CDN-Loop: first.example, second.example; x=1")
    assert reply.status == 200


@pytest.mark.rfc("9211-2.6", "9111-4")
async def test_requests_side_by_side_are_one_and_say_so(teller: Teller) -> None:
    path, gate = "/together", asyncio.Event()
    step = Step(status=200, body=b"x" * 1000, headers={"Cache-Control": "max-age=600"}, gate=gate)
    teller.origin.script(path, [step])
    clients = [asyncio.create_task(get(teller.edge.port, path)) for _ in range(5)]
    await teller.origin.seen(path)
    await asyncio.sleep(0.3)
    gate.set()
    replies = await asyncio.gather(*clients)
    assert len(teller.origin.requests_for(path)) == 1
    collapsed = 0
    for reply in replies:
        assert reply.body == b"x" * 1000
        members: Any = http_sf.parse((reply.field("Cache-Status") or "").encode(), tltype="list")
        ((_, parameters),) = members
        assert str(parameters["fwd"]) == "uri-miss"
        collapsed += parameters.get("collapsed", False)
    assert collapsed == 4


@pytest.mark.rfc("9110-4.2.3", "3986-6.2.2")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("/same/a%7Eb", "rules.test"), ("/same/a~b", "rules.test")),
        (("/same/%7ea", "rules.test"), ("/same/%7Ea", "rules.test")),
        (("/same/c", "rules.test"), ("/same/c", "RULES.test:80")),
        (("/same/x/../d", "rules.test"), ("/same/d", "rules.test")),
        (("/same/e", "rules.test"), ("http://rules.test/same/e", "rules.test")),
    ],
    ids=["unreserved", "hexadecimal-case", "host", "dot-segments", "absolute-form"],
)
async def test_spellings_of_one_target_are_one(teller: Teller, first: tuple[str, str], second: tuple[str, str]) -> None:
    teller.origin.on("*", lambda _: Step(status=200, body=b"x", headers={"Cache-Control": "max-age=600"}))
    edge = teller.edge
    assert (await get(edge.port, first[0], host=first[1])).status == 200
    await landed(edge)
    seen = len(teller.origin.log)
    assert "hit" in ((await get(edge.port, second[0], host=second[1])).field("Cache-Status") or "")
    assert len(teller.origin.log) == seen


@pytest.mark.rfc("3986-6.2.2", "9111-2")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/other/a%2Fb", "/other/a/b"),
        ("/other/d", "/other/D"),
        ("/other/e?a&b", "/other/e?b&a"),
    ],
    ids=["reserved", "path-case", "query-order"],
)
async def test_other_targets_are_others(teller: Teller, first: str, second: str) -> None:
    fresh = {"Cache-Control": "max-age=600"}
    teller.origin.on("*", lambda request: Step(status=200, body=request.target.encode(), headers=fresh))
    for target in (first, second):
        reply = await get(teller.edge.port, target)
        assert reply.body == target.encode()
