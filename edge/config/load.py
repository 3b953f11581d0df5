"""From a file, from options, or from the supervisor: always the same model, every mistake named at once."""

from __future__ import annotations

import hashlib
import os
import tomllib
from typing import Any

from pydantic import ValidationError

from edge.config.model import Config
from edge.errors import ConfigError


def load_config(path: str) -> Config:
    """Read and validate the TOML file at `path`.

    Raises ConfigError with a line for each mistake: the key, what was found, what is allowed.
    """
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    return _validated(document)


def config_from_json(text: bytes) -> Config:
    return Config.model_validate_json(text)


def config_from_options(listen: str, origin: str, store: str, ram: str, control: str, workers: int) -> Config:
    """One site of any host name in front of `origin`: only what its answers allow is stored.

    `store` is a folder for the index and the disk tier; `ram` the size of the RAM tier ("0": none).
    """
    store = os.path.abspath(store)
    # the RAM tier outlives the daemon, so its place must follow from the store's
    mark = hashlib.blake2s(store.encode(), digest_size=6).hexdigest()
    tiers: dict[str, Any] = {"ssd": {"disks": [{"path": f"{store}/disk"}]}}
    if ram not in ("0", ""):
        tiers["ram"] = {"disks": [{"path": f"/dev/shm/edge-{mark}", "size": ram, "reserve": 0}]}
    document = {
        "workers": workers,
        "state_dir": f"{store}/state",
        "listeners": [{"address": listen}],
        "control": {"address": control},
        "sites": [{"name": "any", "hosts": ["*"], "origins": [origin], "methods": "any"}],
        "tiers": tiers,
    }
    return _validated(document)


def _validated(document: dict[str, Any]) -> Config:
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        details: list[Any] = error.errors()
        places = [detail["loc"] for detail in details]
        lines = [
            line
            for detail in details
            # a list is also called too short when it is an item of it that is wrong
            if detail["type"] != "too_short" or not any(_is_within(place, detail["loc"]) for place in places)
            for line in _mistake(detail, document).splitlines()
        ]
        raise ConfigError(lines) from error


def _is_within(place: tuple[Any, ...], outer: tuple[Any, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _mistake(detail: Any, document: Any) -> str:
    key = ""
    found = document
    for part in detail["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
        try:
            found = found[part]  # as it is written, where what it came to is what is wrong
        except (LookupError, TypeError):
            found = detail["input"]
    allowed = detail["msg"].removeprefix("Value error, ")
    kind = detail["type"]
    if kind == "missing":
        return f"{key}: missing; it has no default"
    if kind == "extra_forbidden":
        return f"{key}: no such setting"
    if kind == "too_short":
        allowed = f"at least {detail['ctx']['min_length']} is needed"
    if not key:
        return str(allowed)
    text = repr(found)
    if len(text) > 80:
        text = text[:77] + "..."
    return f"{key}: found {text}; {allowed[:1].lower()}{allowed[1:]}"
