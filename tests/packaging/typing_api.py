"""The public face of a node, as programs use it: for mypy to read, not to be run.

Each ``type: ignore`` is a mistake that mypy must find: it complains of an unused one.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from typing_extensions import assert_type

from twisted_node import Node, Request, RequestError, Statistics, run

node = Node()


class Ask(msgspec.Struct):
    key: int


class Other(msgspec.Struct):
    name: str


@node.handle("at_once", Ask)
def at_once(request: Request[Ask]) -> dict[str, int]:
    assert_type(request.body, Ask)
    assert_type(request.src, str)
    assert_type(request.msg_id, "int | None")
    return {"key": request.body.key}


@node.handle("nothing", Ask)
def nothing(request: Request[Ask]) -> None:
    raise RequestError(20, "no such key")


@node.handle("later", Ask, while_draining=True, control=True)
def later(request: Request[Ask]) -> Deferred[dict[str, int]]:
    return Deferred()


@node.handle("coroutine", refused={"type": "no"}, cut={"type": "late"})
async def coroutine(request: Request[dict[str, Any]]) -> dict[str, Any]:
    reply = await node.rpc("n2", {"type": "read", "key": request.body["key"]}, timeout=0.5)
    assert_type(reply, dict[str, Any])
    node.send("n3", {"type": "told"})
    return {"value": reply["value"]}


def any_of_two(request: Request[Any]) -> dict[str, str]:
    return {"type": request.type + "_ok"}


node.handle("first", Ask)(any_of_two)
node.handle("second", Other)(any_of_two)


@node.after_init
def after_init() -> None:
    assert_type(node.node_id, "str | None")
    assert_type(node.node_ids, tuple[str, ...])


@node.every(0.5)
@node.on_drain
async def gossip() -> None:
    await gossip()


assert_type(node.drain.begin(5), Deferred[Statistics])
run(node, ["--drain-timeout", "5"])


@node.handle("wrong_body", Other)  # type: ignore[arg-type]
def wrong_body(request: Request[Ask]) -> None: ...


@node.handle("plain_data")  # type: ignore[arg-type]
def plain_data(request: Request[Ask]) -> None: ...


@node.handle("wrong_answer", Ask)  # type: ignore[arg-type]
def wrong_answer(request: Request[Ask]) -> int:
    return 1


@node.every(1)  # type: ignore[type-var]
def takes_something(request: Request[Ask]) -> None: ...


node.handle("function", at_once)  # type: ignore[call-overload]
node.handle("unknown_term", urgent=True)  # type: ignore[call-overload]
node.rpc("n2", "read")  # type: ignore[arg-type]
