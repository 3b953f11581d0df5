"""What browsers of other web sites may do, answered from configuration (the Fetch standard, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from edge.http.fields import Fields

PREFIX = "access-control-"
_PREFLIGHT_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


class CorsPolicy:
    """The answer's fields, as lines."""

    def __init__(
        self,
        origins: Sequence[str],
        methods: Sequence[str],
        headers: Sequence[str],
        expose: Sequence[str],
        *,
        credentials: bool,
        max_age_s: float,
    ) -> None:
        self.is_constant = "*" in origins
        """Whether every response has the same fields, whoever asks."""
        self._origins = frozenset(origins)
        self._methods = frozenset(methods)
        exposed = f"Access-Control-Expose-Headers: {', '.join(expose)}\r\n" if expose else ""
        self._granted = ("Access-Control-Allow-Credentials: true\r\n" if credentials else "") + exposed
        self._preflight = (
            f"Access-Control-Allow-Methods: {', '.join(methods)}\r\n"
            + (f"Access-Control-Allow-Headers: {', '.join(headers)}\r\n" if headers else "")
            + f"Access-Control-Max-Age: {int(max_age_s)}\r\n"
        )
        self.shared_lines = self.own_lines(None) if self.is_constant else b"Vary: Origin\r\n"
        """What every response has."""

    def own_lines(self, origin: str | None) -> bytes:
        """What a response to a request from this web site has."""
        if self.is_constant:
            return f"Access-Control-Allow-Origin: *\r\n{self._granted}".encode()
        if origin not in self._origins:
            return b""
        return f"Access-Control-Allow-Origin: {origin}\r\n{self._granted}".encode()

    def preflight_lines(self, request: Fields) -> bytes:
        """The answer to a preflight: what is not allowed is not said (Fetch, 4.8)."""
        vary = f"Vary: {_PREFLIGHT_VARY}\r\n".encode()
        allowed = self.own_lines(request.get("origin"))
        if not allowed or request.get("access-control-request-method") not in self._methods:
            return vary
        return vary + allowed + self._preflight.encode()


def is_preflight(method: bytes, request: Fields) -> bool:
    """Whether a browser asks beforehand what it may do."""
    return method == b"OPTIONS" and "origin" in request and "access-control-request-method" in request
