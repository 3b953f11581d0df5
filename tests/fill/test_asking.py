"""What is asked of an origin, and what its answer is taken for."""

from __future__ import annotations

import pytest

from edge.config import Site
from edge.config.model import Cors
from edge.fill.asking import (
    NO_RULES,
    Answer,
    Asked,
    Meaning,
    first_ask,
    interpret,
    lower_ask,
    selecting_names,
    shared_fields,
    wanted_span,
)
from edge.fill.messages import Want
from edge.fill.rules import Rules
from edge.http.fields import Fields

SLICE = 1 << 20
WHOLE = Asked(0, None)
SITE = Site(name="s", origins=("http://o.test",))
PLAIN = (("ETag", '"e"'), ("Cache-Control", "max-age=60"))


def want(start: int | None = None, end: int | None = None) -> Want:
    return Want(1, b"k" * 16, "s", "http://s/a", "GET", "s", "/a", (), True, start, end)


def meaning(
    asked: Asked,
    status: int,
    *fields: tuple[str, str],
    request: tuple[tuple[str, str], ...] = (),
    rules: Rules = NO_RULES,
    revalidating: bool = False,
) -> Answer:
    return interpret(asked, status, Fields(request), Fields(fields), rules, revalidating=revalidating)


class TestAsked:
    @pytest.mark.parametrize(
        ("start", "end", "field"),
        [
            (None, None, None),
            (0, None, None),
            (0, 1, f"bytes=0-{SLICE - 1}"),
            (SLICE - 1, SLICE + 1, f"bytes=0-{2 * SLICE - 1}"),
            (SLICE, 2 * SLICE, f"bytes={SLICE}-{2 * SLICE - 1}"),
            (SLICE + 5, None, f"bytes={SLICE}-"),
            (None, 10, f"bytes=-{SLICE + 10}"),
            (None, SLICE, f"bytes=-{2 * SLICE}"),
        ],
    )
    def test_whole_slices_are_asked_for(self, start: int | None, end: int | None, field: str | None) -> None:
        assert first_ask(start, end, SLICE).field() == field

    def test_a_suffix_holds_every_slice_it_touches(self) -> None:
        for size in (SLICE * 3, SLICE * 3 + 1, SLICE * 3 + 7, SLICE * 4 - 1):
            for length in (1, 100, SLICE - 1, SLICE, SLICE + 1):
                asked = first_ask(None, length, SLICE)
                assert asked.suffix is not None
                first = max(0, size - asked.suffix)
                assert -(-first // SLICE) * SLICE <= (size - length) // SLICE * SLICE

    @pytest.mark.parametrize(
        ("asked", "lower"),
        [
            (Asked(5 * SLICE, 6 * SLICE), Asked(0, SLICE)),
            (Asked(5 * SLICE, None), Asked(0, SLICE)),
            (Asked(0, None, suffix=SLICE), Asked(0, SLICE)),
            (Asked(0, SLICE), WHOLE),
        ],
    )
    def test_where_nothing_of_it_exists_the_beginning_is_asked_for(self, asked: Asked, lower: Asked) -> None:
        assert lower_ask(asked, SLICE) == lower

    @pytest.mark.parametrize(
        ("start", "end", "span"),
        [
            (None, None, (0, 100)),
            (10, 20, (10, 20)),
            (10, None, (10, 100)),
            (90, 200, (90, 100)),
            (200, 300, (100, 100)),
            (None, 30, (70, 100)),
            (None, 300, (0, 100)),
        ],
    )
    def test_wanted_span(self, start: int | None, end: int | None, span: tuple[int, int]) -> None:
        assert wanted_span(want(start, end), 100) == span


class TestSharedFields:
    def test_what_is_one_clients_stays_here(self) -> None:
        sent = [
            ("User-Agent", "player"),
            ("Range", "bytes=0-1"),
            ("If-None-Match", '"x"'),
            ("Accept-Encoding", "br"),
            ("CMCD-Session", "sid"),
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
            ("Authorization", "a"),
        ]
        assert shared_fields(tuple(sent), SITE) == [("User-Agent", "player"), ("Authorization", "a")]

    def test_nor_which_web_site_asks_where_that_is_answered_here(self) -> None:
        site = SITE.model_copy(update={"cors": Cors()})
        assert shared_fields((("Origin", "https://a"), ("X", "1")), SITE) == [("Origin", "https://a"), ("X", "1")]
        assert shared_fields((("Origin", "https://a"), ("X", "1")), site) == [("X", "1")]
        varied = Fields([("Vary", "Origin, Accept-Encoding, Range, X")])
        assert (selecting_names(varied, SITE), selecting_names(varied, site)) == (("origin", "x"), ("x",))


class TestWholeAnswers:
    def test_is_stored(self) -> None:
        answer = meaning(WHOLE, 200, *PLAIN, ("Content-Length", "500"))
        assert answer == Answer(Meaning.STORE, 0, 500, 500, 200)

    def test_is_stored_with_unknown_length(self) -> None:
        answer = meaning(WHOLE, 200, *PLAIN, ("Transfer-Encoding", "chunked"))
        assert answer == Answer(Meaning.STORE, 0, None, -1, 200)

    def test_all_in_place_of_a_part_is_stored_as_all(self) -> None:
        answer = meaning(Asked(SLICE, 2 * SLICE), 200, *PLAIN, ("Content-Length", "500"))
        assert (answer.meaning, answer.start, answer.end) == (Meaning.STORE, 0, 500)

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ([("Cache-Control", "no-store")], "no_store"),
            ([("Cache-Control", "private")], "private"),
            ([("Cache-Control", "max-age=60"), ("Vary", "*")], "vary_star"),
            ([], "no_freshness_no_validator"),
        ],
    )
    def test_is_passed_on(self, fields: list[tuple[str, str]], why: str) -> None:
        answer = meaning(WHOLE, 200, *fields, ("Content-Length", "5"))
        assert (answer.meaning, answer.why, answer.is_personal) == (Meaning.PASS, why, False)

    def test_a_cookie_is_stored_or_passed_on_as_the_operator_says(self) -> None:
        fields = (("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b"), ("Content-Length", "5"))
        assert meaning(WHOLE, 200, *fields).meaning is Meaning.STORE
        assert meaning(WHOLE, 200, *fields, rules=Rules(refuse_set_cookie=True)).why == "set_cookie"

    def test_without_a_body_needs_no_length(self) -> None:
        assert meaning(WHOLE, 204, *PLAIN) == Answer(Meaning.STORE, 0, 0, 0, 204)

    @pytest.mark.parametrize("status", [404, 410, 500, 503])
    def test_errors_are_stored_where_the_operator_says_for_how_long(self, status: int) -> None:
        plain = ("Content-Length", "5")
        assert meaning(WHOLE, status, plain).meaning is Meaning.PASS
        assert meaning(WHOLE, status, plain, rules=Rules(negative_s=2.0)).meaning is Meaning.STORE
        refused = ("Cache-Control", "no-store")
        assert meaning(WHOLE, status, plain, refused, rules=Rules(negative_s=2.0)).meaning is Meaning.PASS

    def test_without_an_end_of_its_own_is_passed_on(self) -> None:
        assert meaning(WHOLE, 200, *PLAIN).meaning is Meaning.PASS

    def test_to_authorization_is_personal(self) -> None:
        answer = meaning(WHOLE, 200, *PLAIN, ("Content-Length", "5"), request=(("Authorization", "a"),))
        assert (answer.meaning, answer.is_personal) == (Meaning.PASS, True)

    def test_default_freshness_makes_it_storable(self) -> None:
        answer = meaning(WHOLE, 200, ("Content-Length", "5"), rules=Rules(default_s=60))
        assert answer.meaning is Meaning.STORE

    def test_304(self) -> None:
        assert meaning(WHOLE, 304, revalidating=True).meaning is Meaning.NOT_MODIFIED
        assert meaning(WHOLE, 304).meaning is Meaning.BROKEN

    def test_416_to_a_range_says_nothing_of_the_object(self) -> None:
        fields = [("Cache-Control", "max-age=60"), ("Content-Length", "0")]
        assert meaning(Asked(SLICE, 2 * SLICE), 416, *fields).meaning is Meaning.BEYOND
        assert meaning(Asked(0, None, suffix=5), 416, *fields).meaning is Meaning.BEYOND
        assert meaning(WHOLE, 416).meaning is Meaning.PASS


@pytest.mark.rfc("9111-3.3", "9110-15.3.7")
class TestParts:
    @pytest.mark.parametrize(
        ("asked", "content_range", "expected"),
        [
            (Asked(0, 100), "bytes 0-99/1000", Answer(Meaning.STORE, 0, 100, 1000)),
            (Asked(900, 1100), "bytes 900-999/1000", Answer(Meaning.STORE, 900, 1000, 1000)),
            (Asked(900, None), "bytes 900-999/1000", Answer(Meaning.STORE, 900, 1000, 1000)),
            (Asked(0, None, suffix=100), "bytes 900-999/1000", Answer(Meaning.STORE, 900, 1000, 1000)),
            (Asked(0, None, suffix=2000), "bytes 0-999/1000", Answer(Meaning.STORE, 0, 1000, 1000)),
        ],
    )
    def test_is_stored(self, asked: Asked, content_range: str, expected: Answer) -> None:
        assert meaning(asked, 206, *PLAIN, ("Content-Range", content_range)) == expected._replace(status=200)

    @pytest.mark.parametrize(
        ("asked", "fields"),
        [
            (WHOLE, [("Content-Range", "bytes 0-99/100")]),
            (Asked(0, 100), []),
            (Asked(0, 100), [("Content-Range", "bytes */1000")]),
            (Asked(0, 100), [("Content-Range", "bytes 1-99/1000")]),
            (Asked(0, 100), [("Content-Range", "bytes 0-98/1000")]),
            (Asked(0, 100), [("Content-Range", "bytes 0-199/1000")]),
            (Asked(0, 100), [("Content-Range", "bytes 0-99/1000"), ("Content-Length", "99")]),
            (Asked(0, 100), [("Content-Range", "items 0-99/1000")]),
            (Asked(0, None, suffix=100), [("Content-Range", "bytes 0-99/1000")]),
        ],
    )
    def test_another_part_than_was_asked_for_is_broken(self, asked: Asked, fields: list[tuple[str, str]]) -> None:
        assert meaning(asked, 206, *PLAIN, *fields).meaning is Meaning.BROKEN

    @pytest.mark.parametrize(
        "fields",
        [
            [("Content-Range", "bytes 0-99/*"), *PLAIN],
            [("Content-Range", "bytes 0-99/1000"), ("ETag", 'W/"e"'), ("Cache-Control", "max-age=60")],
            [("Content-Range", "bytes 0-99/1000"), ("ETag", '"e"'), ("Cache-Control", "no-store")],
            [("Content-Range", "bytes 0-99/1000"), *PLAIN, ("Vary", "*")],
        ],
    )
    def test_a_part_that_cannot_be_kept(self, fields: list[tuple[str, str]]) -> None:
        assert meaning(Asked(0, 100), 206, *fields).meaning is Meaning.NO_RANGES


def test_what_a_fill_does_not_pass_on_selects_nothing() -> None:
    assert selecting_names(Fields(), SITE) == ()
    assert selecting_names(Fields([("Vary", "accept-encoding")]), SITE) == ()
    assert selecting_names(Fields([("Vary", "Accept-Encoding, Origin"), ("Vary", "A")]), SITE) == ("a", "origin")
