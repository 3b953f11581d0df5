"""Status codes (RFC 9110, 15)."""

import pytest

from edge.http.statuses import (
    BODILESS,
    HEURISTIC,
    NEVER_STORED,
    REASONS,
    STALE_IF_ERROR,
    UNDERSTOOD,
    has_content,
    is_final,
    reason,
)


def test_9110_15_1_heuristically_cacheable_statuses() -> None:
    assert sorted(HEURISTIC) == [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501]


def test_9110_15_understood_are_all_final_codes_it_defines() -> None:
    defined = {
        *range(200, 207), *range(300, 305), 307, 308, *range(400, 418), 421, 422, 426, *range(500, 506),
    }  # fmt: skip
    # And what RFC 6585, 7725 and 8470 add, each with a word on caching.
    assert defined | {425, 428, 429, 431, 451, 511} == UNDERSTOOD


def test_5861_4_errors_stale_may_stand_in_for() -> None:
    assert {500, 502, 503, 504} == STALE_IF_ERROR


def test_6585_never_stored() -> None:
    assert {428, 429, 431, 511} == NEVER_STORED


@pytest.mark.parametrize(
    ("status", "phrase"), [(200, "OK"), (413, "Content Too Large"), (422, "Unprocessable Content")]
)
def test_9110_15_phrases_are_the_current_ones(status: int, phrase: str) -> None:
    assert reason(status) == phrase


def test_9112_4_a_status_without_phrase_has_an_empty_one() -> None:
    assert 299 not in REASONS
    assert reason(299) == ""


@pytest.mark.parametrize(
    ("method", "status", "content"),
    [
        ("GET", 200, True),
        ("GET", 404, True),
        ("GET", 205, True),
        ("HEAD", 200, False),
        ("GET", 204, False),
        ("GET", 304, False),
        ("GET", 100, False),
        ("GET", 103, False),
        ("CONNECT", 200, False),
        ("CONNECT", 407, True),
    ],
)
def test_9112_6_3_content_by_method_and_status(method: str, status: int, content: bool) -> None:
    assert has_content(method, status) is content


def test_9110_15_final_statuses() -> None:
    assert [status for status in (100, 199, 200, 599, 600) if is_final(status)] == [200, 599]
    assert 199 in BODILESS
