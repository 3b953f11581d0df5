"""Whatever arrives, however cut: the worker neither stumbles nor hangs, nor answers what was not asked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Origin
from tests.serve.wire import get, no_exceptions, parse_reply, request, stored, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

WARM = "/gen/1k/warm"
_FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_marks = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    async with running(tmp_path_factory.mktemp("edge"), Settings([origin.url], ram="256MiB")) as daemon:
        await stored(daemon, WARM)
        yield daemon
        no_exceptions(daemon)
        assert await daemon.total("edge_errors_total", reason="internal") == 0
        assert await daemon.total("edge_process_restarts_total") == 0


async def poured(edge: Daemon, data: bytes, cuts: list[int]) -> bytes:
    """Everything that comes back for `data`, sent in these pieces and ended; a hang or a crash fails."""
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    async with wire(edge) as client:
        try:
            for start, end in itertools.pairwise(marks):
                if end > start:
                    await client.send(data[start:end])
                    await asyncio.sleep(0)
            client.end()
            return await client.rest()
        except (ConnectionError, BrokenPipeError):
            return b""


def replies(data: bytes, methods: list[str]) -> list[int]:
    """Statuses of the whole replies; a final one that was broken off counts for nothing."""
    found = []
    for method in methods:
        if not data or (reply := parse_reply(data, method)) is None:
            break
        found.append(reply[0].status)
        data = data[reply[1] :]
    return found


_PIECES = st.sampled_from(
    [
        b"GET ", b"POST ", b"HEAD ", b"/gen/1k/warm", b"/gen/2k/x", b"/echo", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n",
        b"\r\n", b"\r\n\r\n", b"\n", b"Host: a\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Range: bytes=0-1\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"Connection: close\r\n", b": ", b"\x00", b" ",
        b"\xff", b"Expect: 100-continue\r\n", request(WARM), request("/gen/3k/y", "Range: bytes=5-"),
        request("/echo", "Content-Length: 2", method="POST") + b"hi",
    ]
)  # fmt: skip
_CUTS = st.lists(st.integers(0, 4000), max_size=8)


@_FUZZ
@given(
    data=st.one_of(
        st.binary(max_size=300), st.lists(st.one_of(_PIECES, st.binary(max_size=4)), max_size=15).map(b"".join)
    ),
    cuts=_CUTS,
)
async def test_any_bytes_in_any_pieces(edge: Daemon, data: bytes, cuts: list[int]) -> None:
    answer = await poured(edge, data, cuts)
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert (await get(edge, WARM)).is_hit


_SPOILS = st.tuples(
    st.integers(0, 400),
    st.sampled_from(["set", "insert", "drop", "double"]),
    st.sampled_from(b"\r\n\x00\t :aZ0,;\x7f\x80"),
)


@_FUZZ
@given(spoils=st.lists(_SPOILS, min_size=1, max_size=4), cuts=_CUTS)
async def test_a_spoilt_request_with_another_hidden_in_its_body(
    edge: Daemon, origin: Origin, spoils: list[tuple[int, str, int]], cuts: list[int]
) -> None:
    """An upload whose body is a request, and a request behind it. However it is spoilt, what is answered and what the
    origin saw is what a slow and strict reader of the same bytes finds in them.
    """
    mark = next(_marks)
    inner = request(f"/gen/1k/hidden-{mark}")
    data = bytearray(request(f"/echo?{mark}", f"Content-Length: {len(inner)}", "X: y", method="POST") + inner)
    whole = len(data)
    for at, kind, byte in spoils:
        place = at % (len(data) - len(inner))  # the head alone is spoilt
        match kind:
            case "set":
                data[place] = byte
            case "insert":
                data.insert(place, byte)
            case "drop":
                del data[place]
            case "double":
                data[place:place] = data[place : place + 20]
    before = len(origin.log)
    answer = await poured(edge, bytes(data) + request(WARM), cuts)
    statuses = replies(answer, ["GET"] * 4)
    if statuses and statuses[0] >= 400 and statuses[0] not in (404, 405):
        assert len(statuses) == 1 or statuses[0] == 421, (bytes(data), statuses)
    head = bytes(data).partition(b"\r\n\r\n")[0]
    if b"Content-Length: %d\r\n" % len(inner) in head + b"\r\n" and len(data) >= whole:
        seen = [entry.target for entry in origin.log[before:]]
        assert f"/gen/1k/hidden-{mark}" not in seen, (bytes(data), statuses)


@_FUZZ
@given(
    kinds=st.lists(
        st.sampled_from(["hit", "miss", "head", "range", "post", "chunks", "bad target"]), min_size=1, max_size=12
    ),
    cuts=_CUTS,
)
async def test_any_pipeline_in_any_pieces_is_answered_in_order(edge: Daemon, kinds: list[str], cuts: list[int]) -> None:
    made = {
        "hit": (request(WARM), "GET", 200),
        "miss": (request(f"/gen/1k/miss-{next(_marks)}"), "GET", 200),
        "head": (request(WARM, method="HEAD"), "HEAD", 200),
        "range": (request(WARM, "Range: bytes=1-9"), "GET", 206),
        "post": (request("/echo", "Content-Length: 3", method="POST") + b"abc", "POST", 200),
        "chunks": (request("/echo", "Transfer-Encoding: chunked", method="PUT") + b"1\r\na\r\n0\r\n\r\n", "PUT", 200),
        "bad target": (request("/%"), "GET", 400),
    }
    data = b"".join(made[kind][0] for kind in kinds)
    answer = await poured(edge, data, cuts)
    assert replies(answer, [made[kind][1] for kind in kinds]) == [made[kind][2] for kind in kinds]
