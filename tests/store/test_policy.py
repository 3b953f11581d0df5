"""What leaves and what comes in. The contract is one for all policies; their orders differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.store.policy import POLICIES, Candidate, Policy, is_admitted, victim
from tests.store.making import NOW

POPULARITY, LRU = POLICIES["popularity"], POLICIES["lru"]
candidates = st.builds(
    Candidate, st.integers(0, 1000), st.floats(0, 1e6), st.integers(NOW - 10**7, NOW), st.integers(0, 1 << 20)
)


def one(slot: int = 0, hits: float = 0.0, last_access_s: int = NOW, size_kib: int = 1) -> Candidate:
    return Candidate(slot, hits, last_access_s, size_kib)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
class TestEveryPolicy:
    def test_nobody_goes_where_nobody_is(self, policy: Policy) -> None:
        assert victim(policy, []) is None

    @given(sample=st.lists(candidates, min_size=1))
    def test_who_goes_is_worth_no_more_than_any_other(self, policy: Policy, sample: list[Candidate]) -> None:
        gone = victim(policy, sample)
        assert gone in sample
        assert all(policy.worth(gone) <= policy.worth(other) for other in sample)

    def test_anything_comes_in_while_there_is_room(self, policy: Policy) -> None:
        assert is_admitted(policy, one(last_access_s=0), [one(hits=9)], has_room=True)

    def test_what_was_asked_for_once_pushes_nothing_out(self, policy: Policy) -> None:
        assert not is_admitted(policy, one(hits=1.0), [one(last_access_s=NOW - 1000)], has_room=False)

    def test_what_was_asked_for_again_pushes_out_what_is_worth_less(self, policy: Policy) -> None:
        assert is_admitted(policy, one(hits=3.0), [one(hits=1.0, last_access_s=NOW - 1000)], has_room=False)

    def test_a_full_disk_that_nothing_can_leave_takes_nothing(self, policy: Policy) -> None:
        assert not is_admitted(policy, one(hits=100.0), [], has_room=False)


def test_popularity_counts_before_age() -> None:
    popular_long_ago, rare_now = one(1, 2.0, NOW - 10**6), one(2, 1.0, NOW)
    assert victim(POPULARITY, [popular_long_ago, rare_now]) == rare_now
    assert victim(LRU, [popular_long_ago, rare_now]) == popular_long_ago


def test_among_the_never_asked_again_the_older_goes() -> None:
    assert victim(POPULARITY, [one(1, 0.0, NOW), one(2, 0.0, NOW - 1)]) == one(2, 0.0, NOW - 1)


def test_size_does_not_matter_a_byte() -> None:
    assert POPULARITY.worth(one(size_kib=1)) == POPULARITY.worth(one(size_kib=1 << 20))
