"""Several processes that are one origin: each can ask all of them, so a count is always the whole count."""

import asyncio
import json
from typing import Any

_ANSWER_S_MAX = 5.0


async def _ask(port: int, target: str) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {target}?own HTTP/1.0\r\n\r\n".encode())
        answer = await reader.read(-1)
    finally:
        writer.close()
    body: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    # The connection that asked is none of the load's.
    body["open_connections"] -= 1
    return body


def _sum(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    total = dict(left)
    for name, value in right.items():
        if isinstance(value, dict):
            total[name] = _sum(total.get(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value
    return total


async def ask_all(ports: list[int], target: str) -> dict[str, Any]:
    """The sum of what each process answers to one of the origin's own pages."""
    async with asyncio.timeout(_ANSWER_S_MAX):
        answers = await asyncio.gather(*(_ask(port, target) for port in ports))
    total: dict[str, Any] = {}
    for answer in answers:
        total = _sum(total, answer)
    return total
