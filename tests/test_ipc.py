"""Channels between processes: whole messages, their descriptors, an end that does not read, an end that goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from edge import ipc
from edge.limits import MESSAGE_MAX_BYTES
from tests.store.making import child, until


class Word(msgspec.Struct, tag=1, array_like=True):
    number: int
    text: bytes = b""


class Other(msgspec.Struct, tag=2, array_like=True):
    pass


class End:
    """One end, and what it was told."""

    def __init__(self, sock: socket.socket, accepts: object = Word | Other) -> None:
        self.received: list[Word] = []
        self.descriptors: list[list[int]] = []
        self.closed = 0
        self.channel: ipc.Channel[Word] = ipc.Channel(sock, accepts, self._receive, self._closed)

    def _receive(self, message: Word, descriptors: list[int]) -> None:
        self.received.append(message)
        self.descriptors.append(descriptors)

    def _closed(self) -> None:
        self.closed += 1

    @property
    def numbers(self) -> list[int]:
        return [word.number for word in self.received]


@pytest.fixture
async def sockets() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield pair
    for sock in pair:
        sock.close()


@pytest.fixture
async def ends(sockets: tuple[socket.socket, socket.socket]) -> AsyncIterator[tuple[End, End]]:
    left, right = End(sockets[0]), End(sockets[1])
    yield left, right
    left.channel.close()
    right.channel.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def none_leaked() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


async def test_messages_arrive_whole_and_in_order_both_ways(ends: tuple[End, End]) -> None:
    left, right = ends
    for number in range(200):
        left.channel.send(Word(number, bytes(number)))
        right.channel.send(Word(-number))
    await until(lambda: len(right.received) == len(left.received) == 200)
    assert right.received == [Word(number, bytes(number)) for number in range(200)]
    assert left.numbers == [-number for number in range(200)]


async def test_the_largest_message(ends: tuple[End, End]) -> None:
    left, right = ends
    room = MESSAGE_MAX_BYTES - len(msgspec.msgpack.encode(Word(1, bytes(70_000)))) + 70_000
    left.channel.send(Word(1, bytes(room)))
    await until(lambda: right.received)
    assert len(right.received[0].text) == room


async def test_a_message_too_large_is_its_senders_mistake_and_costs_no_connection(ends: tuple[End, End]) -> None:
    left, right = ends
    for size in (MESSAGE_MAX_BYTES, 1 << 20):
        with pytest.raises(ValueError, match="bytes"):
            left.channel.send(Word(1, bytes(size)))
    with pytest.raises(ValueError, match="5 descriptors"):
        left.channel.send(Word(1), [0] * 5)
    left.channel.send(Word(2))
    await until(lambda: right.received)
    assert (right.numbers, left.closed, right.closed) == ([2], 0, 0)


async def test_descriptors_come_along_and_stay_with_their_message(ends: tuple[End, End], tmp_path: Path) -> None:
    left, right = ends
    with none_leaked():
        for number in range(8):
            fds = []
            for one in range(number % 5):
                path = tmp_path / f"{number} {one}"
                path.write_text(path.name)
                fds.append(os.open(path, os.O_RDONLY))
            left.channel.send(Word(number), fds)
            for fd in fds:
                os.close(fd)
        await until(lambda: len(right.received) == 8)
        for number, fds in enumerate(right.descriptors):
            assert [os.read(fd, 100).decode() for fd in fds] == [f"{number} {one}" for one in range(number % 5)]
            assert not any(os.get_inheritable(fd) for fd in fds)
            for fd in fds:
                os.close(fd)


async def test_an_end_that_does_not_read_is_waited_for(
    sockets: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    left = End(sockets[0])
    (tmp_path / "file").write_text("content")
    with none_leaked():
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        for number in range(3000):
            left.channel.send(Word(number, bytes(500)), [fd] if number % 100 == 0 else [])
        os.close(fd)
        assert left.channel._queue, "more than the kernel holds"
        right = End(sockets[1])
        await until(lambda: len(right.received) == 3000)
        assert right.numbers == list(range(3000))
        for number, fds in enumerate(right.descriptors):
            assert len(fds) == (number % 100 == 0)
            for one in fds:
                assert os.pread(one, 100, 0) == b"content"
                os.close(one)
    left.channel.send(Word(3000))
    await until(lambda: len(right.received) == 3001)
    left.channel.close()
    right.channel.close()


async def test_a_busy_end_leaves_the_loop_to_others(ends: tuple[End, End]) -> None:
    left, right = ends
    turns: list[int] = []

    async def other() -> None:
        while len(right.received) < 1000:
            turns.append(len(right.received))
            await asyncio.sleep(0)

    for number in range(1000):
        left.channel.send(Word(number))
    await other()
    assert max(after - before for before, after in pairwise(turns)) <= 128


async def test_closing_gives_back_what_was_queued(sockets: tuple[socket.socket, socket.socket]) -> None:
    left = End(sockets[0])
    before = open_descriptors()
    fd = os.open("/dev/null", os.O_RDONLY)
    while not left.channel._queue:
        left.channel.send(Word(1, bytes(10_000)))
    for _ in range(5):
        left.channel.send(Word(1), [fd, fd])
    assert open_descriptors() == before + 11
    left.channel.close()
    os.close(fd)
    assert open_descriptors() == before - 1
    left.channel.send(Word(1))
    left.channel.close()
    assert left.closed == 0, "who closes knows it"


async def test_the_other_end_is_told_once(ends: tuple[End, End]) -> None:
    left, right = ends
    left.channel.send(Word(1))
    left.channel.close()
    await until(lambda: right.closed)
    assert (right.numbers, right.channel.open) == ([1], False), "what was sent before comes before"
    right.channel.send(Word(2))
    await asyncio.sleep(0)
    assert right.closed == 1


async def test_an_end_that_is_gone_is_seen_by_sending(sockets: tuple[socket.socket, socket.socket]) -> None:
    left = End(sockets[0])
    sockets[1].close()
    left.channel.send(Word(1))
    assert (left.closed, left.channel.open) == (1, False)


async def test_an_end_that_goes_while_messages_wait_for_it(sockets: tuple[socket.socket, socket.socket]) -> None:
    left = End(sockets[0])
    fd = os.open("/dev/null", os.O_RDONLY)
    before = open_descriptors()
    while len(left.channel._queue) < 3:
        left.channel.send(Word(1, bytes(10_000)), [fd])
    sockets[1].close()
    await until(lambda: left.closed)
    assert open_descriptors() <= before - 2
    os.close(fd)
    await asyncio.sleep(0)
    assert left.closed == 1


async def test_who_is_called_may_close(sockets: tuple[socket.socket, socket.socket]) -> None:
    left, right = End(sockets[0]), End(sockets[1])

    def receive_and_close(message: Word, descriptors: list[int]) -> None:
        right._receive(message, descriptors)
        right.channel.close()

    right.channel._receive = receive_and_close
    for number in range(5):
        left.channel.send(Word(number))
    await until(lambda: left.closed)
    assert right.numbers == [0]
    left.channel.close()


@pytest.mark.parametrize("message", [b"\xc1", b"\x93\x63\x01\x02", b"\x00"])
async def test_what_is_no_message_of_ours_ends_the_connection(
    sockets: tuple[socket.socket, socket.socket], message: bytes
) -> None:
    right = End(sockets[1])
    before = open_descriptors()
    socket.send_fds(sockets[0], [message], [0])
    await until(lambda: right.closed)
    assert right.received == []
    assert open_descriptors() == before - 1


def test_a_socket_takes_a_dead_ones_place(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    ipc.listen(path).close()
    assert os.path.exists(path)
    with pytest.raises(ConnectionRefusedError):
        ipc.connect(path)
    with ipc.listen(path) as listener:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with ipc.connect(path) as client:
            accepted, _ = listener.accept()
            with accepted:
                client.send(b"whole")
                client.send(b"apart")
                assert (accepted.recv(100), accepted.recv(100)) == (b"whole", b"apart")


def test_nobody_listens(tmp_path: Path) -> None:
    with none_leaked(), pytest.raises(FileNotFoundError):
        ipc.connect(str(tmp_path / "none"))


WORKER = """
import os, sys, msgspec
from edge import ipc
sock = ipc.connect(sys.argv[1])
import socket
fd = os.open(sys.argv[2], os.O_RDONLY)
for number in range(3):
    socket.send_fds(sock, [msgspec.msgpack.encode([1, number, b""])], [fd])
print("1", flush=True)
sys.stdin.read()
"""


async def test_a_process_that_is_killed_leaves_its_messages_and_an_end(tmp_path: Path) -> None:
    path, file = tmp_path / "sock", tmp_path / "file"
    file.write_text("content")
    with ipc.listen(str(path)) as listener, child(WORKER, str(path), str(file)) as worker:
        worker.hear()
        accepted, _ = listener.accept()
        worker.kill()
        end = End(accepted)
        await until(lambda: end.closed)
        assert end.numbers == [0, 1, 2]
        for (fd,) in end.descriptors:
            assert os.pread(fd, 100, 0) == b"content"
            os.close(fd)
