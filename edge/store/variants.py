"""Resources with variants (RFC 9111, 4.1): a marker under the resource's key, each variant under a key of its own.

    marker    slot and record, no file: the names of the request fields that select, the keys of the variants
    variant   an object as any other; its record names the marker

A marker lives as long as one of its variants; with the marker go all variants, so that what invalidates a resource need
not know whether it has any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from edge.http.fields import Fields
from edge.http.vary import variant_key
from edge.store.record import Record, key_hash
from edge.store.slots import stamp_of

if TYPE_CHECKING:
    from edge.store.tiers import Store

VARIANTS_MAX = 64
"""Of one resource: an origin that varies by what every client has of its own fills no store with it."""


def key_of_variant(url: str, selecting: Sequence[str], request: Fields) -> bytes:
    """The key of the variant that a request selects; `request` is its end-to-end fields."""
    return key_hash(f"{url}\n{variant_key(selecting, request)}")


def mark(store: Store, key: bytes, selecting: tuple[str, ...]) -> Record:
    """Make `key` stand for a resource with variants, in place of whatever it was. Raises StoreFull."""
    before = store.index.get(key)
    if before is not None:
        store.drop(key, before)
    slot = store.take_slot()
    number = store.number()
    now = store.clock.wall()
    record = Record(
        generation=number,
        stamp=stamp_of(number),
        slot=slot,
        status=0,
        size=0,
        body_offset=0,
        slice_size=1,
        home=-1,
        copy=-1,
        held=None,
        fields=tuple((name, "") for name in selecting),
        response_time=now,
        initial_age_s=0.0,
        lifetime_s=0.0,
        request_time=now,
    )
    store.slots.bind(slot, key, record.stamp, int(now))
    store.index.put(key, record)
    return record


def find(store: Store, key: bytes, url: str, request: Fields) -> tuple[bytes, Record | None]:
    """What a request is about: the resource itself, or the variant it selects; and what is stored of that."""
    record = store.lookup(key)
    if record is None or not record.is_marker:
        return key, record
    variant = key_of_variant(url, record.selecting, request)
    return variant, store.lookup(variant)


def choose(store: Store, key: bytes, url: str, request: Fields, names: Sequence[str]) -> bytes | None:
    """The key for an answer whose Vary names these fields; None when there are too many variants already.

    Variants of one resource are told apart by all fields that any of its answers named: more than one of them may need,
    never less. Raises StoreFull.
    """
    marker = store.index.get(key)
    if marker is not None and not marker.is_marker:
        marker = None
    known = marker.selecting if marker is not None else ()
    selecting = tuple(sorted({*known, *names}))
    if not selecting:
        return key
    if marker is None or selecting != known:
        marker = mark(store, key, selecting)
    variant = key_of_variant(url, selecting, request)
    if variant in marker.variants:
        return variant
    listed = marker.variants
    if len(listed) >= VARIANTS_MAX:
        listed = tuple(one for one in listed if one in store.busy or store.index.get(one) is not None)
        if len(listed) >= VARIANTS_MAX:
            return None
    store.index.put(key, msgspec.structs.replace(marker, variants=(*listed, variant)))
    return variant


def settle(store: Store, key: bytes, primary: bytes) -> None:
    """A fill of a variant has ended: where nothing came of it, its marker need not know of it."""
    if key != primary and store.index.get(key) is None:
        _strike_out(store, key, primary)


def dropped(store: Store, key: bytes, record: Record) -> None:
    """What else goes when `record` was dropped: a marker's variants; with the last variant its marker."""
    for variant in record.variants:
        if (one := store.index.get(variant)) is not None:
            store.drop(variant, one)
    if record.primary and key not in store.busy:  # else what takes its place is on its way
        _strike_out(store, key, record.primary)


def _strike_out(store: Store, key: bytes, primary: bytes) -> None:
    marker = store.index.get(primary)
    if marker is None or key not in marker.variants:
        return
    left = tuple(one for one in marker.variants if one != key)
    if left:
        store.index.put(primary, msgspec.structs.replace(marker, variants=left))
    else:
        store.drop(primary, msgspec.structs.replace(marker, variants=()))
