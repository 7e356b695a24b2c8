"""What every node answers, whatever it is for: who it is, and how its drain is going."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from twisted_node.drain import Drain, Phase
from twisted_node.errors import ErrorCode, RequestError
from twisted_node.names import printable
from twisted_node.node._handlers import Request
from twisted_node.node._outgoing import Identity
from twisted_node.node._registry import Registry
from twisted_node.node._wire import Body, Milliseconds
from twisted_node.server._service import DrainingService
from twisted_node.server._status import describe

__all__ = ["answer_about_drain", "answer_init", "answer_statistics"]


class _Init(msgspec.Struct):
    node_id: Annotated[str, msgspec.Meta(min_length=1)]
    node_ids: list[str] = []


class _Shutdown(msgspec.Struct):
    """Begin a drain; UNSET means the node's own timeout."""

    drain_timeout_ms: Milliseconds | UnsetType = UNSET


class _NoFields(msgspec.Struct):
    """A request without fields of its own."""


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


def answer_about_drain(registry: Registry, drain: Drain, drain_timeout: float) -> None:
    """Answer ``tcp_shutdown``, on standard input and control endpoints, and ``tcp_drain_status``, in every phase.

    Args:
        registry: the handlers of any node.
        drain: the drain to begin, and to tell about.
        drain_timeout: seconds until the deadline of a drain if the message gives none.
    """

    @registry.handle("tcp_shutdown", _Shutdown, while_draining=True, control=True)
    def tcp_shutdown(request: Request[_Shutdown]) -> dict[str, Any]:
        asked_ms = request.body.drain_timeout_ms
        status = drain.phase.value if drain.ended else "draining"
        in_flight = drain.in_flight
        request.asker.keep_open()
        drain.begin(
            drain_timeout if asked_ms is UNSET else asked_ms / 1000, f"tcp_shutdown from {printable(request.src, 100)}"
        )
        return {"status": status, "in_flight": in_flight}

    @registry.handle("tcp_drain_status", _NoFields, while_draining=True)
    def tcp_drain_status(request: Request[_NoFields]) -> dict[str, Any]:
        statistics = drain.statistics(oldest=0)
        phase = Phase.SERVING if statistics.phase is Phase.LAME_DUCK else statistics.phase
        took_ms = round(statistics.took * 1000)
        return {"status": phase.value, "remaining": statistics.remaining, "took_ms": took_ms}


def answer_statistics(registry: Registry, service: DrainingService, node_id: Callable[[], str | None]) -> None:
    """Answer ``statistics``, on standard input and control endpoints, in every phase.

    Args:
        registry: the handlers of any node.
        service: the server to tell about.
        node_id: tells the name of the node.
    """

    @registry.handle("statistics", _NoFields, while_draining=True, control=True)
    def statistics(request: Request[_NoFields]) -> Body:
        picture: Body = msgspec.to_builtins(describe(service, node_id=node_id()))
        return picture
