"""The supervisor: owns the listening sockets, starts, watches and replaces the other processes.

Start: lock the store, bind every address, start the manager, wait until it has the index open, start the workers, say
READY. Stop: say so to readiness probes, let the workers finish what they send (bounded), then the manager, then go.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import stat
import sys
from collections.abc import Sequence

import msgspec

from edge import ipc
from edge.config import Config
from edge.control.processes import Process, Roll
from edge.errors import ConfigError
from edge.logs import get_logger
from edge.run.notify import notify
from edge.run.sockets import listening
from edge.serve.certificates import check as check_certificates
from edge.serve.tickets import SECRET_BYTES
from edge.store.layout import Layout

_READY_S = 60.0
_KILL_AFTER_DRAIN_S = 5.0
_MANAGER_STOP_S = 20.0
_BACKOFF_MAX_S = 10.0
_LIVED_WELL_S = 10.0
_FAILED_STARTS = 3
_log = get_logger()


class Child:
    """One process, kept alive until told otherwise."""

    def __init__(
        self, supervisor: Supervisor, role: str, module: str, fds: Sequence[int], arguments: Sequence[str]
    ) -> None:
        self.role = role
        self.process: asyncio.subprocess.Process | None = None
        self.is_ready = False
        self.became_ready = asyncio.Event()
        self.cannot_start = asyncio.Event()
        """It died again and again, and never was ready."""
        self._supervisor = supervisor
        self._module = module
        self._fds = fds
        self._arguments = arguments
        self._failures = 0

    async def keep(self) -> None:
        """Start the process, and again whenever it dies, until the supervisor stops."""
        loop = asyncio.get_running_loop()
        while not self._supervisor.stopping:
            started = loop.time()
            try:
                await self._start()
            except OSError as error:  # out of processes, memory or descriptors: that may pass
                _log.error("cannot start process", role=self.role, error=str(error))
            else:
                assert self.process is not None
                code = await self.process.wait()
                self.is_ready = False
                if self._supervisor.is_stopping():
                    break
                _log.error("process died", role=self.role, pid=self.process.pid, code=code)
                self._supervisor.restarts += 1
                self._supervisor.write_roll()
            self._failures = 0 if loop.time() - started > _LIVED_WELL_S else self._failures + 1
            if self._failures >= _FAILED_STARTS and not self.became_ready.is_set():
                self.cannot_start.set()
            if self._failures > 1:
                await asyncio.sleep(min(_BACKOFF_MAX_S, 0.1 * 2.0**self._failures))
        self._supervisor.write_roll()

    async def _start(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        config_fd = self._supervisor.config_fd
        arguments = [self._module, *(a.format(config=config_fd, ready=writer) for a in self._arguments)]
        fds = (config_fd, writer, *self._fds)
        try:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *arguments, pass_fds=fds, stdin=asyncio.subprocess.DEVNULL
            )
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._supervisor.write_roll()
        asyncio.get_running_loop().add_reader(reader, self._told, reader)

    def _told(self, reader: int) -> None:
        """The process says that it is ready; or it died without a word, which wait() reports."""
        asyncio.get_running_loop().remove_reader(reader)
        if os.read(reader, 1):
            self.is_ready = True
            self.became_ready.set()
            self._supervisor.write_roll()
        os.close(reader)

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stopped(self, within_s: float) -> None:
        """Wait for the end; after `within_s` it is made to."""
        if self.process is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await self.process.wait()
        except TimeoutError:
            _log.error("process does not end: killed", role=self.role, pid=self.process.pid)
            self.signal(signal.SIGKILL)
            await self.process.wait()


class Supervisor:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.layout = Layout(config)
        self.stopping = False
        self.restarts = 0
        self.children: list[Child] = []
        self.config_fd = os.memfd_create("edge-config")
        os.write(self.config_fd, config.model_dump_json().encode())
        self._ticket_secret_fd = os.memfd_create("edge-ticket-secret")
        os.write(self._ticket_secret_fd, os.urandom(SECRET_BYTES))
        self._lock_fd = -1
        self._listeners: list[socket.socket] = []

    async def run(self) -> None:
        """Everything, from start to stop. Raises ConfigError when it cannot begin."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        check_certificates(self.config.certificates)
        self._lock()
        self._check_log()
        workers, control = self._bind()
        manager_socket = ipc.listen(self.layout.manager_socket)
        manager = Child(
            self,
            "manager",
            "edge.run.manager",
            (manager_socket.fileno(), control.fileno()),
            ("{config}", "{ready}", str(manager_socket.fileno()), str(control.fileno()), str(os.getpid())),
        )
        self.children.append(manager)
        keepers = [loop.create_task(manager.keep())]
        try:
            await self._ready([manager], stop)
            for index, sockets in enumerate(workers if not stop.is_set() else ()):
                fds = (self._ticket_secret_fd, *(sock.fileno() for sock in sockets))
                arguments = (str(index), "{config}", "{ready}", *map(str, fds))
                worker = Child(self, f"worker-{index}", "edge.run.worker", fds, arguments)
                self.children.append(worker)
                keepers.append(loop.create_task(worker.keep()))
            await self._ready(self.children[1:], stop)
            if not stop.is_set():
                self._tell_ready(len(workers))
            await stop.wait()
        finally:
            await self._stop(keepers)

    def _tell_ready(self, workers: int) -> None:
        notify(READY=1, STATUS=f"serving with {workers} workers")
        addresses = ", ".join(listener.address for listener in self.config.listeners)
        _log.info("serving", listen=addresses, control=self.config.control.address, workers=workers)

    def _lock(self) -> None:
        """Two daemons on one store would destroy it."""
        try:
            self.layout.make()
            self._lock_fd = os.open(self.layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError([f"state_dir: {self.config.state_dir} is in use by another daemon"]) from error
        except OSError as error:
            raise ConfigError([f"state_dir: {self.config.state_dir}: {error.strerror}"]) from error
        for name in os.listdir(self.layout.run):
            if name.endswith(".page"):
                os.unlink(os.path.join(self.layout.run, name))

    def _check_log(self) -> None:
        """A log that cannot be written is found at the start, and not by workers that serve without one."""
        path = self.config.log.access
        if path is None or path == "-" or stat.S_ISFIFO(os.stat(path).st_mode if os.path.exists(path) else 0):
            return
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
        except OSError as error:
            raise ConfigError([f"log.access: {path}: {error.strerror}"]) from error

    def _bind(self) -> tuple[list[list[socket.socket]], socket.socket]:
        count = self.config.workers or len(os.sched_getaffinity(0))
        share = count > 1
        # Without this a second daemon would silently take half of the connections: SO_REUSEPORT lets it bind.
        for listener in self.config.listeners if share else ():
            listening(listener.address, 1, share=False).close()
        workers = [
            [listening(listener.address, listener.backlog, share=share) for listener in self.config.listeners]
            for _ in range(count)
        ]
        self._listeners = [sock for sockets in workers for sock in sockets]
        return workers, listening(self.config.control.address, 128, share=False)

    async def _ready(self, children: Sequence[Child], stop: asyncio.Event) -> None:
        """Wait until all of them are, or until we are told to stop."""
        waiting = {asyncio.create_task(child.became_ready.wait()) for child in children}
        ends = {asyncio.create_task(event.wait()) for event in (stop, *(child.cannot_start for child in children))}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while waiting and not any(end.done() for end in ends):
                    done, _ = await asyncio.wait(waiting | ends, return_when=asyncio.FIRST_COMPLETED)
                    waiting -= done
        for task in waiting | ends:
            task.cancel()
        if waiting and not stop.is_set():
            names = ", ".join(child.role for child in children if not child.became_ready.is_set())
            raise ConfigError([f"did not become ready: {names}; the log above says why"])

    def is_stopping(self) -> bool:
        return self.stopping

    def write_roll(self) -> None:
        """Write down who is there, for the status page."""
        roll = Roll(
            [Process(c.role, c.process.pid, c.is_ready) for c in self.children if c.process is not None],
            self.restarts,
            self.stopping,
        )
        with open(self.layout.roll + ".new", "wb") as file:
            file.write(msgspec.json.encode(roll))
        os.rename(self.layout.roll + ".new", self.layout.roll)

    def _reopen_logs(self) -> None:
        for child in self.children[1:]:
            if child.is_ready:  # before that it has no handler, and opens the log anyway
                child.signal(signal.SIGUSR1)

    async def _stop(self, keepers: list[asyncio.Task[None]]) -> None:
        self.stopping = True
        self.write_roll()
        notify(STOPPING=1)
        # refused at once, instead of waiting in a queue that nobody empties
        for listener in self._listeners:
            listener.close()
        workers = self.children[1:]
        for worker in workers:
            worker.signal(signal.SIGTERM)
        limit_s = self.config.limits.drain + _KILL_AFTER_DRAIN_S
        await asyncio.gather(*(worker.stopped(limit_s) for worker in workers))
        for manager in self.children[:1]:
            manager.signal(signal.SIGTERM)
            await manager.stopped(_MANAGER_STOP_S)
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        _log.info("stopped")
