"""The store as a worker has it: look up, open, read. It never writes but to note an access."""

from __future__ import annotations

from edge.config import Config
from edge.store.disk import Disk
from edge.store.index import IndexReader
from edge.store.layout import Layout, open_disks
from edge.store.record import Record
from edge.store.slots import SlotTable


class StoreReader:
    def __init__(self, config: Config) -> None:
        layout = Layout(config)
        self._index = IndexReader(layout.index, config.limits.objects)
        self.slots = SlotTable(layout.slots, config.limits.objects, write=False)
        self.disks: dict[int, Disk] = open_disks(config, self._index)

    def lookup(self, key: bytes) -> Record | None:
        """The record of a stored object whose slot confirms it; anything else is the manager's to know."""
        record = self._index.get(key)
        if record is None or self.slots.stamp(record.slot) != record.stamp:
            return None
        return record

    def place(self, record: Record) -> Disk | None:
        """The fastest disk that has the object, or None when it was taken out."""
        return self.disks.get(record.copy) or self.disks.get(record.home)

    def close(self) -> None:
        self._index.close()
        self.slots.close()
        for disk in self.disks.values():
            disk.close()
