"""The cache key: one text for one resource, whatever the spelling of its URI (RFC 9110, 4.2.3; RFC 3986, 6.2).

What the key is made of is also what goes to the origin. Two requests with one key are therefore the same request there.
"""

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote_plus

CMCD = "CMCD"  # the players' report: never part of the key (CTA-5004)

HOST_LENGTH_MAX = 255

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PCHAR = _UNRESERVED | frozenset("!$&'()*+,;=:@")
_IN_PATH = _PCHAR | {"/"}
_IN_QUERY = _PCHAR | frozenset("/?")

_REFUSED = re.compile(r"[\x00-\x20\x7f#]")
_ENCODED_CONTROL = re.compile(r"%(?:[01][0-9A-F]|7F)")
_PIECE = re.compile(r"%(?P<hex>[0-9A-Fa-f]{2})|(?P<other>.)", re.DOTALL)
_ENCODED_SEPARATOR = re.compile(r"%(?:2F|5C)")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#]*)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_ABSOLUTE = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)", re.IGNORECASE | re.DOTALL)

DEFAULT_PORT = {"http": 80, "https": 443}


class BadTarget(ValueError):
    """The request's target or host names no resource here."""


class QueryMode(StrEnum):
    """Which parameters are part of the key."""

    ALL = "all"
    NONE = "none"
    KEEP = "keep"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class QueryRule:
    """How a query enters the key: `names` are those kept or dropped, case-sensitive; `sort` orders by name."""

    mode: QueryMode = QueryMode.ALL
    names: frozenset[str] = frozenset()
    sort: bool = False


def split_target(target: str) -> tuple[str, str | None]:
    """Path and query of an origin-form target (RFC 9112, 3.2.1). BadTarget for any other form."""
    if not target.startswith("/"):
        raise BadTarget(f"not in origin-form: {target[:80]!r}")
    path, mark, query = target.partition("?")
    return path, query if mark else None


def parse_absolute(target: str) -> tuple[str, str, str]:
    """Scheme, authority and origin-form of an absolute-form target (RFC 9112, 3.2.2). BadTarget unless http or https
    with a host; user information is refused (RFC 9110, 4.2.4).
    """
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not found["authority"] or "@" in found["authority"]:
        raise BadTarget(f"not in absolute-form: {target[:80]!r}")
    rest = found["rest"]
    return found["scheme"].lower(), found["authority"], rest if rest.startswith("/") else f"/{rest}"


def normalise_host(host: str, default_port: int) -> str:
    """Host or :authority in lower case, without the default port or a root dot (RFC 9110, 4.2.3). BadTarget if it is
    not a host name, an IPv4 or a bracketed IPv6 address.
    """
    found = _AUTHORITY.fullmatch(host.lower()) if len(host) <= HOST_LENGTH_MAX and host.isascii() else None
    if found is None or not found["host"]:
        raise BadTarget(f"not a host: {host[:80]!r}")
    name = found["host"]
    if name.startswith("["):
        name = f"[{_ipv6(name[1:-1])}]"
    else:
        name = name.removesuffix(".")
        if not all(_LABEL.fullmatch(label) and len(label) <= 63 for label in name.split(".")):
            raise BadTarget(f"not a host: {host[:80]!r}")
    port = int(found["port"] or default_port)
    if not 0 < port <= 65_535:
        raise BadTarget(f"not a port: {port}")
    return name if port == default_port else f"{name}:{port}"


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise BadTarget(f"not an IPv6 address: {text[:80]!r}") from None


def normalise_path(raw: str) -> str:
    """The path in RFC 3986, 6.2.2's normal form: unreserved characters bare, all others that may not stand bare
    encoded, hexadecimal in upper case, dot-segments resolved after that.

    Repeated slashes and %2F stay, since an origin may tell them apart. BadTarget for a path that leaves the root, for
    control characters in either form, for a broken escape, and for dots next to an encoded slash or backslash, which an
    origin that decodes would take for dot-segments.
    """
    if not raw.startswith("/"):
        raise BadTarget(f"not an absolute path: {raw[:80]!r}")
    path = _encoded(raw, _IN_PATH)
    if _ENCODED_CONTROL.search(path):
        raise BadTarget(f"control character in path: {raw[:80]!r}")
    return _without_dot_segments(path)


def normalise_query(raw: str, rule: QueryRule) -> str:
    """The query's parameters that `rule` keeps, each in normal form, never CMCD. BadTarget as for a path, save that
    encoded control characters are data here.

    Names are compared decoded, and kept as often as they occur; no order is lost unless `rule` sorts. An empty query
    and none are the same.
    """
    if rule.mode is QueryMode.NONE and _REFUSED.search(raw) is None:
        return ""
    kept: list[tuple[str, str]] = []
    for parameter in _encoded(raw, _IN_QUERY).split("&"):
        name = unquote_plus(parameter.partition("=")[0], errors="surrogateescape")
        if name != CMCD and _is_kept(name, rule):
            kept.append((name, parameter))
    if rule.sort:
        kept.sort(key=lambda pair: pair[0])
    return "&".join(parameter for _, parameter in kept)


def _is_kept(name: str, rule: QueryRule) -> bool:
    match rule.mode:
        case QueryMode.ALL:
            return True
        case QueryMode.NONE:
            return False
        case QueryMode.KEEP:
            return name in rule.names
        case QueryMode.DROP:
            return name not in rule.names


def cache_key(
    host: str, path: str, query: str | None = None, *, scheme: str = "https", scheme_independent: bool = True
) -> str:
    """The key of normalised parts: ``host/path?query``, led by ``scheme://`` unless both schemes serve one resource.

    No two resources share one: a host has neither slash nor question mark, a normalised path no question mark.
    """
    origin = host if scheme_independent else f"{scheme}://{host}"
    return f"{origin}{path}?{query}" if query else f"{origin}{path}"


def _encoded(raw: str, bare: frozenset[str]) -> str:
    """`raw` with every octet in its one spelling: bare where unreserved, or given bare and allowed to be."""
    if _REFUSED.search(raw):
        raise BadTarget(f"control character, space or '#': {raw[:80]!r}")
    if bare.issuperset(raw):
        return raw
    out: list[str] = []
    for piece in _PIECE.finditer(raw):
        if piece["hex"] is not None:
            character = chr(int(piece["hex"], 16))
            out.append(character if character in _UNRESERVED else f"%{piece['hex'].upper()}")
        elif piece["other"] == "%":
            raise BadTarget(f"broken escape: {raw[:80]!r}")
        else:
            character = piece["other"]
            out.append(character if character in bare else _escape(character))
    return "".join(out)


def _escape(character: str) -> str:
    # What came off the wire as Latin-1 goes back as that octet.
    octets = character.encode("latin-1" if ord(character) < 256 else "utf-8", "surrogatepass")
    return "".join(f"%{octet:02X}" for octet in octets)


def _without_dot_segments(path: str) -> str:
    """RFC 3986, 5.2.4, save that climbing above the root is an error."""
    if "." not in path:
        return path
    out: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if not out:
                raise BadTarget(f"path leaves the root: {path[:80]!r}")
            out.pop()
        elif segment != ".":
            if "%" in segment and {".", ".."} & set(_ENCODED_SEPARATOR.split(segment)):
                raise BadTarget(f"dots beside an encoded separator: {path[:80]!r}")
            out.append(segment)
    if segments[-1] in {".", ".."}:
        out.append("")
    return "/" + "/".join(out)
