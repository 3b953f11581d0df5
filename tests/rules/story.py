"""A case as data: what the origin answers, what clients ask in turn, and what must come of each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import http_sf

from loadtest.answer import Request
from loadtest.faults import Step
from loadtest.origin import Origin
from loadtest.tally import Entry
from tests.kit.client import Client, Reply
from tests.kit.daemon import Daemon
from tests.kit.until import until

CACHE = "edge"
HOST = "rules.test"
TTL_SLACK_S = 2  # a case may take so long between an answer and the look at it
Expected = str | re.Pattern[str] | None
Handler = Callable[[Request], Step]
Answers = Sequence[Step] | Handler
LOST = Step(raw=b"")  # the connection closes in place of an answer


def says(body: str, control: str | None = None, status: int = 200, /, **fields: str | None) -> Step:
    """An answer whatever is asked. Field names with _ for -; {path} in a value is the case's own."""
    headers: dict[str, str | None] = {"Cache-Control": control, "ETag": None, "Last-Modified": None}
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    return Step(status=status, body=body.encode(), headers=headers, ranges=False)


def unchanged(control: str | None = None, /, **fields: str | None) -> Step:
    """304, whatever is asked."""
    return replace(says("", control, 304, **fields), body=None)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request and what must come of it; what is None is not looked at. A field's None means it is absent."""

    lines: tuple[str, ...] = ()
    method: str = "GET"
    at: str = ""  # behind the case's path
    host: str = HOST
    version: str = "1.1"
    content: bytes = b""
    wait_s: float = 0.0  # ahead of it

    status: int | tuple[int, ...] | None = 200
    body: str | None = None
    asks: bool | None = None  # whether the origin sees a request for it
    behind: bool = False  # whether the origin is asked once more behind the answer
    has: Mapping[str, Expected] = field(default_factory=dict)
    sent: Mapping[str, Expected] = field(default_factory=dict)  # of the request that the origin sees
    cache: str | None = None  # this cache's member of Cache-Status; ttl and detail count if they are named
    interim: tuple[int, ...] | None = None
    may_break: bool = False  # what began as one version cannot end as another


@dataclass(frozen=True)
class Case:
    """`rules` are the sections it shows: 9111-4.1."""

    id: str
    rules: str
    answers: Answers
    asks: Sequence[Ask]
    more: Mapping[str, Answers] = field(default_factory=dict)  # answers to other paths, by what is behind the case's

    @property
    def path(self) -> str:
        return f"/{self.id}"


class Teller:
    """Tells cases to a daemon and its origin."""

    def __init__(self, origin: Origin, edge: Daemon) -> None:
        self.origin = origin
        self.edge = edge

    async def tell(self, case: Case) -> None:
        for at, answers in {"": case.answers, **case.more}.items():
            self._script(case, case.path + at, answers)
        for number, ask in enumerate(case.asks, 1):
            try:
                await self._ask(case, ask)
            except AssertionError as error:
                raise AssertionError(f"{case.id} (RFC {case.rules}), request {number}: {error}") from error

    def _script(self, case: Case, path: str, answers: Answers) -> None:
        if callable(answers):
            self.origin.on(path, answers)
        else:
            self.origin.script(path, [_filled(step, case.path) for step in answers])

    def _seen(self, target: str) -> list[Entry]:
        return [entry for entry in self.origin.log if entry.target == target]

    async def _landed(self, path: str) -> None:
        """Return when no fill for the path is under way: a request before would still share its answer."""

        async def gone() -> bool:
            return not any(str(one["url"]).endswith(path) for one in (await self.edge.status())["fills"])

        await until(gone)

    async def _ask(self, case: Case, ask: Ask) -> None:
        path = case.path + ask.at
        await asyncio.sleep(ask.wait_s)
        await self._landed(path)
        seen = self._seen(path)
        interim, reply = await self._exchange(case, ask)
        if ask.asks is not None:
            await self._count(path, len(seen) + ask.asks, behind=ask.behind)
        _check(ask, interim, reply)
        if ask.sent:
            entries = self._seen(path)
            assert len(entries) > len(seen), "the origin was not asked"
            for name, value in ask.sent.items():
                _match(f"the origin was sent {name}", entries[len(seen)].header(name), value)
        for name, value in ask.has.items():
            _match(f"the answer's {name}", reply.field(name), value)

    async def _count(self, path: str, wanted: int, *, behind: bool) -> None:
        if behind:

            async def asked() -> bool:
                return len(self._seen(path)) >= wanted + 1

            try:
                await until(asked, 5)
            except TimeoutError:
                raise AssertionError("the origin was not asked behind the answer") from None
            wanted += 1
        found = len(self._seen(path))
        assert found == wanted, f"the origin has seen {found} requests, not {wanted}"

    async def _exchange(self, case: Case, ask: Ask) -> tuple[list[Reply], Reply]:
        lines = [line.replace("{path}", case.path) for line in ask.lines]
        if ask.content or ask.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(ask.content)}")
        async with Client(self.edge.port) as client:
            client.send(case.path + ask.at, *lines, method=ask.method, host=ask.host, version=ask.version)
            client.writer.write(ask.content)
            interim = []
            while (reply := await client.head()).status < 200:
                interim.append(reply)
            reply = await client.body(reply, ask.method)
            assert reply.whole or ask.may_break, "the answer broke off"
            return interim, reply


def _check(ask: Ask, interim: list[Reply], reply: Reply) -> None:
    said = f"Cache-Status: {reply.field('Cache-Status')}, body {reply.body[:60]!r}"
    if ask.status is not None:
        allowed = (ask.status,) if isinstance(ask.status, int) else ask.status
        assert reply.status in allowed, f"status {reply.status}, not {ask.status} ({said})"
    if ask.body is not None:
        assert reply.body == ask.body.encode(), f"not the body {ask.body[:60]!r} ({said})"
    if ask.interim is not None:
        came = tuple(one.status for one in interim)
        assert came == ask.interim, f"interim answers {came}, not {ask.interim}"
    statuses = _parsed(reply.field("Cache-Status"))
    if ask.cache is not None:
        assert statuses, "no Cache-Status"
        _same_status(statuses[-1], _parsed(ask.cache)[-1], reply.field("Cache-Status") or "")


def _parsed(field_value: str | None) -> list[tuple[str, dict[str, Any]]]:
    """Cache-Status as RFC 9211 has it: a List of Tokens or Strings, here with their parameters."""
    if field_value is None:
        return []
    members: Any = http_sf.parse(field_value.encode("latin-1"), tltype="list")
    return [(str(name), {key: _plain(value) for key, value in parameters.items()}) for name, parameters in members]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, http_sf.Token) else value


def _same_status(found: tuple[str, dict[str, Any]], wanted: tuple[str, dict[str, Any]], text: str) -> None:
    assert found[0] == wanted[0], text
    parameters = {name: value for name, value in found[1].items() if name in wanted[1] or name not in ("ttl", "detail")}
    parameters = {name: value for name, value in parameters.items() if (name, value) != ("collapsed", False)}
    if wanted[1].get("fwd-status") == 304:
        parameters.pop("stored", None)  # whether a confirmed answer is stored by that is for each cache to say
    ttl_s = parameters.pop("ttl", None)
    wanted_ttl_s = wanted[1].get("ttl")
    others = {name: value for name, value in wanted[1].items() if name != "ttl"}
    assert parameters == others, f"Cache-Status {text!r}, not {wanted[1]}"
    if wanted_ttl_s is not None:
        assert ttl_s is not None, f"no ttl in {text!r}"
        assert wanted_ttl_s - TTL_SLACK_S <= ttl_s <= wanted_ttl_s, text


def _match(what: str, found: str | None, wanted: Expected) -> None:
    if isinstance(wanted, re.Pattern):
        assert found is not None, f"{what} is absent"
        assert wanted.fullmatch(found), f"{what}: {found!r} is not {wanted.pattern}"
    else:
        assert found == wanted, f"{what}: {found!r}, not {wanted!r}"


def _filled(step: Step, path: str) -> Step:
    headers = {name: value and value.replace("{path}", path) for name, value in step.headers.items()}
    return replace(step, headers=headers)
