"""The lines that go to a node under measurement."""

from __future__ import annotations

import json
from collections.abc import Iterator

INIT = b'{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1"]}}\n'


def message(type_: str, msg_id: int, *, src: str = "c1", **fields: object) -> bytes:
    """One line of input."""
    body = {"type": type_, "msg_id": msg_id, **fields}
    return json.dumps({"src": src, "dest": "n1", "body": body}, separators=(",", ":")).encode() + b"\n"


def request(msg_id: int, latency_ms: float = 0, *, src: str = "c1") -> bytes:
    """One request for work that takes some milliseconds."""
    return message("tcp_request", msg_id, src=src, data="process_this", latency_ms=latency_ms)


def long_requests(count: int, seconds: float) -> Iterator[bytes]:
    """Make requests that take so many seconds and up to one more, in no order."""
    for msg_id in range(2, count + 2):
        yield request(msg_id, seconds * 1000 + msg_id * 7919 % 1000)
