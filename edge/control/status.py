"""The status document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge import __version__
from edge.metrics import CONNECTIONS, REQUESTS, RESPONSE_BYTES, TRANSFERS
from edge.terms import Outcome, Source

if TYPE_CHECKING:
    from edge.control.app import Control


def status(control: Control) -> dict[str, Any]:
    """Version, uptime, processes, traffic, tiers, disks and fills, as they are now."""
    pages = control.processes.pages()
    store = control.store
    classes = REQUESTS.values[2]
    requests = {
        outcome.value: sum(
            page.get(REQUESTS, outcome, source, code) for page in pages for source in Source for code in classes
        )
        for outcome in Outcome
    }
    return {
        "version": __version__,
        "uptime_s": round(control.clock.wall() - control.started, 1),
        "ready": not control.processes.not_ready(),
        "not_ready": control.processes.not_ready(),
        "processes": control.processes.describe(),
        "connections": sum(page.get(CONNECTIONS) for page in pages),
        "transfers": sum(page.get(TRANSFERS) for page in pages),
        "requests": requests,
        "bytes": {source.value: sum(page.get(RESPONSE_BYTES, source) for page in pages) for source in Source},
        "objects": store.index.count(),
        "disks": [
            {
                "tier": disk.tier.source.value,
                "path": disk.root,
                "uuid": disk.identity,
                "used_bytes": disk.used_bytes,
                "capacity_bytes": store.space.capacity_bytes(disk),
            }
            for disk in store.disks.values()
        ],
        "fills": control.flights.describe(),
        "sites": [{"name": site.name, "hosts": site.hosts, "origins": site.origins} for site in control.config.sites],
    }
