"""The daemon's own log: one JSON object a line on standard error, for journald or a file."""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import structlog

Logger = structlog.stdlib.BoundLogger


def setup(level: str, role: str) -> Logger:
    """Configure structlog for this process; every line says which process wrote it."""
    pretty = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    structlog.contextvars.bind_contextvars(process=role)
    return get_logger()


def get_logger(**bound: Any) -> Logger:
    return cast("Logger", structlog.get_logger(**bound))
