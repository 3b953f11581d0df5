"""How many connections each client address has, so that none takes all there are."""

from __future__ import annotations

import ipaddress
import socket

from edge.config.model import Limits

_SITE_BYTES = 8
"""Of an IPv6 address, those that tell one home from another: who has a /64 has 2**64 addresses (RFC 6177)."""


class Addresses:
    def __init__(self, limits: Limits) -> None:
        self._most = limits.connections_per_address
        self._trusted = [ipaddress.ip_network(text) for text in limits.trusted_addresses]
        self._counts: dict[str | bytes, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def has_room(self, peer: str) -> bool:
        """Whether one more connection from there is welcome."""
        return self._counts.get(_site(peer), 0) < self._most or self._is_trusted(peer)

    def _is_trusted(self, peer: str) -> bool:
        if not self._trusted:
            return False
        address = ipaddress.ip_address(peer.partition("%")[0])
        return any(address in network for network in self._trusted)

    def enter(self, peer: str) -> None:
        site = _site(peer)
        self._counts[site] = self._counts.get(site, 0) + 1

    def leave(self, peer: str) -> None:
        site = _site(peer)
        count = self._counts[site] - 1
        if count:
            self._counts[site] = count
        else:
            del self._counts[site]


def _site(peer: str) -> str | bytes:
    """What an address is counted by."""
    if ":" not in peer:
        return peer
    return socket.inet_pton(socket.AF_INET6, peer.partition("%")[0])[:_SITE_BYTES]
