"""Via (RFC 9110, 7.6.3) and CDN-Loop (RFC 8586)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.fields import Fields
from edge.http.via import append_cdn_loop, append_via, cdn_ids, cdn_loop_count, is_looping, via_count

EXAMPLE = Fields(
    [
        ("CDN-Loop", 'foo123.foocdn.example, barcdn.example; trace="abcdef"'),
        ("CDN-Loop", "AnotherCDN; abc=123; def=\"456, barcdn.example\", [2001:db8::1]:443"),
    ]
)  # fmt: skip


def test_9110_7_6_3_this_hop_comes_last_in_via() -> None:
    fields = append_via(Fields([("Via", "1.0 fred, 1.1 p.example.net")]), "1.1", "edge-7")
    assert fields.combined("via") == "1.0 fred, 1.1 p.example.net, 1.1 edge-7"
    assert via_count(fields, "edge-7") == 1
    assert via_count(append_via(fields, "2", "edge-7"), "edge-7") == 2
    assert via_count(fields, "p.example") == 0


def test_9110_7_6_3_comments_do_not_disturb() -> None:
    fields = Fields([("Via", "HTTP/1.1 edge-7 (a box), 1.1")])
    assert via_count(fields, "edge-7") == 1
    assert via_count(fields, "box") == 0


def test_8586_2_ids_without_parameters() -> None:
    assert cdn_ids(EXAMPLE) == ["foo123.foocdn.example", "barcdn.example", "AnotherCDN", "[2001:db8::1]:443"]
    assert cdn_ids(Fields()) == []


@pytest.mark.parametrize("value", ["", " , ", "; a=b", "a b", '"a"', "a/b", "a@b"])
def test_8586_2_what_is_no_id_is_left_out(value: str) -> None:
    assert cdn_ids(Fields([("CDN-Loop", f"{value}, ok")])) == ["ok"]


def test_8586_2_a_loop_is_found_in_any_case() -> None:
    assert is_looping(EXAMPLE, "BarCDN.example")
    assert not is_looping(EXAMPLE, "barcdn")
    assert not is_looping(Fields(), "barcdn.example")


def test_8586_2_a_chain_of_boxes_may_share_an_id() -> None:
    once = append_cdn_loop(EXAMPLE, "edge.example")
    assert once.all("cdn-loop")[:2] == EXAMPLE.all("cdn-loop")
    assert is_looping(once, "edge.example")
    assert not is_looping(once, "edge.example", passes_max=2)
    twice = append_cdn_loop(once, "edge.example")
    assert cdn_loop_count(twice, "edge.example") == 2
    assert is_looping(twice, "edge.example", passes_max=2)


@pytest.mark.parametrize("cdn_id", ["", "a b", "a,b", 'a"', "a;b", "a\r\n"])
def test_8586_2_only_an_id_is_appended(cdn_id: str) -> None:
    with pytest.raises(ValueError, match="cdn-id"):
        append_cdn_loop(Fields(), cdn_id)


@pytest.mark.rfc("8586-2")
@given(st.lists(st.text(max_size=30) | st.text(alphabet='a,;="\\ ', max_size=20), max_size=3))
def test_never_raises_and_finds_itself_whatever_came_before(lines: list[str]) -> None:
    fields = Fields(("CDN-Loop", line) for line in lines)
    assert cdn_loop_count(append_cdn_loop(fields, "edge"), "edge") == cdn_loop_count(fields, "edge") + 1
    via_count(Fields(("Via", line) for line in lines), "edge")
