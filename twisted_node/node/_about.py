"""What every node answers about its drain and its server, whatever the node is for."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType
from twisted.internet.defer import Deferred

from twisted_node.drain import Drain, Phase
from twisted_node.errors import HandoverError, RequestError
from twisted_node.names import printable
from twisted_node.node._handlers import Request
from twisted_node.node._node import Node
from twisted_node.node._wire import Body, Milliseconds
from twisted_node.server._handover import PATIENCE
from twisted_node.server._service import DrainingService
from twisted_node.server._status import describe

__all__ = ["answer_about_drain", "answer_restart", "answer_statistics"]


class _Shutdown(msgspec.Struct):
    """Begin a drain; UNSET means the server's own timeout."""

    drain_timeout_ms: Milliseconds | UnsetType = UNSET


class _Restart(msgspec.Struct):
    """Have another process take the place of this one."""

    ready_timeout_ms: Milliseconds = PATIENCE * 1000


class _NoFields(msgspec.Struct):
    """A request without fields of its own."""


class _HasDrain(Protocol):
    """What these messages need of a ``DrainingService``."""

    drain: Drain

    @property
    def drain_timeout(self) -> float:
        """Seconds until the deadline of a drain, if the message gives none."""


def answer_about_drain(node: Node, service: _HasDrain) -> None:
    """Answer ``tcp_shutdown``, on standard input and control endpoints, and ``tcp_drain_status``, in every phase.

    Args:
        node: any node.
        service: has the drain to begin, and to tell about.

    Raises:
        MisuseError: the node has a handler for one of them.
    """
    drain = service.drain

    @node.handle("tcp_shutdown", _Shutdown, while_draining=True, control=True)
    def tcp_shutdown(request: Request[_Shutdown]) -> dict[str, Any]:
        asked_ms = request.body.drain_timeout_ms
        timeout = service.drain_timeout if asked_ms is UNSET else asked_ms / 1000
        status = drain.phase.value if drain.ended else "draining"
        in_flight = drain.in_flight
        request.asker.keep_open()
        drain.begin(timeout, f"tcp_shutdown from {printable(request.src, 100)}")
        return {"status": status, "in_flight": in_flight}

    @node.handle("tcp_drain_status", _NoFields, while_draining=True)
    def tcp_drain_status(request: Request[_NoFields]) -> dict[str, Any]:
        statistics = drain.statistics(oldest=0)
        phase = Phase.SERVING if statistics.phase is Phase.LAME_DUCK else statistics.phase
        took_ms = round(statistics.took * 1000)
        return {"status": phase.value, "remaining": statistics.remaining, "took_ms": took_ms}


def answer_statistics(node: Node, service: DrainingService) -> None:
    """Answer ``statistics``, on standard input and control endpoints, in every phase.

    Args:
        node: any node.
        service: the server to tell about.

    Raises:
        MisuseError: the node has a handler for it.
    """

    @node.handle("statistics", _NoFields, while_draining=True, control=True)
    def statistics(request: Request[_NoFields]) -> Body:
        picture: Body = msgspec.to_builtins(describe(service, node_id=node.node_id))
        return picture


def answer_restart(node: Node, service: DrainingService) -> None:
    """Answer ``restart``, on standard input and control endpoints, in every phase.

    The answer comes when another process has taken the place of this one, or will not.

    Args:
        node: any node.
        service: the server to replace.

    Raises:
        MisuseError: the node has a handler for it.
    """

    @node.handle("restart", _Restart, while_draining=True, control=True)
    async def restart(request: Request[_Restart]) -> dict[str, Any]:
        replaced: Deferred[int] = Deferred()
        # By way of a second Deferred: when the request is cut, this wait ends, and not that for the other process.
        service.replace(patience=request.body.ready_timeout_ms / 1000).addBoth(replaced.callback)
        try:
            return {"pid": await replaced}
        except HandoverError as error:
            raise RequestError(error.code, str(error)) from None
