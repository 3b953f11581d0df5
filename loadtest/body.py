"""Writes a header block and the body behind it, as evenly or as badly as a step asks."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from loadtest.answer import Answer, head
from loadtest.content import PIECE_BYTES
from loadtest.faults import Step
from loadtest.resources import Resource

_JOIN_BYTES_MAX = 64 * 1024  # up to here a first piece leaves in one write with its header block


class Out(Protocol):
    def write(self, data: bytes | memoryview) -> None: ...

    async def drain(self) -> None: ...


async def send_answer(out: Out, answer: Answer, step: Step, resource: Resource, count: Callable[[int], None]) -> bool:
    """True when all of it was written; False when the position has been reached where the step's fault is."""
    lead, sent = head(answer), 0
    size = answer.end - answer.start if answer.has_body else 0
    chunked = step.framing == "chunked" and answer.has_body
    fault = step.ends_at()
    while True:
        if step.gate is not None and step.gate_after is not None and sent >= step.gate_after:
            lead = await _flushed(out, lead)
            await step.gate.wait()
        if fault is not None and sent >= fault:
            await _flushed(out, lead)
            return False
        if sent == size:
            break
        marks = [mark for mark in (size, step.gate_after, fault) if mark is not None and mark > sent]
        upto = min(*marks, sent + (step.drip_bytes or PIECE_BYTES), sent + PIECE_BYTES)
        piece = resource.read(answer.start + sent, answer.start + upto)
        if not len(piece):
            return False  # the file has shrunk
        _write_piece(out, lead, piece, chunked)
        lead = b""
        sent += len(piece)
        count(len(piece))
        await out.drain()
        if step.drip_s:
            await asyncio.sleep(step.drip_s)
    if chunked:
        lead += b"0\r\n\r\n"
    if step.surplus:
        lead += step.surplus
        count(len(step.surplus))
    await _flushed(out, lead)
    return True


async def _flushed(out: Out, lead: bytes) -> bytes:
    if lead:
        out.write(lead)
        await out.drain()
    return b""


def _write_piece(out: Out, lead: bytes, piece: bytes | memoryview, chunked: bool) -> None:
    if chunked:
        lead += b"%x\r\n" % len(piece)
    if len(piece) <= _JOIN_BYTES_MAX:
        out.write(b"".join((lead, piece, b"\r\n" if chunked else b"")))
        return
    if lead:
        out.write(lead)
    out.write(piece)
    if chunked:
        out.write(b"\r\n")
