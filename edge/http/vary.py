"""Vary: which request fields select among stored responses, and their values made comparable (RFC 9111, 4.1)."""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Final, Literal

from edge.http.fields import Fields, list_members


class VaryStar(Enum):
    """Vary: *, which no later request matches (RFC 9111, 4.1)."""

    STAR = "*"


STAR: Final = VaryStar.STAR

_TCHARS = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_QVALUE = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # RFC 9110, 12.4.2
_ALIASES = {"x-gzip": "gzip", "x-compress": "compress"}  # RFC 9110, 8.4.1


def vary_names(fields: Fields) -> tuple[str, ...] | Literal[VaryStar.STAR]:
    """The lower-case names in Vary, sorted and unique, () without Vary; STAR for `*` among them or for a bad name."""
    names = {name.lower() for line in fields.all("vary") for name in list_members(line)}
    # What a malformed name meant cannot be known, so no request can be said to match it.
    if "*" in names or not all(_TCHARS.fullmatch(name) for name in names):
        return STAR
    return tuple(sorted(names))


def variant_key(names: Sequence[str], request: Fields) -> str:
    """One text for all requests that select the same variant; a line per name, absent fields told from empty ones."""
    return "\n".join(name if (value := _normalised(name, request)) is None else f"{name}={value}" for name in names)


def accept_encoding(value: str) -> str:
    """The codings a client takes, lower-case, sorted, without weights; what is refused by q=0 keeps that.

    Unknown codings stay: an origin might use one, and then no other client may be given it. Names are case-insensitive
    (RFC 9110, 8.4.1) and order means nothing (12.5.3); the weights are given up so that variants stay few.
    """
    wanted: set[str] = set()
    refused: set[str] = set()
    for member in list_members(value):
        coding, *parameters = (part.strip(" \t").lower() for part in member.split(";"))
        if coding:
            group = refused if any(_weight(parameter) == 0 for parameter in parameters) else wanted
            group.add(_ALIASES.get(coding, coding))
    refused -= wanted
    # identity is taken unless refused, so naming it says something only next to a refused wildcard;
    # refusing another coding says something only next to an accepted one.
    if "*" not in refused:
        wanted.discard("identity")
    if "*" not in wanted:
        refused &= {"identity", "*"}
    return ", ".join((*sorted(wanted), *(f"{coding};q=0" for coding in sorted(refused))))


def accept_language(value: str) -> str:
    """The languages a client takes, lower-case (RFC 9110, 12.5.4), by falling weight and then by name.

    Among equal weights order is not said to mean anything; the weights stay, since an origin may choose by them.
    """
    ranges: list[tuple[float, str]] = []
    for member in list_members(value.lower()):
        tag, _, rest = member.partition(";")
        weight = _weight(rest)
        if weight is None:
            return _spaced(value.lower())
        ranges.append((-weight, tag.strip(" \t")))
    return ", ".join(f"{tag};q={-weight:g}" if weight != -1 else tag for weight, tag in sorted(ranges))


def _weight(parameters: str) -> float | None:
    """A range's weight, 1 where none is given; None for what is not one."""
    if not parameters.strip(" \t"):
        return 1.0
    name, _, value = parameters.partition("=")
    value = value.strip(" \t")
    return float(value) if name.strip(" \t") == "q" and _QVALUE.fullmatch(value) else None


def _normalised(name: str, request: Fields) -> str | None:
    value = request.combined(name)
    if value is None:
        return None
    if name == "accept-encoding":
        value = accept_encoding(value)
    elif name == "accept-language":
        value = accept_language(value)
    else:
        value = _spaced(value)
    return value.replace("%", "%25").replace("\n", "%0A").replace("\r", "%0D")


def _spaced(value: str) -> str:
    """Runs of blanks as one, and exactly one after each comma, but untouched within quotes or comments."""
    out: list[str] = []
    depth = 0
    quoted = escaped = False
    for character in value:
        if escaped:
            escaped = False
        elif character == "\\" and (quoted or depth):
            escaped = True
        elif character == '"' and not depth:
            quoted = not quoted
        elif character == "(" and not quoted:
            depth += 1
        elif character == ")" and depth:
            depth -= 1
        elif not quoted and not depth:
            if character in " \t" and (not out or out[-1] in " ,"):
                continue
            if character == ",":
                while out and out[-1] == " ":
                    out.pop()
        out.append(" " if character == "\t" else character)
    return "".join(out).rstrip(" ")
