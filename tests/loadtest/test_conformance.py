"""How the public suite's results are read, and that what is fetched for it is what was pinned."""

from __future__ import annotations

import base64
import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from loadtest.conformance import install
from loadtest.conformance.install import InstallError
from loadtest.conformance.results import Results


def one(name: str, kind: str, sign: str, why: str = "") -> dict[str, Any]:
    return {"id": name, "name": name, "kind": kind, "anchors": [], "sign": sign, "why": why}


def test_results_are_counted_as_the_suite_shows_them() -> None:
    tests = [
        one("a", "required", "✅"),
        one("b", "required", "⛔️", "Assertion: it does not"),
        one("c", "required", "🔹"),
        one("d", "required", "⚪️"),
        one("e", "required", "↻"),
        one("f", "optimal", "✅"),
        one("g", "optimal", "⚠️"),
        one("h", "check", "Y"),
        one("i", "check", "N"),
        one("j", "required", "-"),
    ]
    results = Results.read([{"id": "one", "name": "One", "tests": tests}])
    assert results.count("required") == (1, 5)
    assert results.count("optimal", "one") == (1, 2)
    assert results.count("check", "two") == (0, 0)
    assert [each.id for each in results.broken()] == ["b"]
    assert [each.id for each in results.untried()] == ["c", "d", "e"]
    assert [each.id for each in results.unmet()] == ["g"]
    read = json.loads(results.json())
    assert read["totals"]["required"] == {"passed": 1, "of": 5}
    assert read["tests"][1]["why"] == "Assertion: it does not"


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.js").write_text("1")
    with tarfile.open(tmp_path / "left-1.0.0.tgz", "w:gz") as archive:
        archive.add(tmp_path / "package", "package")
    digest = hashlib.sha512((tmp_path / "left-1.0.0.tgz").read_bytes()).digest()
    with pytest.raises(InstallError, match="pinned"):
        install._unpack(tmp_path, "left@1.0.0", "sha512-AAAA")
    install._unpack(tmp_path, "left@1.0.0", f"sha512-{base64.b64encode(digest).decode()}")
    assert (tmp_path / "whole" / "node_modules" / "left" / "a.js").read_text() == "1"
