"""From a request and a resource to status, headers and a piece of the body: the rules an origin keeps.

Written apart from the cache's own rules on purpose: the two are tested against each other.
"""

import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus

from loadtest.faults import Step
from loadtest.resources import Resource

Headers = list[tuple[str, str]]
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str  # as it came: path and query
    http: tuple[int, int]
    headers: tuple[tuple[str, str], ...]
    body_bytes: int = 0
    body_sha256: str = ""
    connection: int = 0  # a number, the same for all requests of a connection

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """All values of a header, joined as HTTP allows; None if it was not sent."""
        values = [value for sent, value in self.headers if sent.lower() == name.lower()]
        return ", ".join(values) if values else None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers
    start: int = 0  # the part of the resource that makes the body: [start, end)
    end: int = 0
    has_body: bool = True  # even an empty one: false where HTTP has no place for it


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unnamed"


@lru_cache(maxsize=64)
def http_date(at_s: int) -> str:
    return formatdate(at_s, usegmt=True)


def _epoch_s(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None


def _is_unmodified(request: Request, resource: Resource) -> bool:
    known = request.header("If-None-Match")
    if known is not None:
        tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
        return known.strip() == "*" or resource.etag in tags
    since = request.header("If-Modified-Since")
    at_s = _epoch_s(since) if since is not None else None
    return at_s is not None and resource.modified_s <= at_s


def _range_holds(request: Request, resource: Resource) -> bool:
    condition = request.header("If-Range")
    if condition is None:
        return True
    if condition.startswith('"'):
        return condition == resource.etag
    return condition == http_date(resource.modified_s)


def span(text: str, size: int) -> tuple[int, int] | None:
    """The half-open span a Range header asks for; None: to be ignored. ValueError: nothing of it is there."""
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise ValueError(text)
        return max(0, size - int(last)), size
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError(text)
    return start, end


def decide(request: Request, resource: Resource, step: Step, cache_control: str | None, now_s: float) -> Answer:
    """What a correct origin says, with the step's own status and headers laid over it."""
    headers: Headers = [("Date", http_date(int(now_s))), ("Content-Type", resource.media_type)]
    status, start, end = step.status or 200, 0, resource.size
    if step.status is None and request.method in ("GET", "HEAD"):
        asked = request.header("Range")
        if _is_unmodified(request, resource):
            status, end = 304, 0
        elif asked is not None and step.ranges and _range_holds(request, resource):
            try:
                found = span(asked, resource.size)
            except ValueError:
                status, end = 416, 0
                headers.append(("Content-Range", f"bytes */{resource.size}"))
            else:
                if found is not None:
                    status, (start, end) = 206, found
                    headers.append(("Content-Range", f"bytes {start}-{end - 1}/{resource.size}"))
    if status in (200, 206, 304):
        headers += [("ETag", resource.etag), ("Last-Modified", http_date(resource.modified_s))]
        headers.append(("Accept-Ranges", "bytes" if step.ranges else "none"))
        if cache_control is not None:
            headers.append(("Cache-Control", cache_control))
    has_body = status >= 200 and status not in (204, 304)
    if not has_body:
        start = end = 0
    elif step.framing == "length":
        headers.append(("Content-Length", str(end - start)))
    elif step.framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
    if step.close or step.framing == "close":
        headers.append(("Connection", "close"))
    return Answer(status, _overlaid(headers, step), start, end, has_body and request.method != "HEAD")


def _overlaid(headers: Headers, step: Step) -> Headers:
    own = {name.lower() for name in step.headers}
    result = [(name, value) for name, value in headers if name.lower() not in own]
    result += [(name, value) for name, value in step.headers.items() if value is not None]
    result += step.add
    if step.padding_bytes:
        result.append(("X-Padding", "p" * step.padding_bytes))
    return result


def head(answer: Answer) -> bytes:
    """The header block as bytes."""
    lines = [f"HTTP/1.1 {answer.status} {phrase(answer.status)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
