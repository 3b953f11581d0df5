"""Header fields as received: an immutable sequence of name and value pairs (RFC 9110, 5)."""

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

Pair = tuple[str, str]

# Not forwarded and not stored (RFC 9110, 7.6.1; RFC 9111, 3.1). The Proxy-* ones belong to one hop's proxy.
# Trailer announces a section this cache does not pass on (RFC 9110, 6.5.1).
HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# "Never appropriate as a connection option" (RFC 9110, 7.6.1): dropping it would drop the origin's no-cache with it.
_NEVER_AN_OPTION = frozenset({"cache-control"})

_OWS = " \t"


class Fields:
    """Header fields in the order received, names' case kept. Names given to the methods are lower-case."""

    __slots__ = ("_index", "_pairs")

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._pairs: tuple[Pair, ...] = tuple((name, value) for name, value in pairs)
        self._index: dict[str, tuple[str, ...]] | None = None

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return self._pairs

    @property
    def names(self) -> frozenset[str]:
        """The lower-case names present."""
        return frozenset(self._lines())

    def get(self, name: str) -> str | None:
        """The first line's value without surrounding blanks; None when the field is absent."""
        lines = self._lines().get(name)
        return lines[0] if lines else None

    def all(self, name: str) -> tuple[str, ...]:
        """Every line's value, in order."""
        return self._lines().get(name, ())

    def combined(self, name: str) -> str | None:
        """All lines as one list value (RFC 9110, 5.3); None when the field is absent."""
        lines = self._lines().get(name)
        return ", ".join(lines) if lines else None

    def without(self, names: Collection[str]) -> "Fields":
        return Fields(pair for pair in self._pairs if pair[0].lower() not in names)

    def replacing(self, other: "Fields") -> "Fields":
        """These fields, except that each name `other` has takes all its lines from there."""
        return Fields((*self.without(other.names).pairs, *other.pairs))

    def adding(self, name: str, value: str) -> "Fields":
        """These fields and one more line at the end."""
        return Fields((*self._pairs, (name, value)))

    def _lines(self) -> dict[str, tuple[str, ...]]:
        if self._index is None:
            index: dict[str, tuple[str, ...]] = {}
            for name, value in self._pairs:
                lower = name.lower()
                index[lower] = (*index.get(lower, ()), value.strip(_OWS))
            self._index = index
        return self._index

    def __contains__(self, name: object) -> bool:
        return name in self._lines()

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return self._folded() == other._folded() if isinstance(other, Fields) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._folded())

    def __repr__(self) -> str:
        return f"Fields({list(self._pairs)!r})"

    def _folded(self) -> tuple[Pair, ...]:
        return tuple((name.lower(), value) for name, value in self._pairs)


def list_members(value: str) -> list[str]:
    """The members of a #token list without its empty ones (RFC 9110, 5.6.1.2). Not for values with quoted strings."""
    return [member for part in value.split(",") if (member := part.strip(_OWS))]


def split_list(value: str) -> tuple[list[str], bool]:
    """The members of a list whose commas may stand in quoted strings, and whether every such string ends.

    Where one does not, the commas after its quote divide members too, so that nothing can hide behind it.
    """
    if '"' not in value:
        return list_members(value), True
    cuts: list[int] = []
    quoted = escaped = False
    for at, character in enumerate(value):
        if escaped:
            escaped = False
        elif character == '"':
            quoted = not quoted
        elif quoted:
            escaped = character == "\\"
        elif character == ",":
            cuts.append(at)
    if quoted:
        return list_members(value), False
    parts = (value[start + 1 : end].strip(_OWS) for start, end in pairwise((-1, *cuts, len(value))))
    return [part for part in parts if part], True


def connection_options(fields: Fields) -> frozenset[str]:
    """The lower-case names listed in Connection (RFC 9110, 7.6.1)."""
    return frozenset(option.lower() for line in fields.all("connection") for option in list_members(line))


def end_to_end(fields: Fields) -> Fields:
    """The fields that go beyond this hop: none of `HOP_BY_HOP`, nor those Connection lists (RFC 9110, 7.6.1)."""
    return fields.without(HOP_BY_HOP | (connection_options(fields) - _NEVER_AN_OPTION))
