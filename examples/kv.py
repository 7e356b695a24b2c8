#!/usr/bin/env python3
"""Maelstrom's lin-kv: a linearizable register, kept by the service of that name. Its errors pass through."""

from typing import Any

import msgspec

from twisted_node import Node, Request, run

node = Node()


class Read(msgspec.Struct):
    key: Any


class Write(msgspec.Struct):
    key: Any
    value: Any


class Cas(msgspec.Struct, rename={"old": "from", "new": "to"}):
    key: Any
    old: Any
    new: Any


async def ask(request: Request[Any]) -> dict[str, Any]:
    question = {"type": request.type, **msgspec.to_builtins(request.body)}
    reply = await node.rpc("lin-kv", question, timeout=4)
    return {"value": reply["value"]} if request.type == "read" else {}


node.handle("read", Read)(ask)
node.handle("write", Write)(ask)
node.handle("cas", Cas)(ask)


if __name__ == "__main__":
    run(node)
