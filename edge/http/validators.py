"""Validators: entity tags, Last-Modified, and how two of them compare (RFC 9110, 8.8)."""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from edge.http.dates import parse_http_date
from edge.http.fields import Fields, Pair

_OPAQUE = '"[\\x21\\x23-\\x7e\\x80-\\xff]*"'
_ETAG = re.compile(f"(W/)?({_OPAQUE})")
_LIST_MEMBER = re.compile(f"[ \t]*(?:(?P<weak>W/)?(?P<opaque>{_OPAQUE})[ \t]*(?=,|$)|(?P<other>[^,]*))(?:,|$)")


class EntityTag(NamedTuple):
    """An entity tag; `opaque` keeps its quotes."""

    weak: bool
    opaque: str

    def __str__(self) -> str:
        return f"W/{self.opaque}" if self.weak else self.opaque


def parse_etag(text: str | None) -> EntityTag | None:
    """The entity tag `text` is; None for anything else, an unquoted one included (RFC 9110, 8.8.3)."""
    found = _ETAG.fullmatch(text.strip(" \t")) if text is not None else None
    return None if found is None else EntityTag(found[1] is not None, found[2])


def parse_etag_list(value: str) -> list[EntityTag] | Literal["*"]:
    """If-Match's or If-None-Match's value; members that are no entity tags match nothing and are left out."""
    if value.strip(" \t") == "*":
        return "*"
    members = (member for member in _LIST_MEMBER.finditer(value) if member["opaque"] is not None)
    return [EntityTag(member["weak"] is not None, member["opaque"]) for member in members]


def strong_match(one: EntityTag | None, other: EntityTag | None) -> bool:
    """Both strong and the same (RFC 9110, 8.8.3.2)."""
    return one is not None and other is not None and not one.weak and not other.weak and one.opaque == other.opaque


def weak_match(one: EntityTag | None, other: EntityTag | None) -> bool:
    """The same, whether weak or strong (RFC 9110, 8.8.3.2)."""
    return one is not None and other is not None and one.opaque == other.opaque


def is_strong_date(last_modified: str | None, date: str | None) -> bool:
    """Whether Last-Modified is a strong validator: at least a second before Date (RFC 9110, 8.8.2.2)."""
    if last_modified is None or date is None:
        return False
    modified, generated = parse_http_date(last_modified), parse_http_date(date)
    return modified is not None and generated is not None and generated - modified >= 1


@dataclass(frozen=True, slots=True)
class Validators:
    """A stored response's validators as received; None for one that is absent or not valid."""

    etag: str | None
    last_modified: str | None

    def __bool__(self) -> bool:
        return self.etag is not None or self.last_modified is not None

    def strong_for_range(self, date: str | None) -> str | None:
        """What If-Range may carry: a strong entity tag, else Last-Modified if strong by `date` (RFC 9110, 13.1.5).

        Last-Modified does not stand in for a weak tag: the client would have a tag, so the date may not be sent.
        """
        tag = parse_etag(self.etag)
        if tag is not None:
            return None if tag.weak else self.etag
        return self.last_modified if is_strong_date(self.last_modified, date) else None

    def conditional_fields(self) -> tuple[Pair, ...]:
        """The fields of a request to validate the whole response: all there are (RFC 9111, 4.3.1)."""
        tag = (("If-None-Match", self.etag),) if self.etag is not None else ()
        since = (("If-Modified-Since", self.last_modified),) if self.last_modified is not None else ()
        return (*tag, *since)


def strongest(fields: Fields) -> Validators:
    """The validators a response carries. A field given twice with different values is none (RFC 9110, 5.3)."""
    etag, last_modified = _single(fields, "etag"), _single(fields, "last-modified")
    return Validators(
        etag if parse_etag(etag) is not None else None,
        last_modified if last_modified is not None and parse_http_date(last_modified) is not None else None,
    )


def _single(fields: Fields, name: str) -> str | None:
    lines = set(fields.all(name))
    return lines.pop() if len(lines) == 1 else None
