import hashlib

import pytest

from loadtest import content


def test_any_part_is_the_same_part_of_the_whole() -> None:
    whole = content.expected("/gen/2m/a", 0, 2 << 20)
    assert len(whole) == 2 << 20
    for start, end in ((0, 1), (65_535, 65_537), (1_048_570, 1_048_580), (1_500_000, 2 << 20), (7, 7)):
        assert content.expected("/gen/2m/a", start, end) == whole[start:end]
    assert content.digest("/gen/2m/a", 100, 1 << 20) == hashlib.sha256(whole[100 : 1 << 20]).hexdigest()


def test_another_path_version_or_page_has_other_bytes() -> None:
    page = content.expected("/gen/1g/a", 0, 4096)
    assert page != content.expected("/gen/1g/b", 0, 4096)
    assert page != content.expected("/gen/1g/a", 0, 4096, version=1)
    pages = {content.expected("/gen/1g/a", at, at + 64) for at in range(0, 1 << 26, 4096)}
    assert len(pages) == (1 << 26) // 4096
    assert content.etag("/a") != content.etag("/a", 1)


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("/gen/16k/a", 16_384),
        ("/gen/2M/a/b.m4s", 2 << 20),
        ("/gen/1g/x", 1 << 30),
        ("/gen/7/x", 7),
        ("/gen/0/x", 0),
        ("/gen/16k/", None),
        ("/gen/16k", None),
        ("/gen/1x/a", None),
        ("/gen/-1/a", None),
        ("/gen/9999999g/a", None),
        ("/other/16k/a", None),
    ],
)
def test_the_path_says_how_long(path: str, size: int | None) -> None:
    assert content.gen_size_bytes(path) == size


def test_a_checker_follows_the_chunks_and_remembers_the_first_wrong_one() -> None:
    body = bytearray(content.expected("/gen/1m/a", 1000, 900_000))
    right = content.Checker("/gen/1m/a", start=1000)
    assert all(right.feed(body[at : at + 77_777]) for at in range(0, len(body), 77_777))
    assert right.position == 900_000
    body[500_000] ^= 1
    wrong = content.Checker("/gen/1m/a", start=1000)
    assert not wrong.feed(body)
    assert wrong.wrong_at is not None
    assert wrong.wrong_at <= 501_000 < wrong.wrong_at + content.PIECE_BYTES
