"""From host and target to site, cache key and what the origin is asked for."""

from __future__ import annotations

from edge.config import Config, Site
from edge.errors import RequestError, UnknownHost
from edge.http.cors import CorsPolicy
from edge.http.key import (
    BadTarget,
    QueryMode,
    QueryRule,
    cache_key,
    normalise_host,
    normalise_path,
    normalise_query,
    parse_absolute,
    split_target,
)
from edge.store.record import key_hash
from edge.terms import Reason

_EVERYTHING = QueryRule(QueryMode.ALL)


class Resource:
    """What a target names at one site."""

    __slots__ = ("key", "target", "url")

    def __init__(self, url: str, target: str) -> None:
        self.url = url
        self.key = key_hash(url)
        self.target = target


class Route:
    """One host name of one site."""

    __slots__ = ("_key_host", "_rule", "aliases", "any_method", "cors", "host", "site")

    def __init__(self, site: Site, host: str) -> None:
        self.site = site
        self.host = host
        self.any_method = site.methods == "any"
        # the key's host is what the origin sees: names that it cannot tell apart share one object
        self._key_host = host if site.host_header == "client" and host else f"{site.name}.site"
        rule = site.cache_key
        self._rule = QueryRule(QueryMode(rule.query), frozenset(rule.names), rule.sort)
        cors = site.cors
        self.cors: CorsPolicy | None = None
        if cors is not None:
            self.cors = CorsPolicy(
                cors.origins,
                cors.methods,
                cors.headers,
                cors.expose,
                credentials=cors.credentials,
                max_age_s=cors.max_age,
            )
        self.aliases: dict[bytes, object] = {}
        """Targets as clients spell them → open objects: the hot path's only look-up."""

    def resource(self, target: bytes) -> Resource:
        """The resource a target names. Raises RequestError when it names none."""
        text = target.decode("latin-1")
        try:
            if not text.startswith("/"):
                text = self._origin_form(text)
            raw_path, raw_query = split_target(text)
            path = normalise_path(raw_path)
            query = None if raw_query is None else normalise_query(raw_query, self._rule)
            asked = None if raw_query is None else normalise_query(raw_query, _EVERYTHING)
        except BadTarget as error:
            # a target in another form than a path is for another server than Host says, or for a proxy: no more is read
            is_path = target.startswith(b"/")
            raise RequestError(str(error), Reason.BAD_TARGET, close=not is_path) from error
        # an empty query and none are one resource here, and so the origin is asked for the one
        return Resource(cache_key(self._key_host, path, query or None), path + (f"?{asked}" if asked else ""))

    def _origin_form(self, text: str) -> str:
        _, authority, rest = parse_absolute(text)
        if normalise_host(authority, 80) != self.host:
            raise BadTarget("the target's authority and Host disagree")
        return rest


def cors_of(route: object) -> CorsPolicy | None:
    """The policy of where a block's requests go; none before the router has said."""
    return route.cors if isinstance(route, Route) else None


class Router:
    def __init__(self, config: Config) -> None:
        self._sites = {host: site for site in config.sites for host in site.hosts}
        self._routes: dict[str, Route] = {}
        self._by_header: dict[str | None, Route] = {}

    def route(self, header: str | None, *, required: bool) -> Route:
        """The route of a Host field. Raises RequestError when it is not one, UnknownHost when it is nobody's."""
        known = self._by_header.get(header)
        if known is not None and (header is not None or not required):
            return known
        if header is None and required:
            raise RequestError("no Host")
        try:
            host = normalise_host(header, 80) if header else ""
        except BadTarget as error:
            raise RequestError(f"Host: {error}") from error
        name = host if host.startswith("[") and host.endswith("]") else host.rpartition(":")[0] or host
        site = self._sites.get(name, self._sites.get("*"))
        if site is None:
            raise UnknownHost(f"{host or 'no host'} is not served here", close=False)
        route = self._routes.get(host)
        if route is None:
            route = Route(site, host)
            if len(self._routes) < _ROUTES_MAX:
                self._routes[host] = route
        if len(self._by_header) < _ROUTES_MAX:
            self._by_header[header] = route
        return route


_ROUTES_MAX = 10_000
"""Host names remembered: with "*" a client could name any number."""
