"""The operator's listener: metrics, health, status."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from edge import __version__
from edge.clock import Clock
from edge.config import Config
from edge.control.processes import Processes
from edge.control.status import status
from edge.fill.flights import Flights
from edge.metrics import collect
from edge.store.tiers import Store


class Control:
    """All that is told over HTTP to those who run the box. Reads; changes nothing."""

    def __init__(self, config: Config, clock: Clock, store: Store, flights: Flights, supervisor: int) -> None:
        self.config = config
        self.clock = clock
        self.store = store
        self.flights = flights
        self.processes = Processes(config, clock, supervisor)
        self.started = clock.wall()
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(self))
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/status", self._status)
        app.router.add_get("/", self._index)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, sock: socket.socket) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        """Every metric of every process, for Prometheus."""
        await self.processes.refresh()
        generate, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=generate(self._registry), headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        """Whether the daemon is alive: it answers."""
        return web.Response(text="alive\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        """Whether the box should get traffic; if not, why."""
        await self.processes.refresh()
        reasons = self.processes.not_ready()
        return web.Response(
            text="".join(f"{reason}\n" for reason in reasons or ["ready"]), status=503 if reasons else 200
        )

    async def _status(self, _: web.Request) -> web.Response:
        """What there is to know, as JSON."""
        await self.processes.refresh()
        return web.json_response(status(self))

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text="".join(f"/{name}\n" for name in ("metrics", "healthz", "readyz", "status")))


class _Collector:
    """What the pages count, and what the manager knows of the store."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def collect(self) -> Iterator[Metric]:
        control = self._control
        yield from collect(control.processes.pages())
        build = InfoMetricFamily("edge_build", "The running version.")
        build.add_metric((), {"version": __version__})
        yield build
        used = GaugeMetricFamily("edge_disk_used_bytes", "Bytes of objects on a disk.", labels=("tier", "disk"))
        capacity = GaugeMetricFamily("edge_disk_capacity_bytes", "Bytes a disk may hold.", labels=("tier", "disk"))
        for disk in control.store.disks.values():
            labels = (disk.tier.source.value, disk.root)
            used.add_metric(labels, disk.used_bytes)
            capacity.add_metric(labels, control.store.space.capacity_bytes(disk))
        yield used
        yield capacity
        objects = GaugeMetricFamily("edge_objects", "Objects in the index.", value=control.store.index.count())
        yield objects
        flights = GaugeMetricFamily("edge_fills_running", "Objects being filled now.", value=len(control.flights))
        yield flights
        restarts = CounterMetricFamily(
            "edge_process_restarts", "Processes of the daemon that died and were started again."
        )
        restarts.add_metric((), control.processes.restarts())
        yield restarts
