"""What the operator's listener tells: health, status, metrics; and that no client can make it tell more and more."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from edge import __version__
from edge.terms import Outcome, Reason, Source
from tests.kit.daemon import Daemon, Settings, running
from tests.kit.origin import Origin
from tests.serve.wire import exchange, get, no_exceptions, request, stored, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNITS = ("_seconds", "_bytes", "_info", "_ratio")
NOT_BASE = ("_ms", "_milliseconds", "_us", "_minutes", "_hours", "_kb", "_kib", "_mb", "_mib", "_percent", "_kilobytes")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    settings = Settings([origin.url], workers=2, ram="256MiB", ssd="64MiB")
    async with running(tmp_path_factory.mktemp("edge"), settings) as daemon:
        await get(daemon, "/gen/1k/first")
        yield daemon


async def asked(edge: Daemon, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    headers = {"Accept": accept}
    async with aiohttp.ClientSession() as session, session.get(edge.control + path, headers=headers) as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def families(edge: Daemon) -> dict[str, Metric]:
    _, _, text = await asked(edge, "/metrics")
    return {family.name: family for family in text_string_to_metric_families(text)}


async def series(edge: Daemon) -> set[tuple[str, ...]]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items())))
        for family in (await families(edge)).values()
        for sample in family.samples
    }


async def test_health(edge: Daemon) -> None:
    assert (await asked(edge, "/healthz"))[::2] == (200, "alive\n")
    assert (await asked(edge, "/readyz"))[::2] == (200, "ready\n")
    status, _, text = await asked(edge, "/")
    assert status == 200
    for line in text.split():
        assert (await asked(edge, line))[0] == 200
    assert (await asked(edge, "/nothing"))[0] == 404


async def test_it_changes_nothing(edge: Daemon) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/metrics", "/healthz", "/readyz", "/status", "/"):
            for method in ("POST", "PUT", "DELETE"):
                async with session.request(method, edge.control + path) as response:
                    assert response.status == 405


async def moving(edge: Daemon) -> tuple[float, float, float]:
    """What a request under way changes."""
    return (
        await edge.total("edge_requests_total", outcome="miss"),
        await edge.total("edge_response_bytes_total", source="origin"),
        await edge.total("edge_objects"),
    )


async def test_status(edge: Daemon, origin: Origin) -> None:
    await get(edge, "/gen/1k/status")
    async with asyncio.timeout(10):
        while not await edge.total("edge_objects") or not await edge.total("edge_requests_total", outcome="miss"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        counted = await moving(edge)
        while True:  # workers count twice a second, and other tests' requests too
            told = await edge.status()
            before, counted = counted, await moving(edge)
            if before == counted:
                break
    assert told["version"] == __version__
    assert 0 < told["uptime_s"] < 600
    assert told["ready"] is True
    assert told["not_ready"] == []
    assert set(told["requests"]) == {outcome.value for outcome in Outcome}
    assert set(told["bytes"]) == {source.value for source in Source}
    misses, origin_bytes, objects = counted
    assert told["requests"]["miss"] == misses
    assert told["bytes"]["origin"] == origin_bytes >= 1024
    assert told["objects"] == objects >= 1
    assert told["fills"] == []
    assert told["connections"] >= 0
    assert told["transfers"] >= 0
    (site,) = told["sites"]
    assert (site["name"], site["hosts"], site["origins"]) == ("test", ["*"], [origin.url])
    assert edge.process is not None
    roles = [(one["role"], one.get("index")) for one in told["processes"]]
    assert sorted(roles, key=str) == [("manager", None), ("supervisor", None), ("worker", 0), ("worker", 1)]
    assert {one["pid"] for one in told["processes"] if one["role"] == "supervisor"} == {edge.process.pid}
    for one in told["processes"]:
        os.kill(one["pid"], 0)
    ram, ssd = told["disks"]
    assert (ram["tier"], ram["path"], ram["capacity_bytes"]) == ("ram", str(edge.ram_folder), 256 << 20)
    assert (ssd["tier"], ssd["path"], ssd["capacity_bytes"]) == ("ssd", str(edge.folder / "ssd0"), 64 << 20)
    assert 1024 <= ram["used_bytes"] < 16 << 20
    assert ram["uuid"] != ssd["uuid"]


async def test_metrics_keep_prometheus_s_rules(edge: Daemon) -> None:
    found = await families(edge)
    assert len(found) > 15
    for name, family in found.items():
        assert name.startswith("edge_"), name
        assert family.documentation.endswith("."), name
        assert family.type in ("counter", "gauge", "histogram", "info"), name
        assert not name.endswith(NOT_BASE), name
        if family.type == "counter":
            assert all(sample.name == f"{name.removesuffix('_total')}_total" for sample in family.samples), name
        else:
            assert not name.endswith("_total"), name
        if family.type == "histogram":
            assert name.endswith("_seconds"), name
        assert family.samples or not family.documentation, name
        labels = {label for sample in family.samples for label in sample.labels}
        assert labels <= {
            "outcome",
            "source",
            "code_class",
            "reason",
            "limit",
            "tier",
            "disk",
            "to",
            "origin",
            "le",
            "version",
            "site",
        }
        for sample in family.samples:
            assert sample.value >= 0, sample


async def test_metrics_are_openmetrics_for_whoever_wants_them(edge: Daemon) -> None:
    status, kind, text = await asked(edge, "/metrics", OPENMETRICS)
    assert status == 200
    assert kind.startswith("application/openmetrics-text")
    strict = {family.name for family in openmetrics_families(text)}  # type: ignore[no-untyped-call]
    status, kind, text = await asked(edge, "/metrics")
    assert kind.startswith("text/plain")
    assert {name.removesuffix("_total").removesuffix("_info") for name in await families(edge)} == {
        name.removesuffix("_info") for name in strict
    }
    helps = [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert helps == types
    assert len(set(helps)) == len(helps)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_metrics_pass_promtool(edge: Daemon) -> None:
    _, _, text = await asked(edge, "/metrics")
    process = await asyncio.create_subprocess_exec(
        "promtool", "check", "metrics", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(text.encode())
    assert (process.returncode, out) == (0, b"")


async def test_histograms_add_up(edge: Daemon) -> None:
    for family in (await families(edge)).values():
        if family.type != "histogram":
            continue
        rows: dict[tuple[tuple[str, str], ...], list[float]] = {}
        counts = {}
        for sample in family.samples:
            key = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
            if sample.name.endswith("_bucket"):
                rows.setdefault(key, []).append(sample.value)
            elif sample.name.endswith("_count"):
                counts[key] = sample.value
        assert rows
        for key, buckets in rows.items():
            assert buckets == sorted(buckets)
            assert counts[key] == buckets[-1]


async def test_every_reason_is_there_before_it_happens(edge: Daemon) -> None:
    """A rate over a series that appears with its first event misses that event."""
    found = (await families(edge))["edge_errors"]
    assert {sample.labels["reason"] for sample in found.samples} == {reason.value for reason in Reason}


async def test_requests_are_counted_once_each(edge: Daemon) -> None:
    await stored(edge, "/gen/4k/counted")
    total = -1.0
    while total != (now := await edge.total("edge_requests_total")):
        total = now
        await asyncio.sleep(1.1)  # what others asked is counted by then
    before = await edge.metrics()
    async with wire(edge) as client:
        await client.get("/gen/4k/miss")
        for _ in range(10):
            await client.get("/gen/4k/counted")
        await client.get("/gen/4k/counted", "Range: bytes=0-9")
        await client.get("/missing")
    await edge.eventually("edge_requests_total", total + 13)
    after = await edge.metrics()
    changed = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    assert changed["edge_requests_total", "2xx", "miss", "origin"] == 1
    assert changed["edge_requests_total", "2xx", "hit", "ram"] == 11
    assert changed["edge_response_bytes_total", "ram"] == 10 * 4096 + 10
    assert changed["edge_first_byte_seconds_count", "ram"] == 11


async def test_no_client_can_make_a_series(edge: Daemon) -> None:
    """Two hundred strange requests: paths, hosts, methods, versions, agents, statuses of the origin's."""
    before = await series(edge)
    for number in range(40):
        reply = await get(edge, f"/gen/1k/{number}?status={200 + number * 10}&x={number}", host=f"host-{number}.test")
        assert reply.status
        await get(edge, f"/strange/{number}", "User-Agent: " + "x" * number, method=f"METHOD{number}")
        await exchange(edge, f"GET /{number} HTTP/{number % 10}.{number % 3}\r\n\r\n".encode())
        await exchange(edge, bytes([number]) + b"\r\n\r\n")
        await exchange(edge, request(f"/%{number}", "Range: bytes=x", "Connection: close"))
    await edge.eventually("edge_connections", 0)
    assert await series(edge) == before


async def test_a_worker_that_is_killed(edge: Daemon) -> None:
    """It is replaced, no count falls, and for as long as it is not there the box says that it is not ready."""
    before = await edge.metrics()
    restarts = await edge.total("edge_process_restarts_total")
    pids = await edge.pids("worker")
    os.kill(pids[0], signal.SIGKILL)
    reasons = set()
    async with asyncio.timeout(15):
        while await edge.total("edge_process_restarts_total") == restarts or (await asked(edge, "/readyz"))[0] != 200:
            status, _, text = await asked(edge, "/readyz")
            if status == 503:
                reasons |= set(text.splitlines())
            await asyncio.sleep(0.02)
    assert reasons
    assert all(reason.startswith("worker-0 ") for reason in reasons), reasons
    after = await edge.metrics()
    assert not [key for key in before if "_total" in key[0] and after[key] < before[key]]
    assert await edge.total("edge_process_restarts_total") == restarts + 1
    found = await edge.pids("worker")
    assert len(found) == 2
    assert pids[0] not in found
    assert pids[1] in found
    for _ in range(20):
        assert (await get(edge, "/gen/1k/first")).status == 200
    text = edge.output.read_text()
    assert text.count('"role": "worker-0"') == 1
    assert "Traceback" not in text


async def test_a_manager_that_is_killed_keeps_the_counts(edge: Daemon) -> None:
    before = await edge.metrics()
    restarts = await edge.total("edge_process_restarts_total")
    (manager,) = await edge.pids("manager")
    os.kill(manager, signal.SIGKILL)
    async with asyncio.timeout(15):
        while await edge.total("edge_process_restarts_total") == restarts:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    after = await edge.metrics()
    assert not [key for key in before if "_total" in key[0] and after.get(key, 0) < before[key]]


async def test_a_stopped_worker_is_not_ready(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One that hangs, that is: it is there, and does nothing."""
    async with running(tmp_path_factory.mktemp("hung"), Settings([origin.url])) as edge:
        (worker,) = await edge.pids("worker")
        os.kill(worker, signal.SIGSTOP)
        try:
            async with asyncio.timeout(15):
                while (told := await asked(edge, "/readyz"))[0] == 200:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
            assert told[2] == "worker-0 does not answer\n"
            assert (await edge.status())["not_ready"] == ["worker-0 does not answer"]
        finally:
            os.kill(worker, signal.SIGCONT)
        async with asyncio.timeout(15):
            while (await asked(edge, "/readyz"))[0] != 200:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        no_exceptions(edge)
