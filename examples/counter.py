#!/usr/bin/env python3
"""Maelstrom's g-counter and pn-counter: a counter that every node adds to, also while it is cut off from the others.

Each node keeps, for every node, the sum of what was added there and of what was taken away. Both only grow, so of two
accounts of a node the larger is the newer, and messages may be lost, repeated and out of order.
"""

from typing import Any

import msgspec
from twisted.internet.defer import DeferredList, ensureDeferred

from twisted_node import Node, Request, RequestError, run

node = Node()
#: By node: what was added, and what was taken away.
sums: dict[str, tuple[int, int]] = {}
#: By node: what it is known to have.
known: dict[str, dict[str, tuple[int, int]]] = {}


class Add(msgspec.Struct):
    delta: int


class Gossip(msgspec.Struct):
    sums: dict[str, tuple[int, int]]


def merge(into: dict[str, tuple[int, int]], news: dict[str, tuple[int, int]]) -> None:
    for name, (added, taken) in news.items():
        old = into.get(name, (0, 0))
        into[name] = max(added, old[0]), max(taken, old[1])


@node.handle("add", Add)
def add(request: Request[Add]) -> None:
    name, delta = str(node.node_id), request.body.delta
    added, taken = sums.get(name, (0, 0))
    sums[name] = added + max(delta, 0), taken + max(-delta, 0)


@node.handle("read")
def read(request: Request[dict[str, Any]]) -> dict[str, Any]:
    return {"value": sum(added - taken for added, taken in sums.values())}


@node.handle("gossip", Gossip, while_draining=True)
def gossip(request: Request[Gossip]) -> None:
    merge(sums, request.body.sums)
    merge(known.setdefault(request.src, {}), request.body.sums)


async def tell(other: str) -> None:
    news = {name: account for name, account in sums.items() if known.setdefault(other, {}).get(name) != account}
    if not news:
        return
    try:
        await node.rpc(other, {"type": "gossip", "sums": news}, timeout=0.5)
    except RequestError:
        return
    merge(known[other], news)


@node.every(0.2)
@node.on_drain
async def tell_all() -> None:
    await DeferredList([ensureDeferred(tell(other)) for other in node.node_ids if other != node.node_id])


if __name__ == "__main__":
    run(node)
