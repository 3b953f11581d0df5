"""Invalidation by unsafe requests (RFC 9111, 4.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.fields import Fields
from edge.http.invalidation import SAFE_METHODS, invalidated_targets

URI = "https://a.example/dir/x?q=1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO", "get"])
@pytest.mark.parametrize("status", [200, 201, 204, 206, 299, 301, 303, 304, 399])
def test_9111_4_4_an_unsafe_success_invalidates_its_target(method: str, status: int) -> None:
    assert invalidated_targets(method, status, URI, Fields()) == [URI]


@pytest.mark.parametrize("status", [100, 199, 400, 404, 412, 500, 503, 600])
def test_9111_4_4_an_error_does_not(status: int) -> None:
    assert invalidated_targets("POST", status, URI, Fields([("Location", "/y")])) == []


@pytest.mark.parametrize("method", sorted(SAFE_METHODS))
def test_9111_4_4_a_safe_method_does_not(method: str) -> None:
    assert invalidated_targets(method, 200, URI, Fields([("Content-Location", "/y")])) == []


@pytest.mark.parametrize("name", ["Location", "content-location"])
@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("/y", "https://a.example/y"),
        ("y", "https://a.example/dir/y"),
        ("../y", "https://a.example/y"),
        ("?z", "https://a.example/dir/x?z"),
        ("https://a.example/y", "https://a.example/y"),
        ("HTTPS://A.EXAMPLE:443/y", "https://A.EXAMPLE:443/y"),
        ("//a.example/y", "https://a.example/y"),
        ("/y#part", "https://a.example/y"),
    ],
)
def test_9111_4_4_so_are_locations_of_its_origin(name: str, reference: str, target: str) -> None:
    assert invalidated_targets("POST", 201, URI, Fields([(name, reference)])) == [URI, target]


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    "reference",
    [
        "https://b.example/y",
        "http://a.example/y",
        "https://a.example:8443/y",
        "https://a.example@b.example/y",
        "https://u@a.example/y",
        "//b.example/y",
        "https://a.example.b/y",
        "mailto:a@a.example",
        "https://[::1/y",
        "https://a.example:x/y",
        "",
    ],
)
def test_9111_4_4_but_no_others(name: str, reference: str) -> None:
    assert invalidated_targets("POST", 201, URI, Fields([(name, reference)])) == [URI]


def test_9111_4_4_default_ports_do_not_make_another_origin() -> None:
    response = Fields([("Location", "http://a.example:80/y"), ("Content-Location", "http://a.example:443/y")])
    assert invalidated_targets("POST", 201, "http://a.example/", response)[1:] == ["http://a.example:80/y"]


def test_9111_4_4_each_once_the_target_first() -> None:
    response = Fields([("Content-Location", "/y"), ("Location", "/z")])
    assert invalidated_targets("PUT", 200, URI, response) == [URI, "https://a.example/z", "https://a.example/y"]
    only = Fields([("Content-Location", "/y")])
    assert invalidated_targets("PUT", 200, "urn:x", only) == ["urn:x"]
    same = Fields([("Content-Location", URI), ("Location", URI)])
    assert invalidated_targets("PUT", 200, URI, same) == [URI]


@pytest.mark.rfc("9111-4.4")
@given(st.text(max_size=30), st.text(max_size=30))
def test_never_raises_and_never_leaves_the_origin(location: str, other: str) -> None:
    found = invalidated_targets("POST", 200, URI, Fields([("Location", location), ("Content-Location", other)]))
    assert found[0] == URI
    assert all(target.lower().startswith("https://a.example") for target in found)
