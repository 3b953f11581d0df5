"""What leaves a full disk, and what may come in: decisions only, the caller acts on them.

Eviction is sampled: of a few dozen random candidates the least worth goes. It needs no list in memory and works the
same at 10⁴ and at 10⁸ objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

SAMPLE = 24
"""Candidates looked at for one eviction."""


class Candidate(NamedTuple):
    """A stored object as a policy sees it."""

    slot: int
    hits: float
    """Decayed number of accesses."""
    last_access_s: int
    size_kib: int


class Policy(Protocol):
    def worth(self, candidate: Candidate) -> float:
        """What keeping the object is worth, a byte: the least goes first."""
        ...


class Popularity:
    """Worth is the decayed number of accesses; among the never asked again, the older goes first.

    Bytes saved a byte kept are accesses × size / size, so an object's size cancels out.
    """

    def worth(self, candidate: Candidate) -> float:
        return candidate.hits + candidate.last_access_s * 1e-12


class LeastRecent:
    """Plain LRU, for comparison."""

    def worth(self, candidate: Candidate) -> float:
        return float(candidate.last_access_s)


POLICIES: dict[str, Policy] = {"popularity": Popularity(), "lru": LeastRecent()}


def victim(policy: Policy, sample: Iterable[Candidate]) -> Candidate | None:
    """Who goes."""
    return min(sample, key=policy.worth, default=None)


def is_admitted(policy: Policy, candidate: Candidate, rivals: Iterable[Candidate], *, has_room: bool) -> bool:
    """Whether an object may be written to a disk: freely while there is room, on evidence of reuse when it is full.

    Disk writes are what wears SSDs out, so what was asked for once does not push out what was asked for again.
    """
    if has_room:
        return True
    worst = victim(policy, rivals)
    return worst is not None and candidate.hits >= 1.5 and policy.worth(candidate) > policy.worth(worst)
