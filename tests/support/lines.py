"""Lines as clients send them to a node, and the bodies of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

INIT = b'{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1"]}}\n'
INIT_OK = b'{"src": "n1", "dest": "c0", "body": {"type": "init_ok", "in_reply_to": 1, "msg_id": 0}}\n'


def message(type_: str, msg_id: Any = 2, src: str = "c1", **fields: Any) -> bytes:
    """One line of input."""
    return json.dumps({"src": src, "dest": "n1", "body": {"type": type_, "msg_id": msg_id, **fields}}).encode() + b"\n"


def bodies(output: bytes) -> list[dict[str, Any]]:
    """The bodies of the lines of an output; each line must be a message."""
    return [json.loads(line)["body"] for line in output.splitlines()]


def by_request(answers: Iterable[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Bodies by the request that they answer; no request may be answered twice."""
    found: dict[Any, dict[str, Any]] = {}
    for answer in answers:
        if answer["in_reply_to"] in found:
            raise AssertionError(f"answered twice: {answer}")
        found[answer["in_reply_to"]] = answer
    return found
