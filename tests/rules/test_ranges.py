"""Ranges and conditions on what is not stored, stored whole and stored in part (RFC 9110, 13 and 14; RFC 9111, 3.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import pytest

from loadtest import resources
from loadtest.faults import Step
from tests.rules.cases import parameters
from tests.rules.conftest import Outcome
from tests.rules.story import Ask, Case

BODY = "".join(f"{number:07d}\n" for number in range(25_000))
SIZE = len(BODY)
TAG = resources.of_bytes("x", BODY.encode(), 0).etag
DATED, LATER = (f"Mon, 01 Jan 2024 00:00:0{second} GMT" for second in (0, 5))
BEFORE = "Sun, 31 Dec 2023 00:00:00 GMT"
STEP = Step(body=BODY.encode(), headers={"Cache-Control": "max-age=600"})


@dataclass(frozen=True)
class Question:
    id: str
    rules: str
    lines: tuple[str, ...]
    status: int | tuple[int, ...]
    span: tuple[int, int] | None = None  # of the body in a 206, half open


def part(title: str, text: str, span: tuple[int, int], *conditions: str, rules: str = "9110-14.2") -> Question:
    return Question(title, rules, (f"Range: bytes={text}", *conditions), 206, span)


def whole(title: str, text: str, *conditions: str, rules: str = "9110-14.2") -> Question:
    return Question(title, rules, (f"Range: {text}", *conditions), 200)


QUESTIONS = [
    part("first", "0-499", (0, 500), rules="9110-14.1.2 9110-15.3.7"),
    part("middle", "70000-140000", (70_000, 140_001)),
    part("open", "150000-", (150_000, SIZE), rules="9110-14.1.2"),
    part("suffix", "-10", (SIZE - 10, SIZE), rules="9110-14.1.2"),
    part("suffix-longer-than-all", "-999999", (0, SIZE), rules="9110-14.1.2"),
    part("beyond-the-end", "199000-999999", (199_000, SIZE), rules="9110-14.1.2"),
    part("one-byte", "65536-65536", (65_536, 65_537)),
    part("if-range-tag", "5-9", (5, 10), f"If-Range: {TAG}", rules="9110-13.1.5"),
    part("if-range-date", "5-9", (5, 10), f"If-Range: {DATED}", rules="9110-13.1.5"),
    part("with-another-tag", "5-9", (5, 10), 'If-None-Match: "a"', rules="9110-13.2.2"),
    part("modified-since", "5-9", (5, 10), f"If-Modified-Since: {BEFORE}", rules="9110-13.2.2"),
    whole("if-range-other-tag", "bytes=5-9", 'If-Range: "a"', rules="9110-13.1.5"),
    whole("if-range-weak-tag", "bytes=5-9", f"If-Range: W/{TAG}", rules="9110-13.1.5 9110-8.8.3.2"),
    whole("if-range-other-date", "bytes=5-9", f"If-Range: {LATER}", rules="9110-13.1.5"),
    whole("unknown-unit", "lines=5-9", rules="9110-14.2"),
    whole("backwards", "bytes=9-5", rules="9110-14.1.1"),
    whole("nonsense", "bytes=a-b", rules="9110-14.1.1"),
    Question("not-satisfiable", "9110-14.2 9110-15.5.17", (f"Range: bytes={SIZE}-",), 416),
    Question("empty-suffix", "9110-14.1.2", ("Range: bytes=-0",), (416, 200)),
    Question("tag-matches-before-range", "9110-13.2.2", ("Range: bytes=5-9", f"If-None-Match: {TAG}"), 304),
    Question("not-modified-before-range", "9110-13.2.2", ("Range: bytes=5-9", f"If-Modified-Since: {LATER}"), 304),
    Question("if-range-without-range", "9110-13.1.5", (f"If-Range: {TAG}",), 200),
    Question("no-range", "9110-14", (), 200),
]


@cache
def _opening(state: str) -> tuple[Ask, ...]:
    """What brings the store into a state."""
    return {
        "miss": (),
        "hit": (Ask(asks=True, body=BODY),),
        "part": (Ask(lines=("Range: bytes=0-99",), status=206, body=BODY[:100], asks=True),),
    }[state]


def told(state: str, question: Question) -> Case:
    has: dict[str, str | re.Pattern[str] | None] = {}
    body: str | None = BODY if question.status == 200 else None
    if question.span is not None:
        start, end = question.span
        has = {"Content-Range": f"bytes {start}-{end - 1}/{SIZE}", "Content-Length": str(end - start), "ETag": TAG}
        body = BODY[start:end]
    elif question.status == 416:
        has = {"Content-Range": f"bytes */{SIZE}"}
    elif question.status == 304:
        has, body = {"ETag": TAG}, ""
    asks = False if state == "hit" else None
    rules = f"{question.rules} 9111-{'4' if state == 'hit' else '3.3'}" if state != "miss" else question.rules
    last = Ask(lines=question.lines, status=question.status, body=body, has=has, asks=asks)
    return Case(f"range-{state}-{question.id}", rules, [STEP], [*_opening(state), last])


CASES = [
    *(told(state, question) for state in ("miss", "hit", "part") for question in QUESTIONS),
    Case(
        "range-parts-are-stored-and-joined",
        "9111-3.3 9111-3.4",
        [STEP],
        [
            Ask(lines=("Range: bytes=0-65535",), status=206, asks=True, body=BODY[:65536]),
            Ask(lines=("Range: bytes=0-65535",), status=206, asks=False, body=BODY[:65536]),
            Ask(lines=("Range: bytes=100-199",), status=206, asks=False, body=BODY[100:200]),
            Ask(status=200, body=BODY),
            Ask(asks=False, body=BODY),
        ],
    ),
    Case(
        "range-the-rest-is-asked-for-alone",
        "9111-3.3 9110-13.1.5 9211-2.2",
        [STEP],
        [
            Ask(lines=("Range: bytes=0-65535",), status=206, asks=True),
            Ask(
                asks=True,
                body=BODY,
                sent={"Range": re.compile("bytes=65536-.*"), "If-Range": re.compile(re.escape(TAG) + "|.*GMT")},
                cache="edge; fwd=partial; stored",  # its first bytes are sent before the origin has answered
            ),
        ],
    ),
    Case(
        "range-parts-of-two-versions-are-not-joined",
        "9111-3.4 9110-15.3.7.3",
        [STEP, Step(body=BODY.replace("0", "o").encode(), version=1, headers=STEP.headers)],
        [
            Ask(lines=("Range: bytes=0-65535",), status=206, asks=True, body=BODY[:65536]),
            Ask(may_break=True),
            Ask(body=BODY.replace("0", "o")),
        ],
    ),
    Case(
        "range-an-origin-without-ranges",
        "9110-14.2 9111-3",
        [Step(body=BODY.encode(), headers=STEP.headers, ranges=False)],
        [
            Ask(lines=("Range: bytes=5-9",), status=(200, 206), asks=True),
            Ask(lines=("Range: bytes=5-9",), status=206, asks=False, body=BODY[5:10]),
        ],
    ),
    Case(
        "range-several",
        "9110-14.2 9110-15.3.7.2",
        [STEP],
        [
            Ask(asks=True),
            Ask(
                lines=("Range: bytes=0-1,10-11",),
                status=206,
                asks=False,
                has={"Content-Type": re.compile("multipart/byteranges; ?boundary=.+"), "Content-Range": None},
            ),
        ],
    ),
    Case(
        "range-accept-ranges-is-told",
        "9110-14.3",
        [STEP],
        [Ask(asks=True, has={"Accept-Ranges": "bytes"}), Ask(asks=False, has={"Accept-Ranges": "bytes"})],
    ),
    Case(
        "range-not-for-other-methods",
        "9110-14.2",
        [Step(body=b"0123456789", headers={"Cache-Control": "no-store"}, status=200)],
        [Ask(method="POST", lines=("Range: bytes=0-1",), asks=True, status=200, body="0123456789")],
    ),
    Case(
        "range-head-means-nothing",
        "9110-14.2 9110-9.3.2",
        [STEP],
        [Ask(asks=True), Ask(method="HEAD", lines=("Range: bytes=0-1",), status=(200, 206), asks=False, body="")],
    ),
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_ranges(case: Case, outcome: Outcome) -> None:
    outcome(case)
