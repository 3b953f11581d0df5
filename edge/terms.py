"""The words that are at once enum member, log field and metric label.

Every set here is closed, so that no client and no origin can grow a label.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Outcome(StrEnum):
    """How a request was answered."""

    HIT = "hit"
    MISS = "miss"
    REVALIDATED = "revalidated"
    STALE = "stale"
    PARTIAL = "partial"
    """Some of the bytes were here, the rest came from the origin."""
    BYPASS = "bypass"
    """The answer was for this client alone and was not stored."""
    ERROR = "error"


class Source(StrEnum):
    """Where the first byte of a response came from."""

    RAM = "ram"
    SSD = "ssd"
    HDD = "hdd"
    ORIGIN = "origin"
    EDGE = "edge"
    """The edge itself: an error, a redirect, a 304."""


class TierName(IntEnum):
    """The tiers, fastest first: the number orders them."""

    RAM = 0
    SSD = 1
    HDD = 2

    @property
    def source(self) -> Source:
        return _TIER_SOURCES[self]


_TIER_SOURCES = (Source.RAM, Source.SSD, Source.HDD)


class Reason(StrEnum):
    """Why something failed: log field `reason`, label of edge_errors_total."""

    # the client's fault
    BAD_REQUEST = "bad_request"
    BAD_TARGET = "bad_target"
    BAD_VERSION = "bad_version"
    TARGET_TOO_LONG = "target_too_long"
    HEAD_TOO_LARGE = "head_too_large"
    BODY_TOO_LARGE = "body_too_large"
    UNKNOWN_HOST = "unknown_host"
    UNKNOWN_METHOD = "unknown_method"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    EXPECTATION = "expectation"
    TLS = "tls"
    CLIENT_TIMEOUT = "client_timeout"
    CLIENT_TOO_SLOW = "client_too_slow"
    ONLY_IF_CACHED = "only_if_cached"
    # the origin's fault
    ORIGIN_REFUSED = "origin_refused"
    ORIGIN_UNRESOLVED = "origin_unresolved"
    ORIGIN_TLS = "origin_tls"
    ORIGIN_TIMEOUT = "origin_timeout"
    ORIGIN_STALLED = "origin_stalled"
    ORIGIN_RESET = "origin_reset"
    ORIGIN_PROTOCOL = "origin_protocol"
    ORIGIN_RANGE = "origin_range"
    ORIGIN_STATUS = "origin_status"
    ORIGIN_CHANGED = "origin_changed"
    ORIGIN_ABANDONED = "origin_abandoned"
    LOOP = "loop"
    # a disk's
    DISK_READ = "disk_read"
    DISK_WRITE = "disk_write"
    DISK_LOST_FILE = "disk_lost_file"
    CHECKSUM = "checksum"
    STORE_FULL = "store_full"
    # our own
    OVERLOADED = "overloaded"
    MANAGER_GONE = "manager_gone"
    DRAINING = "draining"
    INTERNAL = "internal"
