"""The files that come with the project: they are right, and the annotated one leaves nothing out."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edge.config import Config, config_from_json, load_config

FOLDER = Path(__file__).resolve().parents[2] / "config"
FILES = sorted(FOLDER.glob("*.toml"))


def models_in(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for argument in get_args(kind) for model in models_in(argument)]


def walk(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], FieldInfo]]:
    """Every field of the model and of those within: (names, field)."""
    found = []
    for name, field in model.model_fields.items():
        found.append(((*path, name), field))
        for inner in models_in(field.annotation):
            found += walk(inner, (*path, name))
    return found


FIELDS = walk(Config)


def test_there_are_files_and_fields() -> None:
    assert {path.name for path in FILES} >= {"edge.toml", "development.toml"}
    assert len(FIELDS) > 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_right(path: Path) -> None:
    command = [sys.executable, "-m", "edge", "check", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}: ok\n", "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_the_supervisor_hands_on_is_the_same_configuration(path: Path) -> None:
    config = load_config(str(path))
    assert config_from_json(config.model_dump_json().encode()) == config


@pytest.mark.parametrize(("path", "field"), FIELDS, ids=[".".join(path) for path, _ in FIELDS])
def test_a_setting_says_what_it_is(path: tuple[str, ...], field: FieldInfo) -> None:
    """A sentence, and whether a running daemon can take a new value."""
    assert field.description
    assert field.description.endswith((".", "off.")), field.description
    assert field.description[0].isupper() or ":" in field.description
    assert isinstance(field.json_schema_extra, dict), "made without option()"
    assert isinstance(field.json_schema_extra["reload"], bool)


def test_a_table_says_what_it_is() -> None:
    for model in {Config, *(one for _, field in FIELDS for one in models_in(field.annotation))}:
        assert model.__doc__, model


def test_the_annotated_file_names_every_setting() -> None:
    """Set, or commented out with its meaning, in its own table."""
    named: set[str] = set()
    section = ""
    for line in (FOLDER / "edge.toml").read_text().splitlines():
        if match := re.match(r"\[+([a-z_.]+)\]+", line):
            section = match[1]
            parts = section.split(".")
            named |= {".".join(parts[: end + 1]) for end in range(len(parts))}
        elif match := re.match(r"(?:# )?([a-z_]+)(?: =|:)", line):
            named.add(f"{section}.{match[1]}" if section else match[1])
    missing = [".".join(path) for path, _ in FIELDS if ".".join(path) not in named]
    assert not missing


def test_what_the_annotated_file_says_is_commented_out_is_the_default() -> None:
    text = (FOLDER / "edge.toml").read_text()
    for name, value in re.findall(r"^# ([a-z_]+) = (.+)$", text, re.MULTILINE):
        (default,) = {repr(field.default) for path, field in FIELDS if path[-1] == name}
        assert default == repr(tomllib.loads(f"x = {value}")["x"])
