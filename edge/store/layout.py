"""Where the store's parts lie, and its disks as the configuration and the index name them."""

from __future__ import annotations

import os

from edge.config import Config
from edge.errors import DiskError
from edge.store.disk import Disk, prepare
from edge.store.index import Index, IndexReader


class Layout:
    """The paths under state_dir."""

    def __init__(self, config: Config) -> None:
        self.state_dir = config.state_dir
        self.index = f"{config.state_dir}/index"
        self.slots = f"{config.state_dir}/slots"
        self.run = f"{config.state_dir}/run"
        self.manager_socket = f"{self.run}/manager.sock"
        self.roll = f"{self.run}/processes.json"
        self.lock = f"{config.state_dir}/lock"

    def page(self, role: str) -> str:
        """The metrics page of one process."""
        return f"{self.run}/{role}.page"

    def make(self) -> None:
        os.makedirs(self.run, mode=0o750, exist_ok=True)


def open_disks(config: Config, index: Index | IndexReader) -> dict[int, Disk]:
    """All configured disks by their number; the manager numbers those that are new.

    A number belongs to a UUID for ever, so that adding, removing or reordering disks invalidates nothing on the others.
    """
    numbers: dict[str, int] = index.meta("disks") or {}
    disks: dict[int, Disk] = {}
    for tier, tier_config in config.tiers.named():
        for disk_config in tier_config.disks:
            identity = prepare(disk_config)
            if identity not in numbers:
                numbers[identity] = max(numbers.values(), default=-1) + 1
            number = numbers[identity]
            if number in disks:
                raise DiskError(f"{disk_config.path} is the same disk as {disks[number].root}")
            disks[number] = Disk(number, tier, disk_config, identity)
    if isinstance(index, Index):
        index.set_meta("disks", numbers)
        in_memory = {number for number, disk in disks.items() if disk.in_memory}
        index.set_meta("memory", sorted(in_memory.union(index.meta("memory") or ())))
        index.commit()
    return disks
