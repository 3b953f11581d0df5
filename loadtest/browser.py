"""A player's requests as a browser sends them, for filling a cache before it is measured."""

import hashlib
import http.client
import ssl
import time
from dataclasses import dataclass

HOST = "video.example.net"
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"
)
# A segment request of hls.js in Chrome, from a player on another site.
HEADERS = (
    ("Host", HOST),
    ("Connection", "keep-alive"),
    ("User-Agent", AGENT),
    ("Accept", "*/*"),
    ("Origin", "https://player.example.com"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Mode", "cors"),
    ("Referer", "https://player.example.com/"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Accept-Language", "en-GB,en-US;q=0.9,en;q=0.8"),
)
_HIT_WORDS = ("x-cache-status", "x-cache", "cache-status")
_REQUEST_S_MAX = 30.0


class WarmingError(RuntimeError):
    pass


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_hit(self) -> bool | None:
        """None where the server does not say."""
        said = [self.headers[name].lower() for name in _HIT_WORDS if name in self.headers]
        return any("hit" in value for value in said) if said else None


def request_bytes(path: str) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


def fetch(
    port: int,
    path: str,
    headers: tuple[tuple[str, str], ...] = HEADERS,
    timeout_s: float = _REQUEST_S_MAX,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        if tls is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout_s, context=tls)
    )
    try:
        connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        answered = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, answered, response.read())
    finally:
        connection.close()


def warm(
    port: int, digests: dict[str, str], times: int = 5, times_max: int = 20, tls: ssl.SSLContext | None = None
) -> None:
    """Ask for each path `times` times, and on until it is a hit where the server says so.

    `digests` maps paths to the SHA-256 their bodies must have: a fast server of wrong bytes is not measured.
    """
    for path, digest in digests.items():
        for attempt in range(1, times_max + 1):
            answer = fetch(port, path, tls=tls)
            if answer.status != 200 or hashlib.sha256(answer.body).hexdigest() != digest:
                raise WarmingError(f"{path}: status {answer.status}, {len(answer.body)} bytes, not the origin's body")
            if attempt >= times and answer.is_hit is not False:
                break
            time.sleep(0.02)  # a promotion to a faster tier may follow the answer
        else:
            raise WarmingError(f"{path}: no hit after {times_max} requests; headers {answer.headers}")


def digests(origin_port: int, paths: list[str]) -> dict[str, str]:
    """What the origin serves there, as SHA-256."""
    found = {}
    for path in paths:
        answer = fetch(origin_port, path)
        if answer.status != 200:
            raise WarmingError(f"origin: {path}: status {answer.status}")
        found[path] = hashlib.sha256(answer.body).hexdigest()
    return found
