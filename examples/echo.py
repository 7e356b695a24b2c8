#!/usr/bin/env python3
"""Maelstrom's echo: say what was said."""

from typing import Any

import msgspec

from twisted_node import Node, Request, run

node = Node()


class Echo(msgspec.Struct):
    echo: Any


@node.handle("echo", Echo)
def echo(request: Request[Echo]) -> dict[str, Any]:
    return {"echo": request.body.echo}


if __name__ == "__main__":
    run(node)
