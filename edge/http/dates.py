"""HTTP dates (RFC 9110, 5.6.7), read without regard to case as RFC 9111, 4.2 asks of a cache."""

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_S = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second four digits of year can tell
_YEAR_S = 365.2425 * 86_400
_HALF_CENTURY_S = 50 * _YEAR_S

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBER = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}

_DAY = "(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY = "(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_MONTH = f"(?P<month>{'|'.join(_MONTH_NUMBER)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"

_FORMATS = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)


def http_date(unix_s: float) -> str:
    """The second `unix_s` lies in, as an IMF-fixdate. ValueError outside the years 1970 to 9999."""
    if not 0 <= unix_s <= _LAST_S:
        raise ValueError(f"no HTTP date for {unix_s!r}")
    at = _EPOCH + timedelta(seconds=int(unix_s))
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02} {month} {at.year:04} {at.hour:02}:{at.minute:02}:{at.second:02} GMT"


def parse_http_date(text: str, now: float | None = None) -> float | None:
    """Unix seconds of an IMF-fixdate, RFC 850 or asctime date; None for anything else.

    Only GMT is a date (RFC 9111, 4.2). A leap second counts as the second after it. The day's name must be one, but
    need not fit the date. Two-digit years are the latest that is at most 50 years after `now` (RFC 9110, 5.6.7);
    without `now`, those of 1970 to 2069.
    """
    text = text.strip(" \t")
    for pattern in _FORMATS:
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            month, day = _MONTH_NUMBER[parts["month"].lower()], int(parts["day"])
            clock = int(parts["hour"]), int(parts["minute"]), int(parts["second"])
            if len(parts["year"]) == 2:
                return _two_digit_year(int(parts["year"]), month, day, clock, now)
            return _unix_s(int(parts["year"]), month, day, clock)
    return None


def _two_digit_year(digits: int, month: int, day: int, clock: tuple[int, int, int], now: float | None) -> float | None:
    if now is None:
        return _unix_s(1900 + digits if digits >= 70 else 2000 + digits, month, day, clock)
    latest = _EPOCH.year + int((now + _HALF_CENTURY_S) / _YEAR_S) + 1
    # Down from the century after; a 29 February may be missing from one of these years.
    for year in range(latest - (latest - digits) % 100, latest - 400, -100):
        at = _unix_s(year, month, day, clock)
        if at is not None and at <= now + _HALF_CENTURY_S:
            return at
    return None


def _unix_s(year: int, month: int, day: int, clock: tuple[int, int, int]) -> float | None:
    hour, minute, second = clock
    if second > 60:
        return None
    try:
        at = datetime(year, month, day, hour, minute, tzinfo=UTC)
    except ValueError:
        return None
    return (at - _EPOCH).total_seconds() + second
