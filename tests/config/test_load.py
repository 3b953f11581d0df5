"""Every mistake in a configuration is named, all at once: the key, what was found, what is allowed."""

# ruff: noqa: E501 - tables read best with a case a line

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config, config_from_options, load_config
from edge.config.load import config_from_json
from edge.config.units import duration_s, size_bytes, split_address
from edge.errors import ConfigError, Fault

GOOD = """
[[sites]]
name = "a"
origins = ["http://origin.test"]
[[tiers.ssd.disks]]
path = "/ssd"
"""


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    return load_config(str(path))


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as found:
        load(tmp_path, text)
    assert found.value.fault is Fault.CONFIGURATION
    return found.value.mistakes


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.listeners[0].address == "0.0.0.0:80"
    assert config.sites[0].hosts == ("*",)
    assert config.sites[0].methods == "safe"
    assert not config.sites[0].default_freshness
    assert config.tiers.ssd.disks[0].path == "/ssd"
    assert not config.tiers.ram.disks
    assert config_from_json(config.model_dump_json().encode()) == config


SITE = '[[sites]]\nname = "a"\norigins = ["http://o.test"]\n'
DISK = '[[tiers.ssd.disks]]\npath = "/ssd"\n'

MISTAKES = [
    # missing
    ("", ["sites: missing; it has no default"]),
    (DISK + "[[sites]]\n", ["sites[0].name: missing; it has no default", "sites[0].origins: missing; it has no default"]),
    (SITE, ["tiers: at least one disk is needed in tiers.ram, tiers.ssd or tiers.hdd"]),
    (SITE + "[[tiers.hdd.disks]]\nsize = 5", ["tiers.hdd.disks[0].path: missing", "tiers.hdd.disks[0].size: found 5; input should be greater than or equal to 1048576"]),
    # unknown
    (GOOD + "[limit]\n", ["limit: no such setting"]),
    ("worker = 1\n" + GOOD, ["worker: no such setting"]),
    (GOOD + "[fill]\nslice = 1", ["fill.slice: no such setting"]),
    (DISK + SITE + '[sites.cache_key]\nquerry = "all"', ["sites[0].cache_key.querry: no such setting"]),
    # out of bounds, or not of the kind
    ("workers = 257\n" + GOOD, ["workers: found 257; input should be less than or equal to 256"]),
    ("workers = -1\n" + GOOD, ["workers: found -1; input should be greater than or equal to 0"]),
    ('workers = "many"\n' + GOOD, ["workers: found 'many'; input should be a valid integer"]),
    ("workers = 1.5\n" + GOOD, ["workers: found 1.5; input should be a valid integer"]),
    ('state_dir = "edge"\n' + GOOD, ["state_dir: found 'edge'; a path is absolute: it begins with /"]),
    ('listeners = []\n' + GOOD, ["listeners: found []; at least 1 is needed"]),
    ('listeners = [{address = "80"}]\n' + GOOD, ["listeners[0].address: found '80'; an address is \"HOST:PORT\""]),
    ('listeners = [{address = ":0"}]\n' + GOOD, ["listeners[0].address: found ':0'; an address is"]),
    ('listeners = [{address = "a:65536"}]\n' + GOOD, ["listeners[0].address: found 'a:65536'; an address is"]),
    ('listeners = [{address = "::1:80"}]\n' + GOOD, ["listeners[0].address: found '::1:80'; an IPv6 address needs brackets"]),
    ('listeners = [{address = 80}]\n' + GOOD, ["listeners[0].address: found 80; an address is text"]),
    ('listeners = [{backlog = 0}]\n' + GOOD, ["listeners[0].backlog: found 0; input should be greater"]),
    ('listeners = [{tls = true}]\n' + GOOD, ["certificates: at least one is needed for a listener with tls = true"]),
    (GOOD + '[fill]\nslice_size = "big"', ['fill.slice_size: found \'big\'; a size is a number of bytes or text such as "64MiB"']),
    (GOOD + "[fill]\nslice_size = true", ["fill.slice_size: found True; a size is"]),
    (GOOD + "[fill]\nslice_size = 1.5", ["fill.slice_size: found 1.5; a size is"]),
    (GOOD + '[fill]\nslice_size = "1GiB"', ["fill.slice_size: found '1GiB'; input should be less than or equal to 67108864"]),
    (GOOD + '[limits]\ndrain = "soon"', ["limits.drain: found 'soon'; a duration is a number of seconds or text such as"]),
    (GOOD + "[limits]\ndrain = inf", ["limits.drain: found inf; input should be less"]),
    (GOOD + "[limits]\ndrain = nan", ["limits.drain: found nan; input should be"]),
    (GOOD + "[limits]\nsend_timeout = nan", ["limits.send_timeout: found nan; input should be"]),
    (GOOD + '[limits]\ntrusted_addresses = ["10.0.0.1/8"]', ["limits.trusted_addresses[0]: found '10.0.0.1/8'; a network is an address such as"]),
    (GOOD + "[limits]\nhead_timeout = 0", ["limits.head_timeout: found 0; input should be greater than 0"]),
    (GOOD + "[limits]\nhead_timeout = true", ["limits.head_timeout: found True; a duration is"]),
    (GOOD + '[log]\nlevel = "loud"', ["log.level: found 'loud'; input should be 'debug', 'info', 'warning' or 'error'"]),
    # sites
    (DISK + SITE.replace('"a"', '"A b"'), ["sites[0].name: found 'A b'; string should match pattern"]),
    (DISK + SITE + 'hosts = ["a.test:80"]', ["sites[0].hosts[0]: found 'a.test:80'; a host is a name without port"]),
    (DISK + SITE + 'hosts = ["a", "http://b"]', ["sites[0].hosts[1]: found 'http://b'; a host is"]),
    (DISK + SITE + "hosts = []", ["sites[0].hosts: found []; at least 1 is needed"]),
    (DISK + SITE + 'hosts = ["[:::]"]', ["sites[0].hosts[0]: found '[:::]'; "]),
    (DISK + SITE + 'hosts = ["*.test"]', ["sites[0].hosts[0]: found '*.test'; a host is"]),
    (DISK + SITE + 'methods = "GET"', ["sites[0].methods: found 'GET'; input should be 'any' or 'safe'"]),
    (DISK + SITE + '[sites.cache_key]\nquery = "keep"', ["sites[0].cache_key: found {'query': 'keep'}; names goes with query"]),
    (DISK + SITE + '[sites.cache_key]\nnames = ["a"]', ["sites[0].cache_key: found {'names': ['a']}; names goes with query"]),
    (DISK + SITE + '[sites.default_freshness]\nvideo = 1', ["sites[0].default_freshness.video.[key]: found 'video'; string should match"]),
    (DISK + SITE + '[sites.default_freshness]\n"video/*" = -1', ["sites[0].default_freshness.video/*: found -1; input should be greater than 0"]),
    # twice
    (GOOD + SITE, ["sites: host * is in two places", "sites: a names two sites"]),
    (GOOD + '[[sites]]\nname = "b"\nhosts = ["B.test", "b.test"]\norigins = ["http://o"]', ["sites: host b.test is in two places"]),
    (GOOD + '[[tiers.hdd.disks]]\npath = "/ssd/"', ["tiers: /ssd is named twice"]),
    ('listeners = [{address = "127.0.0.1:9900"}]\n' + GOOD, ["listeners: 127.0.0.1:9900 is listened on twice"]),
    # several at once
    ('workers = -1\nstate = 2\n' + GOOD + '[fill]\nattempts = 0\n[log]\nlevel = "x"', ["workers: found -1", "fill.attempts: found 0", "log.level: found 'x'", "state: no such setting"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = mistakes(tmp_path, text)
    for one in expected:
        assert any(line.startswith(one) for line in found), (one, found)
    assert len(found) == len(expected), found


ORIGINS = [
    ("origin.test", "an origin is http://HOST[:PORT] or https://HOST[:PORT]"),
    ("ftp://origin.test", "an origin is http://HOST"),
    ("http://", "an origin is http://HOST"),
    ("http://:80", "an origin is http://HOST"),
    ("http://o.test/path", "an origin has no path"),
    ("http://o.test?x", "an origin has no path"),
    ("http://me@o.test", "an origin has no path"),
    ("http://:secret@o.test", "an origin has no path"),
    ("http://@o.test", "an origin has no path"),
    ("http://o.test:0", "an origin's port is 1 to 65535"),
    ("http://o.test:", "an origin's port is 1 to 65535"),
    ("http://o.test:99999", "port out of range"),
    ("http://o test", "an origin's host is a name or an address"),
    ("http://*", "an origin's host is a name or an address"),
    ("http://[::1", "invalid IPv6 URL"),
]


@pytest.mark.parametrize(("url", "allowed"), ORIGINS)
def test_origins_that_are_none(tmp_path: Path, url: str, allowed: str) -> None:
    (found,) = mistakes(tmp_path, GOOD.replace("http://origin.test", url))
    assert found.startswith(f"sites[0].origins[0]: found {url!r}; ")
    assert allowed.lower() in found.lower()


@pytest.mark.parametrize(
    "url", ["http://o.test", "https://O.test:8443", "http://127.0.0.1:9000", "http://[::1]:9000", "http://o_1.test/"]
)
def test_origins(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, GOOD.replace("http://origin.test", url)).sites[0].origins == (url.rstrip("/"),)


def test_host_names_are_spelled_as_requests_are(tmp_path: Path) -> None:
    config = load(tmp_path, DISK + SITE + 'hosts = ["Video.Example", "[0:0:0:0:0:0:0:1]", "127.0.0.1"]')
    assert config.sites[0].hosts == ("video.example", "[::1]", "127.0.0.1")


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError) as found:
            load_config(str(path))
        assert found.value.mistakes[0].startswith(f"{path}: ")
        assert len(found.value.mistakes) == 1


@pytest.mark.parametrize("text", [b"workers 1", b'name = "', b"\xff\xfe", b"a = 1\na = 2"])
def test_not_toml(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "edge.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as found:
        load_config(str(path))
    assert found.value.mistakes[0].startswith(f"{path}: not TOML: ")


def test_the_command_names_them_all_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text('workers = -1\n[log]\nlevel = "x"\n')
    for command in ("check", "serve"):
        arguments = [sys.executable, "-m", "edge", command, "--config", str(path)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 3
        assert all(line.startswith("edge: ") for line in lines)
        assert any("sites: missing" in line for line in lines)


def test_one_line_mode() -> None:
    config = config_from_options("127.0.0.1:8080", "http://o.test", "store", "1G", "127.0.0.1:9900", 3)
    assert config.sites[0].methods == "any"
    assert config.sites[0].hosts == ("*",)
    assert not config.sites[0].default_freshness
    assert config.workers == 3
    assert config.state_dir.startswith("/")
    assert config.tiers.ram.disks[0].size == 1 << 30
    for ram in ("0", ""):
        assert not config_from_options("a:1", "http://o", "/s", ram, "a:2", 1).tiers.ram.disks
    # the RAM tier outlives the daemon: its place follows from the store's, and no two stores share it
    places = {
        config_from_options("a:1", "http://o", s, "1G", "a:2", 1).tiers.ram.disks[0].path for s in ("/s", "/s/", "/t")
    }
    assert len(places) == 2


# units


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), (7, 7), ("512", 512), ("1k", 1 << 10), ("64MiB", 64 << 20), ("64MB", 64 << 20), ("64 M", 64 << 20),
     ("1.5GiB", 3 << 29), (" 2t ", 2 << 40), ("1PiB", 1 << 50), ("9B", 9), (-1, -1)],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "+1", "1e3", "1,5G", "1EiB", "1MiBs", "0x10", "1_000", "٣", "1..5G", None, 1.0, True, b"1"]
)
def test_no_sizes(text: Any) -> None:
    with pytest.raises(ValueError, match="a size is"):
        size_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(5, 5), (0.5, 0.5), ("250ms", 0.25), ("30s", 30), ("1.5m", 90), ("2 h", 7200), ("7d", 604800), ("1w", 604800)],
)
def test_durations(text: object, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1y", "1M", "1 minute", "1m30s", "٣s", None, True, b"1s"])
def test_no_durations(text: Any) -> None:
    with pytest.raises(ValueError, match="a duration is"):
        duration_s(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("a.test:80", ("a.test", 80)),
        ("[::1]:80", ("::1", 80)),
        (":80", ("", 80)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


@pytest.mark.parametrize("text", ["", "a", "a:", "80", "::1:80", "a:-1", "a:0", "a:65536", "a:8o", "a:٣", "[::1]"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        split_address(text)


@given(st.one_of(st.text(max_size=12), st.integers(), st.floats(), st.none(), st.booleans()))
def test_units_read_anything_or_say_what_they_take(text: object) -> None:
    for read in (size_bytes, duration_s):
        try:
            value = read(text)
        except ValueError as error:
            assert str(error).startswith("a ")  # noqa: PT017
        else:
            assert math.isnan(value) or isinstance(value, int | float)
