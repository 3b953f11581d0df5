"""From an origin's answer to a record, and what a 304 makes of it."""

from __future__ import annotations

from typing import cast

import pytest

from edge.config import Site
from edge.fill.asking import Answer, Meaning
from edge.fill.follower import same_object
from edge.fill.messages import Identity, Want
from edge.fill.origin import OriginResponse
from edge.fill.records import contradicts, draft_record, freshened_record, usable_lifetime_s
from edge.fill.rules import Rules
from edge.http.dates import http_date
from edge.http.fields import Fields
from edge.store.record import Record

NOW = 1_800_000_000.0
RULES = Rules()
SITE = Site(name="s", origins=("http://o.test",))
DATED = ("Date", http_date(NOW))
TAGGED = ("ETag", '"e"')


class Response:
    """What is read of an origin's response."""

    def __init__(self, *fields: tuple[str, str], status: int = 200, took_s: float = 0.0) -> None:
        self.fields = Fields(fields)
        self.status = status
        self.request_time, self.response_time = NOW - took_s, NOW


def response(*fields: tuple[str, str], status: int = 200, took_s: float = 0.0) -> OriginResponse:
    return cast("OriginResponse", Response(*fields, status=status, took_s=took_s))


def record(*fields: tuple[str, str], size: int = 100, default_s: float | None = None) -> Record:
    return draft_record(Answer(Meaning.STORE, 0, size, size), response(*fields), Rules(default_s), 1 << 20)


@pytest.mark.rfc("9111-3.1")
class TestDraft:
    def test_fields_of_the_message_are_not_kept(self) -> None:
        made = record(
            DATED, TAGGED, ("Content-Length", "100"), ("Accept-Ranges", "bytes"), ("Connection", "X-A"), ("X-A", "1"),
            ("Age", "5"), ("Cache-Control", "max-age=60"),
        )  # fmt: skip
        assert made.fields == (DATED, TAGGED, ("Cache-Control", "max-age=60"))
        assert (made.initial_age_s, made.lifetime_s, made.fresh_until) == (5, 60, NOW + 55)

    def test_nothing_is_held_at_first_but_of_an_empty_body_all(self) -> None:
        assert record(DATED).held == b""
        assert record(DATED, size=0).complete

    def test_the_time_the_request_took_counts_as_age(self) -> None:
        made = draft_record(Answer(Meaning.STORE, 0, 1, 1), response(DATED, ("Age", "1"), took_s=3.0), RULES, 1 << 20)
        assert made.initial_age_s == 4.0

    def test_what_is_not_fresh_on_arrival_is_not_for_a_moment(self) -> None:
        """A worker's clock may be late: to it, the end of a freshness of 0 would lie ahead."""
        assert record(DATED, TAGGED, ("Cache-Control", "no-cache")).fresh_until < NOW - 10
        assert record(DATED, TAGGED, ("Cache-Control", "max-age=5"), ("Age", "5")).fresh_until < NOW - 10


@pytest.mark.rfc("9111-4.2.1")
class TestLifetime:
    @pytest.mark.parametrize(
        ("fields", "default_s", "expected_s"),
        [
            ([("Cache-Control", "max-age=60")], 999.0, 60.0),
            ([("Cache-Control", "no-cache, max-age=60")], 999.0, 0.0),
            ([("Cache-Control", 'no-cache="x-a", max-age=60')], None, 60.0),
            ([("Expires", http_date(NOW + 30))], None, 30.0),
            ([], 999.0, 999.0),
            ([], None, 0.0),
        ],
    )
    def test_usable(self, fields: list[tuple[str, str]], default_s: float | None, expected_s: float) -> None:
        assert usable_lifetime_s(200, Fields([DATED, *fields]), NOW, Rules(default_s)) == expected_s


@pytest.mark.rfc("9111-4.3.4")
class TestAfterA304:
    def test_its_fields_replace_ours_and_it_is_fresh_anew(self) -> None:
        stored = record(DATED, TAGGED, ("Cache-Control", "max-age=0"), ("X-Old", "1"))
        fresh = freshened_record(
            stored, response(DATED, ("Cache-Control", "max-age=60"), ("Age", "7"), ("Content-Length", "0")), SITE
        )
        assert fresh.fresh_until == NOW + 53
        assert fresh.size == 100
        assert dict(fresh.fields) == dict([TAGGED, ("X-Old", "1"), DATED, ("Cache-Control", "max-age=60")])

    def test_a_default_by_media_type_holds_though_a_304_names_none(self) -> None:
        site = SITE.model_copy(update={"default_freshness": {"video/*": 99.0}})
        stored = record(DATED, TAGGED, ("Content-Type", "video/mp4"), default_s=99.0)
        assert freshened_record(stored, response(DATED, TAGGED, status=304), site).lifetime_s == 99.0

    def test_no_cookie_gets_in_where_cookies_are_passed_on(self) -> None:
        answer = response(DATED, ("Set-Cookie", "viewer=1"))
        assert "Set-Cookie" not in dict(
            freshened_record(record(DATED, TAGGED), answer, SITE.model_copy(update={"set_cookie": "pass"})).fields
        )
        assert dict(freshened_record(record(DATED, TAGGED), answer, SITE).fields)["Set-Cookie"] == "viewer=1"

    @pytest.mark.parametrize(
        ("theirs", "is_contradiction"),
        [
            ([TAGGED], False),
            ([], False),
            ([("ETag", '"other"')], True),
            ([("ETag", 'W/"e"')], False),
            ([("Last-Modified", http_date(NOW - 100))], True),
        ],
    )
    def test_it_must_be_of_what_is_stored(self, theirs: list[tuple[str, str]], is_contradiction: bool) -> None:
        assert contradicts(record(DATED, TAGGED), response(*theirs, status=304)) is is_contradiction


@pytest.mark.rfc("9110-8.8.3.2")
class TestSameObject:
    @staticmethod
    def want(identity: Identity | None) -> Want:
        return Want(1, b"k" * 16, "s", "u", "GET", "", "/", (), True, continues=identity)

    def test_a_delivery_goes_on_with_the_same_bytes_alone(self) -> None:
        stored = record(DATED, TAGGED)
        assert same_object(self.want(None), stored)
        assert same_object(self.want(Identity(100, '"e"', None)), stored)
        assert not same_object(self.want(Identity(101, '"e"', None)), stored)
        assert not same_object(self.want(Identity(100, '"f"', None)), stored)
        assert not same_object(self.want(Identity(100, '"e"', http_date(NOW))), stored)

    def test_a_weak_tag_or_none_promises_no_bytes(self) -> None:
        assert not same_object(self.want(Identity(100, 'W/"e"', None)), record(DATED, ("ETag", 'W/"e"')))
        assert not same_object(self.want(Identity(100, None, None)), record(DATED))
