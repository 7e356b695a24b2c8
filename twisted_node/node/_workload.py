"""What the node answers: ``tcp_request``, and what every node says about its drain."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_node.drain import Phase
from twisted_node.names import printable
from twisted_node.node._handlers import Answer, Fixed, Request
from twisted_node.node._node import Node
from twisted_node.node._wire import Body, PlainBody

__all__ = ["DrainStatus", "TcpRequest", "TcpShutdown", "answer_about_drain", "answer_requests"]

#: Milliseconds, up to an hour.
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] | Annotated[float, msgspec.Meta(ge=0, le=3_600_000)]


class TcpRequest(PlainBody):
    """Work that takes ``latency_ms``; what it is about (``data``) matters to nobody."""

    latency_ms: _Milliseconds = 0


class TcpShutdown(msgspec.Struct):
    """A drain, with its deadline; UNSET for the node's own."""

    drain_timeout_ms: _Milliseconds | UnsetType = UNSET


class DrainStatus(msgspec.Struct):
    """A question about the drain."""


class _Processing(Deferred[Body]):
    """A request being processed: fires with its answer when its time has come.

    A class, for 100,000 of them in flight: closures would take 400 bytes more for each.
    """

    __slots__ = ("_latency_ms", "_timer")

    def __init__(self, clock: IReactorTime, latency_ms: float) -> None:
        super().__init__(_stop)
        self._latency_ms = latency_ms
        self._timer = clock.callLater(latency_ms / 1000, self._processed)

    def _processed(self) -> None:
        # The timer knows us: apart, neither needs the garbage collector.
        del self._timer
        self.callback({"result": "processed", "duration_ms": self._latency_ms})


def _stop(processing: Any) -> None:
    processing._timer.cancel()


def answer_requests(node: Node) -> None:
    """Have a node answer ``tcp_request``, ``latency_ms`` after it came."""
    at_once = Fixed(result="processed", duration_ms=0)

    def tcp_request(request: Request[TcpRequest]) -> Answer:
        latency_ms = request.body.latency_ms
        if latency_ms == 0:
            return at_once if type(latency_ms) is int else {"result": "processed", "duration_ms": latency_ms}
        return _Processing(node.clock, latency_ms)

    node.handle(
        "tcp_request",
        TcpRequest,
        refused={"type": "tcp_request_error", "error": "server_shutting_down"},
        cut={"type": "tcp_request_error", "error": "drain_timeout"},
    )(tcp_request)


def answer_about_drain(node: Node, drain_timeout: float) -> None:
    """Have a node answer ``tcp_shutdown`` and ``tcp_drain_status``, in every phase.

    Args:
        node: any node.
        drain_timeout: seconds until the deadline of a drain whose message names none.
    """

    @node.handle("tcp_shutdown", TcpShutdown, while_draining=True, control=True)
    def tcp_shutdown(request: Request[TcpShutdown]) -> dict[str, Any]:
        drain, asked_ms = node.drain, request.body.drain_timeout_ms
        status = drain.phase.value if drain.ended else "draining"
        in_flight = drain.in_flight
        request.asker.keep_open()
        drain.begin(
            drain_timeout if asked_ms is UNSET else asked_ms / 1000, f"tcp_shutdown from {printable(request.src, 100)}"
        )
        return {"status": status, "in_flight": in_flight}

    @node.handle("tcp_drain_status", DrainStatus, while_draining=True)
    def tcp_drain_status(request: Request[DrainStatus]) -> dict[str, Any]:
        statistics = node.drain.statistics(oldest=0)
        phase = Phase.SERVING if statistics.phase is Phase.LAME_DUCK else statistics.phase
        took_ms = round(statistics.took * 1000)
        return {"status": phase.value, "remaining": statistics.remaining, "took_ms": took_ms}
