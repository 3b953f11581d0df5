"""The house rules: layers, who alone may do what, sizes, and what a source file never says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted((ROOT / "edge").rglob("*.py"))
PYTHON = sorted(path for folder in ("edge", "loadtest", "tests") for path in (ROOT / folder).rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in PYTHON}

LINES_MAX = 400
TEST_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
STORY_LINES_MAX = 80


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module and every name of a module that is imported, in dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def used(tree: ast.Module) -> Iterator[str]:
    """Every dotted expression: time.time, os.open, aiohttp.web.Response."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            parts = [node.attr]
            inner: ast.expr = node.value
            while isinstance(inner, ast.Attribute):
                parts.append(inner.attr)
                inner = inner.value
            if isinstance(inner, ast.Name):
                yield ".".join([inner.id, *reversed(parts)])


def who(*names: str) -> set[str]:
    """The files of edge/ that import or use any of these."""
    return {name_of(path) for path in CODE if {*imported(TREES[path]), *used(TREES[path])} & set(names)}


def test_the_rules_look_at_something() -> None:
    assert len(CODE) > 50
    assert "edge/clock.py" in who("time.time")
    tree = ast.parse("import a.b\nfrom c import d\nx = e.f.g(h.i)\n")
    assert {*imported(tree)} == {"a.b", "c", "c.d"}
    assert {*used(tree)} == {"e.f.g", "e.f", "h.i"}


def test_layers() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* kept, 0 broken", done.stdout), done.stdout


# only here


def test_only_the_clock_reads_the_time() -> None:
    """Intervals within one process are the loop's own (loop.time); anything else must be able to stand still."""
    clocks = ("time", "time.time", "time.monotonic", "time.time_ns", "time.perf_counter", "datetime.datetime.now",
              "datetime.now", "datetime.datetime.utcnow", "datetime.date.today")  # fmt: skip
    assert who(*clocks) == {"edge/clock.py"}


def test_only_control_serves_with_aiohttp() -> None:
    users = who("aiohttp.web", "aiohttp.web.Application", "web.Application", "web.Response")
    assert users
    assert all(path.startswith("edge/control/") for path in users)


def test_only_the_origin_client_opens_connections_to_origins() -> None:
    assert who("aiohttp.ClientSession", "aiohttp.TCPConnector", "aiohttp.request") == {"edge/fill/origin.py"}
    assert who("urllib.request", "http.client", "requests", "httpx") == set()
    assert who("asyncio.open_connection", "socket.create_connection") == set()


def test_metrics_are_defined_in_one_place() -> None:
    """Counts and buckets in edge/metrics.py; what the manager knows of itself is rendered beside them, in control/."""
    families = {f"{kind}MetricFamily" for kind in ("Counter", "Gauge", "Histogram", "Info", "Summary")}
    makers = who(*(f"prometheus_client.core.{name}" for name in families))
    assert "edge/metrics.py" in makers
    assert all(path == "edge/metrics.py" or path.startswith("edge/control/") for path in makers)
    assert who("prometheus_client.Counter", "prometheus_client.Gauge", "prometheus_client.Histogram") == set()
    adders = {name_of(path) for path in CODE if "_layout.add(" in path.read_text()}
    assert adders == {"edge/metrics.py"}


def test_only_a_disk_names_and_opens_object_files() -> None:
    """Whoever else calls os.open opens something of its own: the index, a page, a log, never what objects/ holds."""
    speakers = {name_of(path) for path in CODE if re.search(r"""["'/]objects[/"']""", path.read_text())}
    assert "edge/store/disk.py" in speakers
    assert {path for path in speakers if "objects/" in (ROOT / path).read_text()} == {"edge/store/disk.py"}
    openers = who("os.open") - {"edge/store/disk.py"}
    assert openers <= {
        "edge/metrics.py",  # a process's page
        "edge/run/supervisor.py",  # the lock, and whether the log can be written
        "edge/serve/accesslog.py",
        "edge/store/slots.py",
    }


def test_only_the_clients_of_structlog_are_the_logs() -> None:
    assert who("structlog", "logging", "logging.getLogger") <= {"edge/logs.py"}
    for path in CODE:
        for node in ast.walk(TREES[path]):
            assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"), (
                path
            )


# sizes


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_a_file_is_not_too_long(path: Path) -> None:
    most = TEST_LINES_MAX if path.name.startswith("test_") else LINES_MAX
    assert len(path.read_text().splitlines()) <= most


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_a_function_is_not_too_long(path: Path) -> None:
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            most = STORY_LINES_MAX if node.name.startswith("test_") else FUNCTION_LINES_MAX
            assert node.end_lineno - node.lineno < most, node.name


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_module_says_what_it_is(path: Path) -> None:
    if path.read_text().strip():
        assert ast.get_docstring(TREES[path])


# words

_TEXTS = ("*.py", "*.md", "*.toml", "*.yml", "*.yaml", "*.service", "*.sh", "*.j2", "*.cfg", "Makefile")
_LEFT_OUT = {".git", ".venv", ".scratch", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "__pycache__"}
FILES = sorted(
    path
    for pattern in _TEXTS
    for path in ROOT.rglob(pattern)
    if not any(part in _LEFT_OUT or part.startswith(".venv") for part in path.relative_to(ROOT).parts)
)


def found(pattern: str) -> list[str]:
    matcher = re.compile(pattern)
    return [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in FILES
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if matcher.search(line)
    ]


def test_nothing_is_left_to_be_done() -> None:
    assert len(FILES) > len(CODE)
    assert not found(r"\b(TODO|FIXME|XXX|HACK)\b")


def test_nothing_mentions_a_number_in_somebody_s_tracker() -> None:
    assert not found(r"(?i)\b(issue|ticket|bug|pull request|pr|gh)[ -]?#?\d+|(?<![\w&/])#\d{1,5}\b(?![0-9a-f-])")


def test_nothing_mentions_a_path_of_the_machine_it_was_written_on() -> None:
    assert not found(r"(?<![\w.])/(root|home|Users)/\w+")
    if ROOT.parts[1] not in {"tmp", "opt", "srv", "usr", "var"}:
        assert not found(rf"(?<![\w.]){re.escape(str(ROOT))}\b")
