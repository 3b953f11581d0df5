"""Freshness, age and reuse (RFC 9111, 4.2, 5.2; RFC 5861; RFC 8246)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.dates import http_date
from edge.http.directives import DELTA_MAX_S, EffectiveControl, effective_directives, parse_cache_control
from edge.http.fields import Fields
from edge.http.freshness import (
    Lifetime,
    LifetimeSource,
    Reuse,
    ReuseReason,
    ReuseVerdict,
    age_value,
    corrected_initial_age,
    current_age,
    date_value,
    freshness,
    lifetime,
    must_revalidate,
    only_if_cached,
    request_allows,
    stale_if_error_s,
    stale_while_revalidate_s,
)

NOW = 1_767_225_600.0
ANY_LINE = st.text(max_size=30) | st.sampled_from(["max-age=5", "0", "Thu, 01 Jan 1970 00:00:00 GMT", "public, a=1"])


def fields(**values: str) -> Fields:
    return Fields((name.replace("_", "-"), value) for name, value in values.items())


def at(offset_s: float) -> str:
    return http_date(NOW + offset_s)


def control(line: str) -> EffectiveControl:
    return effective_directives(Fields([("Cache-Control", line)]))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("7200,0", 7200),
        ("0, 7200", 0),
        (" 7 ", 7),
        ("007", 7),
        ("99999999999", DELTA_MAX_S),
        ("9" * 5000, DELTA_MAX_S),
        ("", 0),
        ("abc", 0),
        ("-7200", 0),
        ("+7200", 0),
        ("7200.0", 0),
        ("7200s", 0),
        ("٣", 0),
        ("²", 0),
        (",7200", 0),
    ],
)
def test_9111_5_1_age(value: str, seconds: int) -> None:
    assert age_value(fields(Age=value)) == seconds


def test_9111_5_1_of_several_ages_the_first_counts() -> None:
    assert age_value(Fields([("Age", "7200"), ("Age", "0")])) == 7200
    assert age_value(Fields([("Age", "0"), ("Age", "7200")])) == 0
    assert age_value(Fields()) == 0


@pytest.mark.parametrize("date", [None, "foo", "0"])
def test_9110_6_6_1_without_a_date_the_moment_of_arrival_counts(date: str | None) -> None:
    response = Fields([("Date", date)] if date is not None else [])
    assert date_value(response, NOW) == NOW
    assert corrected_initial_age(response, NOW - 2, NOW) == 2


@pytest.mark.parametrize(
    ("date_s", "age", "delay_s", "expected_s"),
    [
        (0, "0", 0, 0),
        (-10, "0", 0, 10),
        (10, "0", 0, 0),
        (-10, "25", 0, 25),
        (-30, "25", 0, 30),
        (0, "25", 3, 28),
        (-2, "0", 3, 3),
        (0, "0", -3, 0),
    ],
    ids=["new", "apparent", "fast clock", "age", "slow clock", "age and delay", "delay", "clock set back"],
)
def test_9111_4_2_3_corrected_initial_age(date_s: float, age: str, delay_s: float, expected_s: float) -> None:
    assert corrected_initial_age(fields(Date=at(date_s), Age=age), NOW - delay_s, NOW) == expected_s


def test_9111_4_2_3_age_grows_with_residence() -> None:
    response = fields(Date=at(-10), Age="25")
    assert current_age(response, NOW, NOW, NOW + 100) == 125
    assert current_age(response, NOW, NOW, NOW - 100) == 25


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (fields(Cache_Control="max-age=60"), Lifetime(60, LifetimeSource.MAX_AGE)),
        (fields(Cache_Control="max-age=1, s-maxage=60"), Lifetime(60, LifetimeSource.S_MAXAGE)),
        (fields(Cache_Control="max-age=3600, s-maxage=1"), Lifetime(1, LifetimeSource.S_MAXAGE)),
        (fields(Cache_Control="s-maxage=x, max-age=60"), Lifetime(0, LifetimeSource.S_MAXAGE)),
        (fields(Cache_Control="max-age=60", Expires=at(-100), Date=at(0)), Lifetime(60, LifetimeSource.MAX_AGE)),
        (fields(Cache_Control="max-age=60", Expires="0"), Lifetime(60, LifetimeSource.MAX_AGE)),
        (fields(Cache_Control="max-age=0", Expires=at(100)), Lifetime(0, LifetimeSource.MAX_AGE)),
        (fields(Cache_Control="max-age=abc", Expires=at(100)), Lifetime(0, LifetimeSource.MAX_AGE)),
        (fields(Cache_Control="max-age=1, max-age=9"), Lifetime(0, LifetimeSource.MAX_AGE)),
        (fields(Expires=at(100), Date=at(0)), Lifetime(100, LifetimeSource.EXPIRES)),
        (fields(Expires=at(100), Date=at(50)), Lifetime(50, LifetimeSource.EXPIRES)),
        (fields(Expires=at(300), Date=at(400)), Lifetime(0, LifetimeSource.EXPIRES)),
        (fields(Expires=at(0), Date=at(0)), Lifetime(0, LifetimeSource.EXPIRES)),
        (fields(Expires=at(10), Date="foo"), Lifetime(10, LifetimeSource.EXPIRES)),
        (fields(Expires=at(10)), Lifetime(10, LifetimeSource.EXPIRES)),
        (fields(Expires="0"), Lifetime(0, LifetimeSource.EXPIRES)),
        (fields(Expires=""), Lifetime(0, LifetimeSource.EXPIRES)),
        (fields(Expires="Thu, 18 Aug 2050 02:01:18 UTC"), Lifetime(0, LifetimeSource.EXPIRES)),
        (Fields([("Expires", at(9)), ("Expires", at(9))]), Lifetime(9, LifetimeSource.EXPIRES)),
        (Fields([("Expires", at(9)), ("Expires", at(99))]), Lifetime(0, LifetimeSource.EXPIRES)),
        (fields(CDN_Cache_Control="max-age=60", Expires=at(-1)), Lifetime(60, LifetimeSource.MAX_AGE)),
        (fields(CDN_Cache_Control="none", Expires=at(99)), Lifetime(0, LifetimeSource.NONE)),
        (fields(CDN_Cache_Control="max-age=1.5", Cache_Control="max-age=60"), Lifetime(0, LifetimeSource.MAX_AGE)),
        (Fields(), Lifetime(0, LifetimeSource.NONE)),
        (fields(Pragma="no-cache", Cache_Control="max-age=60"), Lifetime(60, LifetimeSource.MAX_AGE)),
    ],
)
def test_9111_4_2_1_what_the_origin_states(response: Fields, expected: Lifetime) -> None:
    assert lifetime(200, response, NOW) == expected
    if expected.is_explicit:
        assert lifetime(200, response, NOW, default_s=7, heuristic=True) == expected


@pytest.mark.parametrize(
    ("status", "cache_control", "source"),
    [
        (200, "", LifetimeSource.DEFAULT),
        (404, "", LifetimeSource.DEFAULT),
        (302, "", LifetimeSource.NONE),
        (503, "", LifetimeSource.NONE),
        (599, "", LifetimeSource.NONE),
        (599, "public", LifetimeSource.DEFAULT),
        (599, "public =x", LifetimeSource.NONE),
    ],
)
def test_9111_4_2_2_a_default_only_where_the_status_or_public_permits(
    status: int, cache_control: str, source: LifetimeSource
) -> None:
    given_ = lifetime(status, fields(Cache_Control=cache_control), NOW, default_s=7)
    assert given_.source is source
    assert given_.seconds == (7 if source is LifetimeSource.DEFAULT else 0)


def test_9111_4_2_2_heuristic_is_a_tenth_of_the_time_unchanged() -> None:
    response = fields(Last_Modified=at(-1000), Date=at(0))
    assert lifetime(200, response, NOW) == Lifetime(0, LifetimeSource.NONE)
    assert lifetime(200, response, NOW, heuristic=True) == Lifetime(100, LifetimeSource.HEURISTIC)
    assert lifetime(200, response, NOW, heuristic=True, heuristic_max_s=30).seconds == 30
    assert lifetime(403, response, NOW, heuristic=True).source is LifetimeSource.NONE
    assert lifetime(200, response, NOW, heuristic=True, default_s=5).source is LifetimeSource.DEFAULT


@pytest.mark.parametrize("modified", ["foo", at(1000)])
def test_9111_4_2_2_no_heuristic_from_a_bad_or_future_last_modified(modified: str) -> None:
    assert lifetime(200, fields(Last_Modified=modified, Date=at(0)), NOW, heuristic=True).seconds == 0


@pytest.mark.rfc("9111-4.2")
def test_freshness_joins_lifetime_and_age() -> None:
    response = fields(Cache_Control="max-age=60", Date=at(0), Age="20")
    found = freshness(200, response, request_time=NOW, response_time=NOW, now=NOW + 39)
    assert (found.lifetime_s, found.age_s, found.ttl_s, found.is_fresh) == (60, 59, 1, True)
    found = freshness(200, response, request_time=NOW, response_time=NOW, now=NOW + 40)
    assert (found.ttl_s, found.is_fresh) == (0, False)


@pytest.mark.parametrize(
    ("line", "forbidden"),
    [
        ("max-age=2, must-revalidate", True),
        ("max-age=2, proxy-revalidate", True),
        ("max-age=2, no-cache", True),
        ("s-maxage=2", True),
        ("max-age=2", False),
        ('max-age=2, no-cache="a"', False),
    ],
)
def test_9111_4_2_4_when_stale_is_forbidden(line: str, forbidden: bool) -> None:
    extended = control(f"{line}, stale-while-revalidate=30, stale-if-error=40")
    assert must_revalidate(extended) is forbidden
    assert stale_while_revalidate_s(extended) == (0 if forbidden else 30)
    assert stale_if_error_s(extended) == (0 if forbidden else 40)
    assert stale_if_error_s(extended, parse_cache_control(["stale-if-error=50"])) == (0 if forbidden else 50)


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "", "1, stale-while-revalidate=2"])
def test_5861_3_an_invalid_time_is_none(value: str) -> None:
    assert stale_while_revalidate_s(control(f"stale-while-revalidate={value}")) == 0
    assert stale_while_revalidate_s(control("max-age=1")) == 0


FRESH = ReuseVerdict(Reuse.FRESH)


def validate(reason: ReuseReason) -> ReuseVerdict:
    return ReuseVerdict(Reuse.VALIDATE, reason)


def stale(reason: ReuseReason) -> ReuseVerdict:
    return ReuseVerdict(Reuse.STALE_ALLOWED, reason)


@pytest.mark.parametrize(
    ("request_line", "age_s", "response_line", "expected"),
    [
        ("", 50, "", FRESH),
        ("", 100, "", validate(ReuseReason.STALE)),
        ("", 50, "no-cache", validate(ReuseReason.RESPONSE_NO_CACHE)),
        ("", 50, 'no-cache="a"', FRESH),
        ("no-cache", 50, "", validate(ReuseReason.REQUEST_NO_CACHE)),
        ("no-cache", 50, "immutable", validate(ReuseReason.REQUEST_NO_CACHE)),
        ("max-age=0", 50, "", validate(ReuseReason.REQUEST_MAX_AGE)),
        ("max-age=0", 0, "", FRESH),
        ("max-age=0", 50, "immutable", FRESH),
        ("max-age=0", 100, "immutable", validate(ReuseReason.REQUEST_MAX_AGE)),
        ("", 100, "immutable", validate(ReuseReason.STALE)),
        ("max-age=50", 50, "", FRESH),
        ("max-age=49", 50, "", validate(ReuseReason.REQUEST_MAX_AGE)),
        ("max-age=x", 0, "", validate(ReuseReason.REQUEST_MAX_AGE)),
        ("max-age=900", 120, "stale-while-revalidate=30", validate(ReuseReason.REQUEST_MAX_AGE)),
        ("max-age=900", 100, "stale-while-revalidate=30", validate(ReuseReason.REQUEST_MAX_AGE)),
        ("max-age=900, max-stale", 120, "", stale(ReuseReason.MAX_STALE)),
        ("max-age=110, max-stale", 120, "", validate(ReuseReason.REQUEST_MAX_AGE)),
        ("min-fresh=50", 50, "", FRESH),
        ("min-fresh=51", 50, "", validate(ReuseReason.REQUEST_MIN_FRESH)),
        ("min-fresh=x", 50, "", validate(ReuseReason.REQUEST_MIN_FRESH)),
        ("min-fresh=0", 101, "stale-while-revalidate=30", validate(ReuseReason.REQUEST_MIN_FRESH)),
        ("", 129, "stale-while-revalidate=30", stale(ReuseReason.STALE_WHILE_REVALIDATE)),
        ("", 130, "stale-while-revalidate=30", validate(ReuseReason.STALE)),
        ("", 100, "stale-while-revalidate=30", stale(ReuseReason.STALE_WHILE_REVALIDATE)),
        ("", 101, "stale-while-revalidate=30, must-revalidate", validate(ReuseReason.STALE)),
        ("max-stale", 9999, "", stale(ReuseReason.MAX_STALE)),
        ("max-stale=20", 120, "", stale(ReuseReason.MAX_STALE)),
        ("max-stale=20", 121, "", validate(ReuseReason.STALE)),
        ("max-stale=x", 101, "", validate(ReuseReason.STALE)),
        ("max-stale", 101, "must-revalidate", validate(ReuseReason.STALE)),
        ("max-stale", 101, "proxy-revalidate", validate(ReuseReason.STALE)),
        ("max-stale", 101, "s-maxage=100", validate(ReuseReason.STALE)),
    ],
)
def test_9111_5_2_1_reuse(request_line: str, age_s: float, response_line: str, expected: ReuseVerdict) -> None:
    assert request_allows(parse_cache_control([request_line]), age_s, 100, control(response_line)) == expected


@pytest.mark.parametrize("line", ["no-cache", "max-age=0", "min-fresh=99"])
def test_9111_5_2_1_request_directives_are_advisory(line: str) -> None:
    request = parse_cache_control([line])
    assert request_allows(request, 50, 100, control(""), honour_request=False) == FRESH
    refused = request_allows(parse_cache_control(["max-stale"]), 101, 100, control(""), honour_request=False)
    assert refused == validate(ReuseReason.STALE)


def test_9111_4_2_4_the_operators_leave_yields_to_the_origins_prohibition() -> None:
    nothing = parse_cache_control([])
    assert request_allows(nothing, 105, 100, control(""), stale_ok_s=10).reuse is Reuse.STALE_ALLOWED
    assert request_allows(nothing, 110, 100, control(""), stale_ok_s=10).reuse is Reuse.VALIDATE
    assert request_allows(nothing, 105, 100, control("must-revalidate"), stale_ok_s=10).reuse is Reuse.VALIDATE


def test_9111_5_2_1_7_only_if_cached() -> None:
    assert only_if_cached(parse_cache_control(["max-age=0, only-if-cached"]))
    assert not only_if_cached(parse_cache_control(["max-age=0"]))


@pytest.mark.rfc("9111-4.2")
@given(st.lists(st.tuples(st.sampled_from(["Age", "Date", "Expires", "Cache-Control", "Last-Modified"]), ANY_LINE)))
def test_freshness_never_raises_and_is_never_negative(pairs: list[tuple[str, str]]) -> None:
    response = Fields(pairs)
    found = freshness(200, response, request_time=NOW - 1, response_time=NOW, now=NOW + 1, heuristic=True)
    assert found.lifetime_s >= 0
    assert found.age_s >= 2


@pytest.mark.rfc("9111-4.2")
@given(ANY_LINE, st.floats(0, 1e6), st.floats(0, 1e6), ANY_LINE)
def test_fresh_is_only_what_is_younger_than_its_lifetime(
    request_line: str, age_s: float, lifetime_s: float, response_line: str
) -> None:
    verdict = request_allows(parse_cache_control([request_line]), age_s, lifetime_s, control(response_line))
    assert (verdict.reuse is Reuse.FRESH) == (verdict.reason is None)
    if verdict.reuse is Reuse.FRESH:
        assert age_s < lifetime_s
