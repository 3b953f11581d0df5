"""HTTP dates (RFC 9110, 5.6.7; RFC 9111, 4.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.dates import http_date, parse_http_date

pytestmark = pytest.mark.rfc("9110-5.6.7")

NOV_6_1994 = 784_111_777.0
IN_2026 = 1_767_225_600.0
IN_2030 = 1_893_456_000.0


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun Nov 06 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT\t",
    ],
)
def test_9110_5_6_7_all_three_formats(text: str) -> None:
    assert parse_http_date(text, IN_2026) == NOV_6_1994


@pytest.mark.parametrize(
    "text",
    [
        "SUN, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 NOV 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 gMT",
        "sunday, 06-nov-94 08:49:37 gmt",
        "sun nov  6 08:49:37 1994",
    ],
)
def test_9111_4_2_caches_read_dates_in_any_case(text: str) -> None:
    assert parse_http_date(text, IN_2026) == NOV_6_1994


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "784111777",
        "foo",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 EST",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT x",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 2023 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Now 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Xxx, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 94",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "1994-11-06T08:49:37Z",
        '"Sun, 06 Nov 1994 08:49:37 GMT"',
    ],
)
def test_9110_5_6_7_anything_else_is_no_date(text: str) -> None:
    assert parse_http_date(text, IN_2026) is None


def test_9110_5_6_7_a_leap_second_is_the_second_after() -> None:
    before = parse_http_date("Sat, 31 Dec 2016 23:59:59 GMT")
    assert before is not None
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == before + 1


def test_a_wrong_weekday_does_not_spoil_a_date() -> None:
    assert parse_http_date("Mon, 06 Nov 1994 08:49:37 GMT") == NOV_6_1994


@pytest.mark.parametrize(
    ("now", "digits", "year"),
    [
        (IN_2026, 94, 1994),
        (IN_2026, 27, 2027),
        (IN_2026, 75, 2075),
        (IN_2026, 76, 1976),
        (IN_2030, 79, 2079),
        (IN_2030, 81, 1981),
        (IN_2030, 0, 2000),
        (0.0, 19, 2019),
        (0.0, 21, 1921),
    ],
)
def test_9110_5_6_7_two_digit_years_are_at_most_fifty_years_ahead(now: float, digits: int, year: int) -> None:
    expected = parse_http_date(f"Mon, 01 Jun {year} 00:00:00 GMT")
    assert parse_http_date(f"Monday, 01-Jun-{digits:02} 00:00:00 GMT", now) == expected


@pytest.mark.parametrize(("digits", "year"), [(70, 1970), (99, 1999), (0, 2000), (69, 2069)])
def test_two_digit_years_without_now(digits: int, year: int) -> None:
    expected = parse_http_date(f"Mon, 01 Jun {year} 00:00:00 GMT")
    assert parse_http_date(f"Monday, 01-Jun-{digits:02} 00:00:00 GMT") == expected


def test_9110_5_6_7_written_as_imf_fixdate() -> None:
    assert http_date(NOV_6_1994) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(NOV_6_1994 + 0.999) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize("unix_s", [-1, float("nan"), float("inf"), 253_402_300_800])
def test_no_date_is_written_for_a_year_four_digits_cannot_tell(unix_s: float) -> None:
    with pytest.raises(ValueError, match="no HTTP date"):
        http_date(unix_s)


@given(st.integers(0, 253_402_300_799))
def test_written_dates_read_back(unix_s: int) -> None:
    assert parse_http_date(http_date(unix_s)) == unix_s


@given(st.text(), st.floats(0, 1e10))
def test_parsing_never_raises(text: str, now: float) -> None:
    assert parse_http_date(text, now) is None


@given(st.integers(0, 99), st.floats(0, 1e10))
def test_two_digit_years_stay_in_the_hundred_years_up_to_fifty_ahead(digits: int, now: float) -> None:
    at = parse_http_date(f"Monday, 01-Jun-{digits:02} 00:00:00 GMT", now)
    year_s = 365.2425 * 86_400
    assert at is not None
    assert now - 50.1 * year_s <= at <= now + 50 * year_s
