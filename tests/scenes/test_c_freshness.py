"""What is kept, for how long, and what is asked again: by what the origin says of its answers."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest

from loadtest.answer import Request
from loadtest.content import etag, expected
from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Client, Reply, get
from tests.kit.daemon import Daemon, Settings, running
from tests.kit.until import landed, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = 100 << 10
CAUTIOUS = 'heuristic_max = 0\nset_cookie = "pass"\n'
COLLAPSED = "edge_fill_collapsed_requests_total"


def settings(url: str) -> Settings:
    return Settings(
        [url],
        workers=2,
        ram="512MiB",
        site=CAUTIOUS + '[sites.default_freshness]\n"video/*" = "1h"\n"text/vtt" = "1h"',
    )


async def stored(origin: Origin, edge: Daemon, path: str, step: Step, *lines: str) -> bool:
    """Whether a second request for a path is answered without the origin."""
    origin.script(path, [step])
    one = await get(edge.port, path, *lines)
    await landed(edge)
    two = await get(edge.port, path, *lines)
    assert (one.status, one.whole, two.status, two.whole) == (200, True, 200, True)
    assert one.body == two.body == expected(path, 0, SIZE)
    return len(origin.requests_for(path)) == 1


def control(value: str | None, **others: str | None) -> Step:
    return Step(headers={"Cache-Control": value, **{name.replace("_", "-"): text for name, text in others.items()}})


NOW = time.time()


class TestWhatTheOriginSays:
    @pytest.mark.rfc("9111-3", "9111-4.2.1")
    @pytest.mark.parametrize(
        ("name", "step", "is_kept"),
        [
            ("max-age", control("max-age=600"), True),
            ("s-maxage-first", control("max-age=0, s-maxage=600"), True),
            ("s-maxage-zero", control("max-age=600, s-maxage=0"), False),
            ("expires", control(None, Expires=formatdate(NOW + 600, usegmt=True)), True),
            ("expired", control(None, Expires=formatdate(NOW - 600, usegmt=True)), False),
            ("expires-zero", control(None, Expires="0"), False),
            ("max-age-over-expires", control("max-age=600", Expires="0"), True),
            ("no-store", control("no-store, max-age=600"), False),
            ("private", control("private, max-age=600"), False),
            ("no-cache", control("no-cache, max-age=600"), False),
            ("nothing", control(None), False),
            ("aged", control("max-age=600", Age="700"), False),
            ("vary-star", control("max-age=600", Vary="*"), False),
            ("vary-cookie", control("max-age=600", Vary="Cookie"), True),
            ("vary-coding", control("max-age=600", Vary="Accept-Encoding"), True),
            ("set-cookie", control("max-age=600", Set_Cookie="viewer=1"), False),
        ],
    )
    async def test_is_kept(self, origin: Origin, edge: Daemon, name: str, step: Step, is_kept: bool) -> None:
        assert await stored(origin, edge, f"/gen/100k/says-{name}", step) is is_kept

    @pytest.mark.rfc("9111-4.2.2")
    async def test_a_media_type_may_have_a_freshness_of_its_own(self, origin: Origin, edge: Daemon) -> None:
        assert await stored(origin, edge, "/gen/100k/default.m4s", control(None))
        assert await stored(origin, edge, "/gen/100k/default.vtt", control(None))
        assert not await stored(origin, edge, "/gen/100k/default.mpd", control(None))
        # the origin's own word counts more
        assert not await stored(origin, edge, "/gen/100k/own-word.m4s", control("max-age=0"))

    @pytest.mark.rfc("9111-4.2.3", "9111-5.1")
    async def test_age_is_told(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/age"
        origin.script(path, [control("max-age=600", Age="100")])
        await get(edge.port, path)
        assert 100 <= int((await get(edge.port, path)).field("Age") or "") < 130


class TestWhatIsStale:
    @pytest.mark.rfc("9111-4.3.1", "9111-4.3.4")
    async def test_is_confirmed_without_its_bytes(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/confirmed"
        origin.script(path, [control("max-age=0"), control("max-age=0"), control("max-age=600")])
        await get(edge.port, path)
        for _ in range(2):
            await landed(edge)
            reply = await get(edge.port, path)
            assert reply.body == expected(path, 0, SIZE)
            assert "stale" in (reply.field("Cache-Status") or "")
        await landed(edge)
        # the second 304 said how long it is fresh from then on
        hit = await get(edge.port, path)
        assert "hit" in (hit.field("Cache-Status") or "")
        assert hit.body == expected(path, 0, SIZE)
        assert [entry.status for entry in origin.requests_for(path)] == [200, 304, 304]
        asked = origin.requests_for(path)[1]
        assert asked.header("If-None-Match") == etag(path)
        assert asked.header("If-Modified-Since") == "Mon, 01 Jan 2024 00:00:00 GMT"
        assert [entry.body_bytes for entry in origin.requests_for(path)] == [SIZE, 0, 0]
        outcomes = ["miss", "revalidated", "revalidated", "hit"]

        async def logged() -> bool:
            # two workers write it, each in its time
            return sorted(line["outcome"] for line in edge.log_lines() if line["target"] == path) == sorted(outcomes)

        await until(logged)

    @pytest.mark.rfc("9111-4.3.1", "9110-13.1.3")
    async def test_is_confirmed_by_its_date_where_it_has_no_tag(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/dated"
        step = control("max-age=0", ETag=None)
        origin.script(path, [step])
        await get(edge.port, path)
        await landed(edge)
        assert (await get(edge.port, path)).body == expected(path, 0, SIZE)
        assert [entry.status for entry in origin.requests_for(path)] == [200, 304]
        assert origin.requests_for(path)[1].header("If-None-Match") is None

    @pytest.mark.rfc("9111-5.2.2.4")
    async def test_no_cache_is_asked_about_each_time(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/no-cache"
        origin.script(path, [control("no-cache")])
        for _ in range(4):
            assert (await get(edge.port, path)).body == expected(path, 0, SIZE)
            await landed(edge)
        assert [entry.status for entry in origin.requests_for(path)] == [200, 304, 304, 304]

    @pytest.mark.rfc("9111-4", "9111-4.3")
    async def test_is_asked_about_once_for_all(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/once-for-all"
        gate = asyncio.Event()
        origin.script(path, [control("max-age=0"), Step(gate=gate, headers={"Cache-Control": "max-age=600"})])
        await get(edge.port, path)
        await landed(edge)
        before = await edge.total(COLLAPSED)
        clients = [asyncio.create_task(get(edge.port, path)) for _ in range(30)]
        await edge.eventually(COLLAPSED, before + 29)
        gate.set()
        body = expected(path, 0, SIZE)
        assert all(reply.whole and reply.body == body for reply in await asyncio.gather(*clients))
        assert [entry.status for entry in origin.requests_for(path)] == [200, 304]

    @pytest.mark.rfc("9111-3.2", "9111-4.3.4")
    async def test_a_304_tells_of_new_fields_but_hands_on_no_cookie(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/new-fields"
        second = control("max-age=600", X_News="yes", Set_Cookie="viewer=1")
        origin.script(path, [control("max-age=0"), second])
        for _ in range(2):
            await get(edge.port, path)
            await landed(edge)
        reply = await get(edge.port, path)
        assert reply.field("X-News") == "yes"
        assert reply.field("Set-Cookie") is None
        assert len(origin.requests_for(path)) == 2

    @pytest.mark.rfc("9111-4.3.4")
    async def test_a_304_that_names_another_tag_confirms_nothing(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/wrong-304"
        origin.script(
            path,
            [control("max-age=0"), Step(status=304, headers={"ETag": '"other"'}), Step(version=1)],
        )
        await get(edge.port, path)
        await landed(edge)
        reply = await get(edge.port, path)
        assert (reply.status, reply.field("ETag")) == (200, etag(path, 1))
        assert reply.body == expected(path, 0, SIZE, version=1)
        assert origin.requests_for(path)[2].header("If-None-Match") is None

    @pytest.mark.rfc("9111-4.3.3")
    async def test_has_changed(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/changed"
        origin.script(path, [control("max-age=0"), Step(version=1)])
        assert (await get(edge.port, path)).body == expected(path, 0, SIZE)
        for _ in range(2):
            await landed(edge)
            reply = await get(edge.port, path)
            assert reply.field("ETag") == etag(path, 1)
            assert reply.body == expected(path, 0, SIZE, version=1)
        assert [entry.status for entry in origin.requests_for(path)] == [200, 200]

    @pytest.mark.rfc("9111-4.3.3")
    async def test_has_changed_under_a_running_transfer(self, origin: Origin, edge: Daemon) -> None:
        """1. A client takes the beginning of an object and pauses; the fill goes on to its end.
        2. The object expires, and is another one at the origin: a second client gets the new one.
        3. The first goes on: its whole body is the old one.
        """
        path = "/gen/40m/running"
        size = 40 << 20
        origin.script(path, [control("max-age=1"), Step(version=1)])
        async with Client(edge.port) as one:
            one.send(path)
            first = await one.head()
            await one.bytes(first, 1000)
            await landed(edge)

            async def changed() -> bool:
                reply = await get(edge.port, path, "Range: bytes=0-9")
                version = 1 if reply.field("ETag") == etag(path, 1) else 0
                assert reply.body == expected(path, 0, 10, version=version)
                return version == 1

            await until(changed)
            await get(edge.port, path)
            await one.body(first)
        assert first.whole
        assert first.field("ETag") == etag(path)
        assert first.body == expected(path, 0, size)
        whole = await get(edge.port, path)
        assert whole.body == expected(path, 0, size, version=1)

    @pytest.mark.rfc("9111-3.4")
    async def test_a_part_is_completed_after_it_was_confirmed(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/8m/stale-part"
        origin.script(path, [control("max-age=0"), control("max-age=600")])
        await get(edge.port, path, "Range: bytes=0-9")
        await landed(edge)
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.body == expected(path, 0, 8 << 20)
        assert sum(entry.body_bytes for entry in origin.requests_for(path)) == 8 << 20


class TestWhatIsForOne:
    @pytest.mark.rfc("9111-3", "9111-5.2.2")
    @pytest.mark.parametrize("name", ["no-store", "private", "vary"])
    async def test_fifty_clients_of_an_uncacheable_answer_are_not_queued(
        self, origin: Origin, edge: Daemon, name: str
    ) -> None:
        """1. Fifty ask at once; one request goes out, and its answer is for one.
        2. The other forty-nine go out at the same time: none waits for another's answer.
        3. Each has the answer to its own request.
        """
        path = f"/gen/1k/one-{name}"
        head, bodies = asyncio.Event(), asyncio.Event()
        headers: dict[str, str | None] = {"Cache-Control": "max-age=60" if name == "vary" else name}
        if name == "vary":
            headers["Vary"] = "*"
        numbers = iter(range(1000))

        def answer(request: Request) -> Step:
            number = next(numbers)
            body = f"for {request.header('X-Name')}".encode()
            gate = head if number == 0 else bodies
            return Step(status=200, body=body, headers=headers, gate=gate)

        origin.on(path, answer)
        before = await edge.total(COLLAPSED)
        clients = [asyncio.create_task(get(edge.port, path, f"X-Name: {number}")) for number in range(50)]
        await edge.eventually(COLLAPSED, before + 49)
        head.set()
        await origin.seen(path, 50)  # all are there, though none but the first has an answer
        bodies.set()
        replies: list[Reply] = await asyncio.gather(*clients)
        assert [reply.body for reply in replies] == [f"for {number}".encode() for number in range(50)]
        # for a while the next ones ask for themselves at once
        await asyncio.gather(*(get(edge.port, path, "X-Name: 7") for _ in range(10)))
        assert await edge.total(COLLAPSED) == before + 49
        assert len(origin.requests_for(path)) == 60

    @pytest.mark.rfc("9111-3.5")
    async def test_an_answer_to_authorization_is_for_who_asked(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/1k/authorized"

        def answer(request: Request) -> Step:
            who = request.header("Authorization") or "all"
            return Step(status=200, body=f"for {who}".encode(), headers={"Cache-Control": "max-age=600"})

        origin.on(path, answer)
        assert (await get(edge.port, path, "Authorization: a")).body == b"for a"
        assert (await get(edge.port, path, "Authorization: b")).body == b"for b"
        # what says nothing of itself gets what is for all, which is kept whoever asked before
        for _ in range(3):
            assert (await get(edge.port, path)).body == b"for all"
        assert len(origin.requests_for(path)) == 3

    @pytest.mark.rfc("9111-3.5")
    async def test_one_with_authorization_does_not_lead_a_herd_to_the_origin(
        self, origin: Origin, edge: Daemon
    ) -> None:
        path = "/gen/1k/authorized-herd"
        gate = asyncio.Event()

        def answer(request: Request) -> Step:
            who = request.header("Authorization") or "all"
            return Step(status=200, body=f"for {who}".encode(), headers={"Cache-Control": "max-age=600"}, gate=gate)

        origin.on(path, answer)
        before = await edge.total(COLLAPSED)
        first = asyncio.create_task(get(edge.port, path, "Authorization: a"))
        await origin.seen(path)
        clients = [asyncio.create_task(get(edge.port, path)) for _ in range(20)]
        await edge.eventually(COLLAPSED, before + 20)
        gate.set()
        assert (await first).body == b"for a"
        assert all(reply.body == b"for all" for reply in await asyncio.gather(*clients))
        assert len(origin.requests_for(path)) == 2

    @pytest.mark.rfc("9111-3.5", "9111-5.2.2.9")
    async def test_what_is_public_is_kept_for_all_even_so(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/authorized-public"
        assert await stored(origin, edge, path, control("public, max-age=600"), "Authorization: a")
        assert (await get(edge.port, path)).whole
        assert len(origin.requests_for(path)) == 1

    async def test_a_shared_answer_is_asked_for_without_what_is_one_viewers(self, origin: Origin, edge: Daemon) -> None:
        path = "/gen/100k/shared-request"
        await get(
            edge.port,
            path,
            "Accept-Encoding: gzip",
            'If-None-Match: "x"',
            "CMCD-Session: sid=1",
            "Cache-Control: no-cache",
        )
        sent = origin.requests_for(path)[0]
        for name in ("Accept-Encoding", "If-None-Match", "CMCD-Session", "Cache-Control"):
            assert sent.header(name) is None
        assert sent.header("Via") is not None
        assert sent.header("Host") == "test"


@pytest.mark.rfc("9111-4.2.2")
async def test_no_freshness_is_made_up(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where it is switched off, what the origin does not call fresh is asked about each time. (And nothing is
    remembered of uncacheable answers, where that is switched off: each flight ends with the one who began it.)
    """
    plain = Settings([origin.url], site="heuristic_max = 0\n", toml="[fill]\nbypass_memory = 0\n")
    async with running(tmp_path_factory.mktemp("plain"), plain) as edge:
        path = "/gen/100k/made-up.m4s"
        origin.script(path, [control(None)])
        for _ in range(3):
            assert (await get(edge.port, path)).body == expected(path, 0, SIZE)
            await landed(edge)
        assert [entry.status for entry in origin.requests_for(path)] == [200, 304, 304]

        path = "/gen/1k/forgotten"
        gate = asyncio.Event()
        origin.script(path, [Step(status=200, body=b"x", headers={"Cache-Control": "no-store"}, gate=gate)])
        clients = [asyncio.create_task(get(edge.port, path)) for _ in range(20)]
        await edge.eventually(COLLAPSED, 19)
        gate.set()
        assert [bytes(reply.body) for reply in await asyncio.gather(*clients)] == [b"x"] * 20

        # while a slow uncacheable answer is under way, the next who ask are served as well
        path = "/gen/1k/slow-for-one"
        slow = asyncio.Event()
        step = Step(status=200, body=b"y" * 1000, headers={"Cache-Control": "no-store"}, gate=slow, gate_after=10)
        origin.script(path, [step, Step(status=200, body=b"y", headers={"Cache-Control": "no-store"})])
        async with Client(edge.port) as one:
            one.send(path)
            first = await one.head()
            assert (await get(edge.port, path)).body == b"y"
            slow.set()
            assert (await one.body(first)).body == b"y" * 1000
