"""One run: the suite's origin, a cache before it and the suite's client, all ended when it is over."""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtest.conformance.caches import Cache
from loadtest.conformance.install import Tools
from loadtest.conformance.results import Results
from loadtest.native import SCRATCH
from loadtest.processes import Process, ProcessError, free_port, speaking

READY_S_MAX = 60.0
PARALLEL = 100  # the suite's own
_DRIVER = Path(__file__).with_name("run.mjs")


@dataclass(frozen=True)
class Stack:
    tools: Tools
    base: str
    version: str


@contextlib.contextmanager
def started(tools: Tools, kind: type[Cache]) -> Iterator[Stack]:
    """The suite's origin and the cache, both answering."""
    SCRATCH.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="suite-", dir=SCRATCH)))
        origin_port = free_port()
        # it listens on every address, as it comes; its files are found from its own folder
        settings = {"protocol": "http", "port": str(origin_port), "pidfile": str(folder / "origin.pid")}
        words = [f"npm_config_{name}={value}" for name, value in settings.items()]
        command = ["env", "-C", str(tools.suite), *words, tools.node, "server/server.mjs"]
        origin = Process("suite's origin", command, folder / "origin.log")
        stack.callback(origin.stop)
        origin.wait_for_line("Listening on", READY_S_MAX)
        cache = kind(tools.suite, folder, origin_port)
        process = Process(cache.name, cache.command(), folder / f"{cache.name}.log")
        stack.callback(process.stop)
        process.wait_for_url(cache.ready_url, READY_S_MAX)
        yield Stack(tools, f"http://127.0.0.1:{cache.port}", cache.version())


def run(stack: Stack, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Results:
    """All tests; `progress` learns how many are done, of how many."""
    command = [stack.tools.node, "--no-warnings", str(_DRIVER), str(stack.tools.suite), stack.base, str(PARALLEL)]
    with speaking(command) as client:
        for line in client.lines:
            if not line.startswith("{"):
                continue  # the suite's own remarks
            said = json.loads(line)
            if "suites" in said:
                return Results.read(said["suites"])
            progress(said["done"], said["total"])
        raise ProcessError(f"the suite ended before it was through:\n{client.complaints()[-2000:]}")


def dump(stack: Stack, test: str) -> int:
    """One test by the suite's own command line, with all that is said; its exit status."""
    own = {**os.environ, "npm_config_base": stack.base, "npm_config_id": test}
    command = [stack.tools.node, "--no-warnings", "cli.mjs"]
    return subprocess.run(command, cwd=stack.tools.suite, env=own, check=False).returncode
