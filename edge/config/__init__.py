"""The configuration: one TOML file, one model, which is also its reference."""

from edge.config.load import config_from_json, config_from_options, load_config
from edge.config.model import (
    CacheKey,
    Certificate,
    Config,
    Control,
    DiskConfig,
    Fill,
    Limits,
    Listener,
    Log,
    Site,
    TierConfig,
)

__all__ = [
    "CacheKey",
    "Certificate",
    "Config",
    "Control",
    "DiskConfig",
    "Fill",
    "Limits",
    "Listener",
    "Log",
    "Site",
    "TierConfig",
    "config_from_json",
    "config_from_options",
    "load_config",
]
