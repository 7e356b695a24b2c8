"""The workload of the task: ``tcp_request``, which takes as long as the client says."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_node.node._handlers import Answer, Fixed, Request
from twisted_node.node._node import Node
from twisted_node.node._plain import PlainBody
from twisted_node.node._wire import Body, Milliseconds

__all__ = ["TcpRequest", "answer_requests"]


class TcpRequest(PlainBody):
    """Work that takes ``latency_ms``. The field ``data``, if there is one, is ignored."""

    latency_ms: Milliseconds = 0


class _Processing(Deferred[Body]):
    """A request being processed: fires with its answer when its latency has passed.

    This is a class because 100,000 of them may be in flight: closures would take 400 bytes more for each.
    """

    __slots__ = ("_latency_ms", "_timer")

    def __init__(self, clock: IReactorTime, latency_ms: float) -> None:
        super().__init__(_cancel)
        self._latency_ms = latency_ms
        self._timer = clock.callLater(latency_ms / 1000, self._processed)

    def _processed(self) -> None:
        # Breaks the reference cycle with the timer, so that neither needs the garbage collector.
        del self._timer
        self.callback({"result": "processed", "duration_ms": self._latency_ms})


def _cancel(processing: Any) -> None:
    processing._timer.cancel()  # noqa: SLF001 - a method would refer to its object, and so make a cycle


def answer_requests(node: Node) -> None:
    """Have a node answer ``tcp_request``, ``latency_ms`` after it arrived."""
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
