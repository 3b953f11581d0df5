"""Many slow clients in a process of their own, so that they cost the test that measures nothing but the machine.

python -m tests.kit.slow PORT TLS_PORT HEADS BODIES READERS HANDSHAKES: says "open N", then, when the edge has left
each of them, the seconds after which the last of every kind was left, as JSON.
"""

from __future__ import annotations

import heapq
import json
import selectors
import socket
import sys
import time

from edge.limits import raise_open_files

BIG = "/gen/4m/slow"
_PAUSE_S = 0.5
_LONGEST_S = 14.0
_HELLO = bytes.fromhex("16030102000100 01fc0303".replace(" ", "")) + b"\x00" * 500
_HEAD = b"GET / HTTP/1.1\r\nHost: edge.test\r\nX: " + b"y" * 500
_BODY = b"POST /echo?slow HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 100000\r\n\r\n"
_READ = b"GET %b HTTP/1.1\r\nHost: edge.test\r\n\r\n" % BIG.encode()
KINDS = {
    "heads": (_HEAD[:20], _HEAD[20:], 0),
    "bodies": (_BODY, b"x" * 500, 0),
    "readers": (_READ, b"", 0),
    "handshakes": (_HELLO[:20], _HELLO[20:], 1),
}
"""What each sends at once, what a byte at a time, and to which port."""


class Slow:
    """One of them."""

    def __init__(self, kind: str, ports: list[int]) -> None:
        first, self.rest, port = KINDS[kind]
        self.kind = kind
        self.sock = socket.socket()
        if kind == "readers":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(("127.0.0.1", ports[port]))
        self.sock.setblocking(False)
        self.sock.sendall(first)

    def act(self) -> bool:
        """A byte, there or here; whether the connection still is."""
        try:
            if self.kind == "readers":
                # what lies in its buffer can be read for hours after a reset
                return not self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) and bool(self.sock.recv(1))
            if self.rest:
                self.sock.send(self.rest[:1])
                self.rest = self.rest[1:]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def look(self) -> bool:
        """Something came: whether the connection still is."""
        try:
            return bool(self.sock.recv(4096))
        except BlockingIOError:
            return True
        except OSError:
            return False


def main(ports: list[int], counts: list[int]) -> None:
    raise_open_files()
    started = time.monotonic()
    clients = [Slow(kind, ports) for kind, count in zip(KINDS, counts, strict=True) for _ in range(count)]
    opened_s = time.monotonic() - started
    print("open", len(clients), flush=True)
    selector = selectors.DefaultSelector()
    for client in clients:
        if client.kind != "readers":
            selector.register(client.sock, selectors.EVENT_READ, client)
    left: dict[str, float] = {}
    turns = [(started + _PAUSE_S + number / len(clients) * _PAUSE_S, number) for number in range(len(clients))]
    alive = len(clients)

    def leave(client: Slow) -> None:
        nonlocal alive
        if client.sock.fileno() >= 0:
            if client.kind != "readers":
                selector.unregister(client.sock)
            client.sock.close()
            alive -= 1
            left[client.kind] = round(time.monotonic() - started, 2)

    while alive and time.monotonic() - started < _LONGEST_S:
        now = time.monotonic()
        while turns and turns[0][0] <= now:
            _, number = turns[0]
            client = clients[number]
            if client.sock.fileno() < 0 or not client.act():
                leave(client)
                heapq.heappop(turns)
            else:
                heapq.heapreplace(turns, (max(now, turns[0][0] + _PAUSE_S), number))
        for key, _ in selector.select(min(0.05, max(0.0, turns[0][0] - time.monotonic())) if turns else 0.05):
            if not key.data.look():
                leave(key.data)
    kinds = [one.kind for one in clients if one.sock.fileno() >= 0]
    counted = {kind: kinds.count(kind) for kind in KINDS}
    print(json.dumps({"opened_s": opened_s, "alive": counted, "left_s": left}), flush=True)


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:3]], [int(one) for one in sys.argv[3:]])
