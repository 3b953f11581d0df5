"""The trail of intermediaries, and loops in it: Via (RFC 9110, 7.6.3) and CDN-Loop (RFC 8586)."""

import re

from edge.http.fields import Fields, split_list

_TCHARS = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# A pseudonym or a host, less the comma and semicolon a reg-name may have but that end a list member.
_CDN_ID = re.compile(rf"{_TCHARS}|(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+=%-]+)(?::[0-9]*)?")


def append_via(fields: Fields, version: str, pseudonym: str) -> Fields:
    """The fields with this hop at the end of Via; `version` is the received message's, as in ``1.1``."""
    return fields.adding("Via", f"{version} {pseudonym}")


def via_count(fields: Fields, pseudonym: str) -> int:
    """How often `pseudonym` is in Via: in a request, how often it was here before."""
    members = (member for line in fields.all("via") for member in split_list(line)[0])
    return sum(member.split()[1:2] == [pseudonym] for member in members)


def cdn_ids(fields: Fields) -> list[str]:
    """The cdn-ids in CDN-Loop, in order, without their parameters; those that break the grammar are left out."""
    members = (member for line in fields.all("cdn-loop") for member in split_list(line)[0])
    ids = (member.partition(";")[0].rstrip(" \t") for member in members)
    return [cdn_id for cdn_id in ids if _CDN_ID.fullmatch(cdn_id)]


def cdn_loop_count(fields: Fields, cdn_id: str) -> int:
    """How often this CDN has handled the request. Host names are compared without regard to case."""
    return sum(seen.lower() == cdn_id.lower() for seen in cdn_ids(fields))


def is_looping(fields: Fields, cdn_id: str, *, passes_max: int = 1) -> bool:
    """Whether the request has been through this CDN as often as it legitimately may, so that it must not go on.

    Several boxes of one CDN in a chain share an id: `passes_max` is the length of the longest such chain.
    """
    return cdn_loop_count(fields, cdn_id) >= passes_max


def append_cdn_loop(fields: Fields, cdn_id: str) -> Fields:
    """The fields with this CDN added to CDN-Loop, all that was there untouched (RFC 8586, 2)."""
    if not _CDN_ID.fullmatch(cdn_id):
        raise ValueError(f"no cdn-id: {cdn_id!r}")
    return fields.adding("CDN-Loop", cdn_id)
