"""An answer that is for one client: what becomes of the others that wait for the same flight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.errors import OriginChanged, OriginError
from edge.fill.follower import Follower
from edge.fill.messages import Failed
from edge.fill.origin import OriginResponse
from edge.fill.passing import pass_response
from edge.terms import Reason

if TYPE_CHECKING:
    from edge.fill.flight import Flight


async def hand_over(flight: Flight, response: OriginResponse, *, is_personal: bool = False) -> None:
    """The client that asked has the answer; the others ask for themselves, now and for a while."""
    base = flight.base
    followers = _dismissed(flight)
    if response.status >= 500:
        # an error says nothing of the object, and a herd must not follow the first to a failing origin
        error = OriginError(f"the origin answered {response.status}", Reason.ORIGIN_STATUS)
        base.failed(error, flight.want.url, flight.site.name)
        for follower in followers[1:]:
            follower.client.send(Failed(follower.want.id, response.status, Reason.ORIGIN_STATUS))
    else:
        _send_off(flight, followers[1:], is_personal=is_personal)
    for follower in followers[:1]:
        await pass_response(base, follower, response, collapsed=follower is not flight.first)


def pass_all(flight: Flight, *, is_personal: bool = False) -> None:
    """Every client asks for itself, as it asked us."""
    followers = _dismissed(flight)
    flight.base.pass_each(followers[:1])
    _send_off(flight, followers[1:], is_personal=is_personal)


def _dismissed(flight: Flight) -> list[Follower]:
    """Nobody may join any more. Who is in the middle of a body cannot be given another answer's head."""
    flight.ended = True
    followers, flight.followers = flight.followers, []
    for follower in followers:
        if follower.want.continues is not None:
            follower.fail(OriginChanged("what was begun cannot be had any more"))
    return [follower for follower in followers if follower.want.continues is None]


def _send_off(flight: Flight, followers: Sequence[Follower], *, is_personal: bool) -> None:
    """None of these gets our answer: it is for one, or (personal) it was for one since that one asked."""
    base = flight.base
    if not is_personal:
        flight.let_go_of_stored()
        base.remember_bypass(flight.want.key)
        base.pass_each(followers)
        return
    base.pass_each([follower for follower in followers if follower.is_authorized])
    base.dispatch([follower for follower in followers if not follower.is_authorized])
