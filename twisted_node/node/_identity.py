"""Who a node is, and how it learns that: ``init``, which every node answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from twisted_node.errors import ErrorCode, RequestError
from twisted_node.node._handlers import Request
from twisted_node.node._registry import Registry

__all__ = ["Identity", "answer_init"]


@dataclass(slots=True)
class Identity:
    """Who a node is."""

    #: The node's name; None until it is known.
    node_id: str | None = None
    #: The names of all nodes of the cluster.
    node_ids: tuple[str, ...] = ()


class _Init(msgspec.Struct):
    node_id: Annotated[str, msgspec.Meta(min_length=1)]
    node_ids: list[str] = []


def answer_init(registry: Registry, identity: Identity) -> None:
    """Answer ``init``, which gives the node its name, on standard input and control endpoints, in every phase.

    Args:
        registry: the node's handlers.
        identity: where to keep the name.
    """

    @registry.handle("init", _Init, while_draining=True, control=True, before_init=True)
    def init(request: Request[_Init]) -> None:
        if identity.node_id not in (None, request.body.node_id):
            raise RequestError(ErrorCode.PRECONDITION_FAILED, f"node_id: this node is {identity.node_id}")
        identity.node_id = request.body.node_id
        identity.node_ids = tuple(request.body.node_ids)
