"""Every error of the appliance: one base, flat children.

A class says whose fault it is, which status a client gets, and whether trying again may help; an instance adds the
cause in words, for the log. Nothing of the cause reaches the client.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from edge.terms import Reason


class Fault(StrEnum):
    CLIENT = "client"
    ORIGIN = "origin"
    DISK = "disk"
    CONFIGURATION = "configuration"
    EDGE = "edge"


class EdgeError(Exception):
    """Base of all; `reason` names it in the log and in edge_errors_total."""

    fault: ClassVar[Fault] = Fault.EDGE
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    default_reason: ClassVar[Reason] = Reason.INTERNAL

    def __init__(self, cause: str = "", reason: Reason | None = None) -> None:
        self.reason = reason or self.default_reason
        self.cause = cause
        super().__init__(cause or self.reason.value)


class ConfigError(EdgeError):
    """The configuration cannot be used; `mistakes` holds a line for each thing that is wrong."""

    fault = Fault.CONFIGURATION

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class RequestError(EdgeError):
    """The client asked for something that cannot be answered."""

    fault = Fault.CLIENT
    status = 400
    default_reason = Reason.BAD_REQUEST

    def __init__(self, cause: str = "", reason: Reason | None = None, *, close: bool = True) -> None:
        super().__init__(cause, reason)
        self.close = close


class TargetTooLong(RequestError):
    status = 414
    default_reason = Reason.TARGET_TOO_LONG


class HeadTooLarge(RequestError):
    status = 431
    default_reason = Reason.HEAD_TOO_LARGE


class BodyTooLarge(RequestError):
    status = 413
    default_reason = Reason.BODY_TOO_LARGE


class RequestTimeout(RequestError):
    """RFC 9110 section 15.5.9: the request did not come in the time it was given."""

    status = 408
    default_reason = Reason.CLIENT_TIMEOUT


class UnknownHost(RequestError):
    """RFC 9110 section 15.5.20: this server is not set up to answer for that authority."""

    status = 421
    default_reason = Reason.UNKNOWN_HOST


class UnknownMethod(RequestError):
    status = 501
    default_reason = Reason.UNKNOWN_METHOD


class MethodNotAllowed(RequestError):
    status = 405
    default_reason = Reason.METHOD_NOT_ALLOWED


class UnsupportedVersion(RequestError):
    status = 505
    default_reason = Reason.BAD_VERSION


class UnmetExpectation(RequestError):
    status = 417
    default_reason = Reason.EXPECTATION


class OriginError(EdgeError):
    """The origin failed: the client gets 502."""

    fault = Fault.ORIGIN
    status = 502
    retryable = True
    default_reason = Reason.ORIGIN_RESET


class OriginTimeout(OriginError):
    """The origin did not answer, or stopped sending, for longer than allowed: the client gets 504."""

    status = 504
    default_reason = Reason.ORIGIN_TIMEOUT


class OnlyIfCached(EdgeError):
    """The client would have 504 rather than a request to the origin (RFC 9111, 5.2.1.7)."""

    fault = Fault.CLIENT
    status = 504
    default_reason = Reason.ONLY_IF_CACHED


class LoopDetected(RequestError):
    """The request has been here before: it must not go on (RFC 8586)."""

    status = 508
    default_reason = Reason.LOOP

    def __init__(self, cause: str = "") -> None:
        super().__init__(cause, close=False)


class OriginChanged(OriginError):
    """The object is not the one the fill began with; what was fetched of it cannot be completed."""

    retryable = False
    default_reason = Reason.ORIGIN_CHANGED


class DiskError(EdgeError):
    fault = Fault.DISK
    status = 500
    default_reason = Reason.DISK_READ


class StoreFull(EdgeError):
    """No disk has room, and nothing may be evicted to make it."""

    fault = Fault.DISK
    status = 503
    default_reason = Reason.STORE_FULL


class ManagerGone(EdgeError):
    """The process that fills and indexes is not there (it comes back within seconds)."""

    status = 503
    retryable = True
    default_reason = Reason.MANAGER_GONE


class Overloaded(EdgeError):
    status = 503
    retryable = True
    default_reason = Reason.OVERLOADED
