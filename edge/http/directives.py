"""Cache directives: Cache-Control (RFC 9111, 5.2) and the targeted fields that override it (RFC 9213)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import http_sf

from edge.http.fields import Fields, list_members, split_list

DELTA_MAX_S = 2**31  # what an overflowing delta-seconds counts as (RFC 9111, 1.2.2)

TARGETS = ("edge-cache-control", "cdn-cache-control")

_TCHARS = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NAME = re.compile(_TCHARS)
_ARGUMENT = re.compile(rf"=(?:(?P<token>{_TCHARS})|(?P<quoted>{_QUOTED}))", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_DIGITS = re.compile("[0-9]+")


class Malformed(Enum):
    """Stands for an argument that breaks the grammar or has the wrong type."""

    ARGUMENT = "argument"


Argument = str | int | None | Malformed


class Directives:
    """The directives of one field, their names lower-case. Whatever cannot be read errs to less reuse, not more."""

    __slots__ = ("_arguments", "_broken")

    def __init__(self, arguments: Mapping[str, Sequence[Argument]], *, broken: bool = False) -> None:
        self._arguments = MappingProxyType({name: tuple(values) for name, values in arguments.items()})
        self._broken = broken

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._arguments)

    def has(self, name: str) -> bool:
        """Whether the directive is there at all, with a sound argument or without."""
        return name in self._arguments

    def grants(self, name: str) -> bool:
        """Whether it is there and sound, as a directive must be that permits rather than forbids."""
        values = self._arguments.get(name, ())
        return bool(values) and not self._broken and Malformed.ARGUMENT not in values

    def is_bare(self, name: str) -> bool:
        """Whether it is there without an argument at least once: max-stale for any time."""
        return None in self._arguments.get(name, ())

    def delta(self, name: str) -> int | None:
        """Seconds, at most `DELTA_MAX_S`; None when absent or `invalid` (RFC 9111, 1.2.2)."""
        values = self._arguments.get(name)
        if not values or self._broken:
            return None
        deltas = {_delta(value) for value in values}
        # RFC 9111, 4.2.1 offers the first of several or staleness; those that disagree are stale here.
        return deltas.pop() if len(deltas) == 1 else None

    def invalid(self, name: str) -> bool:
        """Whether it is there but states no number of seconds, so that the response counts as stale (4.2.1)."""
        return self.has(name) and self.delta(name) is None

    def field_names(self, name: str) -> frozenset[str] | None:
        """The lower-case field names no-cache or private is limited to; None when it is absent or has no limits."""
        names: set[str] = set()
        for value in self._arguments.get(name, ()):
            listed = list_members(value) if isinstance(value, str) else []
            # Anything that does not read as field names must not narrow the directive.
            if self._broken or not listed or not all(_NAME.fullmatch(member) for member in listed):
                return None
            names.update(member.lower() for member in listed)
        return frozenset(names) or None

    def unlimited(self, name: str) -> bool:
        """Whether no-cache or private is there and covers the whole response (RFC 9111, 5.2.2.4 and 5.2.2.7)."""
        return self.has(name) and self.field_names(name) is None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Directives):
            return NotImplemented
        return self._arguments == other._arguments and self._broken == other._broken

    def __hash__(self) -> int:
        return hash((self._broken, *sorted(self._arguments)))

    def __repr__(self) -> str:
        return f"Directives({dict(self._arguments)!r}{', broken=True' if self._broken else ''})"


NO_DIRECTIVES = Directives({})
_NO_CACHE = Directives({"no-cache": [None]})
_OF_REQUESTS = frozenset(
    {"max-age", "max-stale", "min-fresh", "no-cache", "no-store", "only-if-cached", "stale-if-error"}
)


@dataclass(frozen=True, slots=True)
class EffectiveControl:
    """The directives that govern a response here; `targeted` ones silence Cache-Control and Expires (RFC 9213, 2.2)."""

    directives: Directives
    targeted: bool = False


def parse_cache_control(lines: Sequence[str]) -> Directives:
    """Cache-Control's lines, of a request or a response, as directives; never raises."""
    arguments: dict[str, list[Argument]] = {}
    broken = False
    for line in lines:
        members, complete = split_list(line)
        broken |= not complete
        for member in members:
            name = _NAME.match(member)
            if name is not None:
                arguments.setdefault(name[0].lower(), []).append(_argument(member[name.end() :]))
    return Directives(arguments, broken=broken)


def request_directives(request: Fields) -> Directives:
    """What a client asks of caches: Cache-Control, or where there is none, Pragma: no-cache (RFC 9111, 5.2.1 and 5.4).

    `NO_DIRECTIVES` itself where it asks nothing that is known here.
    """
    lines = request.all("cache-control")
    if lines:
        directives = parse_cache_control(lines)
        return directives if directives.names & _OF_REQUESTS else NO_DIRECTIVES
    pragma = request.all("pragma")
    return _NO_CACHE if pragma and parse_cache_control(pragma).has("no-cache") else NO_DIRECTIVES


def effective_directives(fields: Fields, targets: Sequence[str] = TARGETS) -> EffectiveControl:
    """The first of the `targets` that is there, valid and not empty; else Cache-Control (RFC 9213, 2.2)."""
    for target in targets:
        value = fields.combined(target)
        directives = _parse_targeted(value) if value else None
        if directives is not None:
            return EffectiveControl(directives, targeted=True)
    return EffectiveControl(parse_cache_control(fields.all("cache-control")))


def _parse_targeted(value: str) -> Directives | None:
    try:
        members = http_sf.parse(value.encode("latin-1"), tltype="dictionary")
    except (http_sf.StructuredFieldError, UnicodeEncodeError):
        return None
    if not isinstance(members, dict) or not members:
        return None
    return Directives({name: [_targeted_argument(member)] for name, member in members.items()})


def _targeted_argument(member: object) -> Argument:
    # Parameters are ignored (RFC 9213, 2.1). A flag set to false is still there: a restriction must not be lost.
    value = member[0] if isinstance(member, tuple) else member
    if value is True:
        return None
    if type(value) is int:
        return value
    is_text = type(value) is str or isinstance(value, http_sf.Token)
    # A number in quotes has the wrong type, and is not to be read as one.
    return str(value) if is_text and not _DIGITS.fullmatch(str(value)) else Malformed.ARGUMENT


def _argument(rest: str) -> Argument:
    if not rest:
        return None
    found = _ARGUMENT.fullmatch(rest)
    if found is None:
        return Malformed.ARGUMENT
    quoted = found["quoted"]
    return found["token"] if quoted is None else _ESCAPE.sub(r"\1", quoted[1:-1])


def _delta(value: Argument) -> int | None:
    if type(value) is int:
        return min(value, DELTA_MAX_S) if value >= 0 else None
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        return None
    digits = value.lstrip("0") or "0"
    # Any longer number overflows, and int() itself refuses the longest.
    return min(int(digits), DELTA_MAX_S) if len(digits) <= 10 else DELTA_MAX_S
