"""Cache-Status (RFC 9211)."""

from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.cachestatus import TTL_MAX_S, CacheStatus, Forward, appended, identifier


@pytest.mark.parametrize(
    ("status", "member"),
    [
        (CacheStatus(hit=True), "edge-7; hit"),
        (CacheStatus(hit=True, ttl_s=376), "edge-7; hit; ttl=376"),
        (CacheStatus(hit=True, ttl_s=-412), "edge-7; hit; ttl=-412"),
        (CacheStatus(fwd=Forward.URI_MISS, collapsed=True), "edge-7; fwd=uri-miss; collapsed"),
        (CacheStatus(fwd=Forward.MISS, collapsed=False), "edge-7; fwd=miss; collapsed=?0"),
        (
            CacheStatus(fwd=Forward.PARTIAL, fwd_status=206, stored=True, collapsed=True, detail="ssd"),
            "edge-7; fwd=partial; fwd-status=206; stored; collapsed; detail=ssd",
        ),
        (CacheStatus(fwd=Forward.STALE, fwd_status=304), "edge-7; fwd=stale; fwd-status=304"),
        (CacheStatus(hit=True, key='a/"b"\\'), r'edge-7; hit; key="a/\"b\"\\"'),
        (CacheStatus(hit=True, detail="two words"), 'edge-7; hit; detail="two words"'),
        (CacheStatus(), "edge-7"),
    ],
)
def test_9211_2_members(status: CacheStatus, member: str) -> None:
    assert status.render("edge-7") == member


@pytest.mark.parametrize(
    "combination",
    [
        {"hit": True, "fwd": Forward.MISS},
        {"fwd_status": 200},
        {"stored": True},
        {"collapsed": False},
        {"hit": True, "stored": True},
    ],
)
def test_9211_2_combinations_excluded(combination: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"forwarded|need fwd"):
        CacheStatus(**combination)


def test_9211_2_2_forward_reasons() -> None:
    reasons = {reason.value for reason in Forward}
    assert reasons == {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}


@pytest.mark.parametrize(
    ("name", "written"),
    [("edge-7", "edge-7"), ("a.example:80/x", "a.example:80/x"), ("7edge", '"7edge"'), ("", '""'), ("a b", '"a b"')],
)
def test_9211_2_identifiers_are_tokens_or_strings(name: str, written: str) -> None:
    assert identifier(name) == written


def test_9211_2_this_cache_comes_last() -> None:
    assert appended(None, "b; hit") == "b; hit"
    assert appended("a; fwd=miss", "b; hit") == "a; fwd=miss, b; hit"


@given(
    name=st.text(max_size=12),
    fwd=st.sampled_from(Forward) | st.none(),
    fwd_status=st.integers(100, 599) | st.none(),
    ttl_s=st.integers() | st.none(),
    flags=st.tuples(st.booleans(), st.booleans() | st.none()),
    key=st.text(max_size=12) | st.none(),
    detail=st.text(max_size=12) | st.none(),
)
def test_8941_every_member_is_a_structured_field(
    name: str,
    fwd: Forward | None,
    fwd_status: int | None,
    ttl_s: int | None,
    flags: tuple[bool, bool | None],
    key: str | None,
    detail: str | None,
) -> None:
    stored, collapsed = flags
    status = CacheStatus(
        hit=fwd is None,
        fwd=fwd,
        fwd_status=fwd_status if fwd else None,
        ttl_s=ttl_s,
        stored=bool(fwd) and stored,
        collapsed=collapsed if fwd else None,
        key=key,
        detail=detail,
    )
    field = appended("Other; hit", status.render(identifier(name)))
    parsed: Any = http_sf.parse(field.encode("ascii"), tltype="list")
    assert isinstance(parsed, list)
    assert len(parsed) == 2
    parameters = parsed[1][1]
    assert parameters.get("hit", False) is status.hit
    assert parameters.get("fwd") == (None if fwd is None else http_sf.Token(fwd.value))
    assert parameters.get("fwd-status") == status.fwd_status
    assert parameters.get("stored", False) is status.stored
    assert parameters.get("collapsed") is status.collapsed
    assert parameters.get("ttl") == (None if ttl_s is None else max(-TTL_MAX_S, min(ttl_s, TTL_MAX_S)))
    if name.isascii() and name.isprintable():
        assert str(parsed[1][0]) == name
    if key is not None and key.isascii() and key.isprintable():
        assert parameters["key"] == key
    assert ("key" in parameters, "detail" in parameters) == (key is not None, detail is not None)
