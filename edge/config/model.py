"""The model of the configuration file, and its reference: every field has its default, bounds and a sentence.

`reload` says whether a running daemon can take a new value of the field without a restart.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_network
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edge.config.units import Address, Bytes, Seconds
from edge.terms import TierName

_HOST = re.compile(
    r"\*|(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?|\[[0-9a-f:.]+\]", re.I
)


def option(default: Any, text: str, *, reload: bool = False, **bounds: Any) -> Any:
    """One setting: its default (... for none), its sentence, its bounds, and whether a reload can change it."""
    extra: dict[str, Any] = {"reload": reload}
    if isinstance(default, type) or callable(default):
        return Field(default_factory=default, description=text, json_schema_extra=extra, **bounds)
    return Field(default, description=text, json_schema_extra=extra, **bounds)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an origin is http://HOST[:PORT] or https://HOST[:PORT]")
    if parts.query or parts.fragment or "@" in parts.netloc or parts.path not in ("", "/"):
        raise ValueError("an origin has no path, query, fragment or user name")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if host == "*" or not _HOST.fullmatch(host):
        raise ValueError("an origin's host is a name or an address")
    if parts.port == 0 or parts.netloc.endswith(":"):
        raise ValueError("an origin's port is 1 to 65535")
    return f"{parts.scheme}://{parts.netloc}"


def _host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise ValueError('a host is a name without port such as "video.example.com", or "*" for any')
    # as a request's Host is spelled once it is normalised
    return f"[{IPv6Address(name[1:-1])}]" if name.startswith("[") else name.lower()


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("a path is absolute: it begins with /")
    return path.rstrip("/") or "/"


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError('a network is an address such as "192.0.2.7" or a prefix such as "2001:db8::/32"') from error


Origin = Annotated[str, AfterValidator(_origin)]
HostName = Annotated[str, AfterValidator(_host)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
CdnId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Network = Annotated[str, AfterValidator(_network)]
MediaType = Annotated[str, Field(pattern=r"^[a-z0-9!#$&^_.+-]+/([a-z0-9!#$&^_.+-]+|\*)$")]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)


class Listener(Model):
    """An address on which players are served."""

    address: Address = option("0.0.0.0:80", "Where to listen: HOST:PORT.")
    tls: bool = option(False, "Whether players speak TLS here; it takes a certificate.")
    backlog: int = option(4096, "Connections the kernel may hold before they are accepted.", ge=1, le=65535)


class Certificate(Model):
    """A certificate for TLS listeners, chosen by the name a player asks for. Its files may change while we run."""

    certificate: AbsolutePath = option(..., "The PEM file of the certificate, its chain behind it.")
    key: AbsolutePath = option(..., "The PEM file of its private key.")


class Control(Model):
    """The operator's listener: metrics, health, status."""

    address: Address = option("127.0.0.1:9900", "Where to listen: HOST:PORT. Loopback unless a firewall guards it.")


class CacheKey(Model):
    """What of a URL's query tells one object from another. CMCD is never part of it."""

    query: Literal["all", "none", "keep", "drop"] = option(
        "all", "all: every parameter; none: no parameter; keep: only those named; drop: all but those named."
    )
    names: tuple[str, ...] = option((), "The parameters to keep or to drop.")
    sort: bool = option(False, "Whether parameters in another order are the same object.")

    @model_validator(mode="after")
    def _names_where_used(self) -> Self:
        if bool(self.names) != (self.query in ("keep", "drop")):
            raise ValueError('names goes with query = "keep" or "drop", and only with them')
        return self


class Cors(Model):
    """What browsers of other web sites may do, answered here: the origin is not asked, and its own word is not used."""

    origins: tuple[str, ...] = option(
        ("*",), 'Web sites that may read: "https://player.example", or "*" for any.', min_length=1, max_length=256
    )
    methods: tuple[str, ...] = option(("GET", "HEAD", "OPTIONS"), "Methods they may use.", min_length=1)
    headers: tuple[str, ...] = option(
        ("Range", "If-Range", "CMCD-Object", "CMCD-Request", "CMCD-Session", "CMCD-Status"),
        'Request fields they may send; "*" for any.',
    )
    expose: tuple[str, ...] = option(
        ("Content-Length", "Content-Range", "Age", "Cache-Status", "Date", "ETag"), "Response fields they may read."
    )
    credentials: bool = option(False, "Whether they may send cookies; only with named origins.")
    max_age: Seconds = option(86400.0, "How long a browser may remember a preflight's answer.", ge=0, le=604800)

    @model_validator(mode="after")
    def _credentials_to_named_origins(self) -> Self:
        if self.credentials and "*" in self.origins:
            raise ValueError('credentials go with named origins, not with "*" (the Fetch standard forbids it)')
        for origin in self.origins:
            if origin != "*" and not re.fullmatch(r"https?://[a-z0-9.\[\]:_-]+", origin):
                raise ValueError(f"{origin}: a web site is https://HOST[:PORT] in small letters, without a path")
        for name in (*self.methods, *self.headers, *self.expose):
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise ValueError(f"{name}: not a method or field name")
        return self


class Site(Model):
    """A video service: the host names players use, and the origins behind them."""

    name: str = option(..., "A short name, for logs and commands.", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    hosts: tuple[HostName, ...] = option(("*",), 'Host names served, without port; "*" is any.', min_length=1)
    origins: tuple[Origin, ...] = option(..., "URLs to fill from, tried in order.", min_length=1, max_length=16)
    host_header: Literal["client", "origin"] = option(
        "client", "The Host an origin is sent: the client's own, or the origin's name."
    )
    methods: Literal["any", "safe"] = option(
        "safe", "safe: GET, HEAD and OPTIONS alone are let through to the origin; any: every method is."
    )
    cache_key: CacheKey = option(CacheKey, "Which query parameters tell objects apart.")
    default_freshness: dict[MediaType, Annotated[Seconds, Field(gt=0, le=31536000)]] = option(
        dict, 'How long an answer is fresh when the origin does not say, by media type ("video/*"). Off unless set.'
    )
    heuristic_max: Seconds = option(
        86400.0,
        "An answer that only says when it last changed is fresh for a tenth of the time since; no longer. 0: never.",
        ge=0,
        le=31536000,
    )
    not_found_freshness: Seconds = option(
        1.0, "How long a 404 or 410 is fresh when the origin does not say. 0: not stored.", ge=0, le=86400
    )
    error_freshness: Seconds = option(
        0.0, "How long a 5xx is fresh when the origin does not say. 0: not stored.", ge=0, le=3600
    )
    stale_while_revalidate: Seconds = option(
        0.0,
        "How long a stale answer may be given while it is validated, unless the origin says more or forbids it.",
        ge=0,
        le=31536000,
    )
    stale_if_error: Seconds = option(
        3600.0,
        "How long a stale answer may be given while the origin fails, unless the origin says more or forbids it.",
        ge=0,
        le=31536000,
    )
    request_directives: bool = option(
        True, "Whether a client's Cache-Control (max-age, no-cache, …) is honoured, as RFC 9111 has it."
    )
    set_cookie: Literal["store", "pass"] = option(
        "store",
        "An answer with Set-Cookie: store it if its freshness allows (RFC 9111, 7.3), or pass it to one client.",
    )
    cors: Cors | None = option(None, "Answers to browsers of other web sites. Unset: the origin's.")


class DiskConfig(Model):
    """A folder on a file system of its own. It keeps its identity in a file there."""

    path: AbsolutePath = option(..., "The folder; made where missing.")
    size: Bytes | None = option(
        None, "The most it may hold. Unset: all of the file system but the reserve.", ge=1 << 20
    )
    reserve: Bytes = option(256 << 20, "Space always left free on its file system.", ge=0)
    threads: int = option(4, "Threads of each process that read or write it.", ge=1, le=64)


class TierConfig(Model):
    """A kind of storage: its disks and how they are chosen from."""

    disks: tuple[DiskConfig, ...] = option((), "The disks of this tier.", max_length=64)
    policy: Literal["popularity", "lru"] = option("popularity", "How to choose what leaves when it is full.")
    object_max: Bytes | None = option(None, "Larger objects do not go here. Unset: an eighth of a disk.", ge=1 << 16)


class Tiers(Model):
    """The storage, fastest first. A tier without disks is not used."""

    ram: TierConfig = option(TierConfig, "Folders on tmpfs.")
    ssd: TierConfig = option(TierConfig, "Folders on SSDs.")
    hdd: TierConfig = option(TierConfig, "Folders on hard disks.")

    def named(self) -> list[tuple[TierName, TierConfig]]:
        return [(TierName.RAM, self.ram), (TierName.SSD, self.ssd), (TierName.HDD, self.hdd)]


class Fill(Model):
    """How misses are fetched."""

    slice_size: Bytes = option(1 << 20, "Objects are held and fetched in slices of this size.", ge=1 << 16, le=64 << 20)
    connect_timeout: Seconds = option(5.0, "The longest wait for a connection to an origin.", gt=0, le=300)
    first_byte_timeout: Seconds = option(15.0, "The longest wait for an origin's answer to begin.", gt=0, le=600)
    stall_timeout: Seconds = option(10.0, "The longest silence in the middle of an origin's body.", gt=0, le=600)
    attempts: int = option(4, "Tries for one fetch, the first included; later ones resume where it broke.", ge=1, le=20)
    origin_connections: int = option(128, "Connections to one origin at a time.", ge=1, le=10000)
    finish: Bytes = option(
        16 << 20, "A fetch that no client wants any more goes on if no more than this is left.", ge=0
    )
    reach: Bytes = option(
        8 << 20, "A client this far ahead of a running fetch waits for it; further ahead, another fetch starts.", ge=0
    )
    bypass_memory: Seconds = option(60.0, "How long an uncacheable answer is remembered as such.", ge=0, le=3600)


class Limits(Model):
    """What a client may do."""

    request_line: Bytes = option(8192, "The longest request line.", ge=512, le=65536)
    head: Bytes = option(32768, "The largest block of request header fields.", ge=1024, le=262144)
    head_timeout: Seconds = option(
        10.0, "A request's head must be complete within this, counted from its first byte.", gt=0, le=300
    )
    handshake_timeout: Seconds = option(
        10.0, "A TLS handshake must be over within this, counted from the connection's begin.", gt=0, le=300
    )
    idle_timeout: Seconds = option(75.0, "A connection without a request is closed after this.", gt=0, le=3600)
    send_timeout: Seconds = option(60.0, "A client that takes no byte for this long is left.", gt=0, le=3600)
    send_rate_min: Bytes = option(
        1024,
        "A client that takes fewer bytes a second, on the average over send_timeout, is left; 0: only one that takes "
        "none. Time in which we have nothing for it does not count.",
        ge=0,
        le=1 << 30,
    )
    body_max: Bytes = option(1 << 30, "The largest body of a request (else 413).", ge=0)
    body_timeout: Seconds = option(
        30.0, "The time over which receive_rate_min is reckoned: a body that stands still ends after it.", gt=0, le=3600
    )
    receive_rate_min: Bytes = option(
        1024,
        "A request's body must come with so many bytes a second, on the average over body_timeout (else 408). Time in "
        "which the origin takes no more does not count.",
        ge=1,
        le=1 << 30,
    )
    drain: Seconds = option(
        30.0, "The longest that running transfers may take to end when the daemon stops.", ge=0, le=86400
    )
    connections: int = option(20000, "Connections of one worker.", ge=16, le=1_000_000)
    connections_per_address: int = option(
        4096,
        "Connections of one worker from one IPv4 address or one IPv6 /64; the kernel spreads an address's connections "
        "over the workers, so that all of them together allow it about so many times their number.",
        ge=1,
        le=1_000_000,
    )
    trusted_addresses: tuple[Network, ...] = option(
        (), "Networks to which connections_per_address does not apply.", max_length=256
    )
    open_objects: int = option(8192, "Objects a worker keeps open.", ge=16, le=1_000_000)
    objects: int = option(1_000_000, "Objects the store can tell apart (48 bytes each in the slot table).", ge=1024)


class Log(Model):
    """What is written down."""

    access: str | None = option(None, 'The access log: a path, "-" for standard output, or unset for none.')
    level: Literal["debug", "info", "warning", "error"] = option("info", "The least that the daemon's own log tells.")


class Config(Model):
    """The whole file."""

    workers: int = option(0, "Serving processes; 0 is one a core.", ge=0, le=256)
    state_dir: AbsolutePath = option("/var/lib/edge", "Where the index and the slot table live; a fast disk.")
    cdn_id: CdnId | None = option(
        None, "How this box, or all boxes of one CDN, are named in CDN-Loop (RFC 8586). Unset: a name of its own."
    )
    listeners: tuple[Listener, ...] = option((Listener(),), "Where players are served.", min_length=1)
    certificates: tuple[Certificate, ...] = option(
        (), "For TLS listeners; the first is for names that none of them is for."
    )
    control: Control = option(Control, "Where the operator looks.")
    sites: tuple[Site, ...] = option(..., "The services this box caches.", min_length=1)
    tiers: Tiers = option(Tiers, "The storage.")
    fill: Fill = option(Fill, "Fetching from origins.")
    limits: Limits = option(Limits, "Bounds on clients.")
    log: Log = option(Log, "Logs.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes = []
        disks = [disk.path for _, tier in self.tiers.named() for disk in tier.disks]
        if not disks:
            mistakes.append("tiers: at least one disk is needed in tiers.ram, tiers.ssd or tiers.hdd")
        addresses = [self.control.address, *(listener.address for listener in self.listeners)]
        for told, values in (
            ("tiers: {} is named twice", disks),
            ("sites: host {} is in two places", [host for site in self.sites for host in site.hosts]),
            ("sites: {} names two sites", [site.name for site in self.sites]),
            ("listeners: {} is listened on twice", addresses),
        ):
            mistakes += [told.format(value) for value in sorted(set(values)) if values.count(value) > 1]
        if not self.certificates and any(listener.tls for listener in self.listeners):
            mistakes.append("certificates: at least one is needed for a listener with tls = true")
        if mistakes:
            raise ValueError("\n".join(mistakes))  # the loader makes a line of each
        return self
