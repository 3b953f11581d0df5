"""What an unsafe request invalidates (RFC 9111, 4.4)."""

from urllib.parse import SplitResult, urljoin, urlsplit

from edge.http.fields import Fields
from edge.http.key import DEFAULT_PORT, normalise_host

# Safe by definition or by the IANA method registry; a method of unknown safety counts as unsafe.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH"})


def invalidated_targets(method: str, status: int, request_target_uri: str, response: Fields) -> list[str]:
    """The URIs whose stored responses are no longer valid, the request's own first; none for a safe method or an error.

    `request_target_uri` is absolute. Location and Content-Location, relative or not, count only within its origin:
    another's would let one origin empty another's cache.
    """
    if method in SAFE_METHODS or not 200 <= status < 400:
        return []
    targets = [request_target_uri]
    origin = _origin(request_target_uri)
    for name in ("location", "content-location"):
        reference = response.get(name)
        if reference is None or origin is None:
            continue
        target = _resolved(request_target_uri, reference)
        if target is not None and _origin(target) == origin and target not in targets:
            targets.append(target)
    return targets


def _resolved(base: str, reference: str) -> str | None:
    try:
        return urlsplit(urljoin(base, reference))._replace(fragment="").geturl()
    except ValueError:
        return None


def _origin(uri: str) -> tuple[str, str] | None:
    """Scheme and normalised host of an http or https URI, to compare (RFC 9110, 4.3.1)."""
    try:
        parts: SplitResult = urlsplit(uri)
        port = DEFAULT_PORT.get(parts.scheme)
        return (parts.scheme, normalise_host(parts.netloc, port)) if port is not None else None
    except ValueError:  # BadTarget too
        return None
