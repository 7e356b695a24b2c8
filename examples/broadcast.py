#!/usr/bin/env python3
"""Maelstrom's broadcast: every message reaches every node, through lost messages and partitions.

Several times a second, a node tells each neighbour, in one message, all that the neighbour is not known to have. What
it does not acknowledge it is told again.
"""

from typing import Any

import msgspec
from twisted.internet.defer import DeferredList, ensureDeferred

from twisted_node import Node, Request, RequestError, run

node = Node()
seen: set[int] = set()
#: What each neighbour is known to have.
known: dict[str, set[int]] = {}


class Broadcast(msgspec.Struct):
    message: int


class Topology(msgspec.Struct):
    topology: dict[str, list[str]]


class Gossip(msgspec.Struct):
    messages: set[int]


@node.handle("broadcast", Broadcast)
def broadcast(request: Request[Broadcast]) -> None:
    seen.add(request.body.message)


@node.handle("read")
def read(request: Request[dict[str, Any]]) -> dict[str, Any]:
    return {"messages": sorted(seen)}


@node.handle("topology", Topology)
def topology(request: Request[Topology]) -> None:
    neighbours = request.body.topology[str(node.node_id)]
    for gone in known.keys() - neighbours:
        del known[gone]
    for neighbour in neighbours:
        known.setdefault(neighbour, set())


@node.handle("gossip", Gossip, while_draining=True)
def gossip(request: Request[Gossip]) -> None:
    seen.update(request.body.messages)
    known.get(request.src, set()).update(request.body.messages)


async def tell(neighbour: str) -> None:
    news = seen - known[neighbour]
    if not news:
        return
    try:
        await node.rpc(neighbour, {"type": "gossip", "messages": sorted(news)}, timeout=0.5)
    except RequestError:
        return
    known[neighbour] |= news


@node.after_init
def know_all() -> None:
    known.update({other: set() for other in node.node_ids if other != node.node_id})


@node.every(0.2)
@node.on_drain
async def tell_all() -> None:
    await DeferredList([ensureDeferred(tell(neighbour)) for neighbour in list(known)])


if __name__ == "__main__":
    run(node)
