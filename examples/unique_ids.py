#!/usr/bin/env python3
"""Maelstrom's unique-ids: ids that no node ever gives twice, not even after a restart."""

from typing import Any
from uuid import uuid4

from twisted_node import Node, Request, run

node = Node()


@node.handle("generate")
def generate(request: Request[dict[str, Any]]) -> dict[str, Any]:
    return {"id": str(uuid4())}


if __name__ == "__main__":
    run(node)
