"""Parts of the hot path in one process, timed by pytest-benchmark: ``pytest benchmarks/micro.py``.

Each benchmark notes in ``extra_info`` how many items one call of it is about.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from benchmarks.lines import message, request
from twisted_node.drain import Drain
from twisted_node.node import _wire as wire
from twisted_node.node._factory import NodeFactory
from twisted_node.node._handlers import Request
from twisted_node.node._node import Node, requests_of
from twisted_node.node._protocol import NodeProtocol
from twisted_node.node._workload import answer_requests
from twisted_node.server._connections import Connections

_LINE = request(12_345)
_REPLY = {"type": "tcp_request_ok", "in_reply_to": 12_345, "result": "processed", "duration_ms": 0, "msg_id": 1}
_LINES = 1_000
_IN_FLIGHT = 100_000


class Untracked(Drain):
    """What the price of the drain is measured against: it holds nothing, and refuses nothing."""

    refusing = False
    in_flight = 0

    def track(self, name: object, work: Deferred[Any], *, while_draining: bool = False) -> Deferred[Any]:
        """Let it go."""
        return work


class _Clock(ReactorBase):
    """A reactor's own timers, and nothing else of it; ``task.Clock`` sorts all of them for each new one."""

    def __init__(self) -> None:
        super().__init__()
        self._registerAsIOThread = False

    def installWaker(self) -> None:
        """Do without."""


class _Asker:
    """Where answers go to be counted."""

    control = True
    routes = True
    gone = False

    def __init__(self) -> None:
        self.in_flight = 0
        self.answers = 0

    def request_began(self) -> None:
        self.in_flight += 1

    def request_ended(self) -> None:
        self.in_flight -= 1

    def send(self, line: bytes) -> None:
        self.answers += 1

    def keep_open(self) -> None:
        """It never closes."""


def _node(drain: Drain) -> Node:
    node = Node("n1")
    node.bind(drain, max_in_flight=_IN_FLIGHT + 1)
    answer_requests(node)
    return node


def _connect(node: Node, clock: Clock) -> tuple[NodeProtocol, StringTransport]:
    factory = NodeFactory(node)
    factory.connections = Connections(clock)
    protocol = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def _time(benchmark: BenchmarkFixture, items: int, function: Callable[..., object], *arguments: object) -> None:
    benchmark.extra_info["items"] = items
    benchmark(function, *arguments)


def test_decode(benchmark: BenchmarkFixture) -> None:
    """Read one line."""
    _time(benchmark, 1, wire.decode, _LINE)


def test_encode(benchmark: BenchmarkFixture) -> None:
    """Write one reply."""
    _time(benchmark, 1, wire.encode, "n1", "c1", _REPLY)


def test_receive(benchmark: BenchmarkFixture) -> None:
    """One request without latency through the node."""
    clock = Clock()
    _time(benchmark, 1, requests_of(_node(Drain(clock))).receive, _LINE, _Asker())


def test_track(benchmark: BenchmarkFixture) -> None:
    """One piece of work into the drain and out again."""
    drain = Drain(Clock())

    def track() -> None:
        work: Deferred[None] = Deferred()
        drain.track("work", work)
        work.callback(None)

    _time(benchmark, 1, track)


@pytest.mark.parametrize("chunk", [64, 1_024, 8_192, 65_536, 1 << 20])
def test_data_received(benchmark: BenchmarkFixture, chunk: int) -> None:
    """Requests through a connection, in chunks of so many bytes."""
    clock = Clock()
    protocol, transport = _connect(_node(Drain(clock)), clock)
    data = _LINE * _LINES
    chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)]

    def receive() -> None:
        for part in chunks:
            protocol.dataReceived(part)
        transport.clear()

    _time(benchmark, _LINES, receive)


@pytest.mark.parametrize("drain", [Untracked, Drain], ids=["untracked", "tracked"])
@pytest.mark.parametrize("answer", ["at_once", "later"])
def test_price(benchmark: BenchmarkFixture, answer: str, drain: type[Drain]) -> None:
    """The same protocol with and without tracking, for answers at once and for Deferreds fired after the chunk."""
    clock = Clock()
    node = _node(drain(clock))
    waiting: list[Deferred[dict[str, str]]] = []

    @node.handle("later")
    def later(request: Request[dict[str, Any]]) -> Deferred[dict[str, str]]:
        answer: Deferred[dict[str, str]] = Deferred()
        waiting.append(answer)
        return answer

    protocol, transport = _connect(node, clock)
    data = (_LINE if answer == "at_once" else message("later", 12_345, data="process_this")) * _LINES

    def receive() -> None:
        protocol.dataReceived(data)
        for deferred in waiting:
            deferred.callback({"result": "processed"})
        waiting.clear()
        transport.clear()

    _time(benchmark, _LINES, receive)


def _fill() -> Node:
    """Have many requests in flight, on a reactor's own clock."""
    # What an earlier drain froze is over.
    gc.unfreeze()
    gc.collect()
    node, asker, line = _node(Drain(_Clock())), _Asker(), request(2, 600_000)
    # Only to get there sooner.
    gc.disable()
    receive = requests_of(node).receive
    for _ in range(_IN_FLIGHT):
        receive(line, asker)
    gc.enable()
    gc.collect()
    return node


def test_begin(benchmark: BenchmarkFixture) -> None:
    """Begin a drain over 100,000 requests in flight."""
    benchmark.extra_info["items"] = 1
    benchmark.pedantic(lambda node: node.drain.begin(600), setup=lambda: ([_fill()], {}), rounds=3)


def test_cut(benchmark: BenchmarkFixture) -> None:
    """Cut 100,000 requests in flight."""

    def draining() -> tuple[list[Node], dict[str, Any]]:
        node = _fill()
        node.drain.begin(600)
        return [node], {}

    benchmark.extra_info["items"] = 1
    benchmark.pedantic(lambda node: node.drain.begin(0), setup=draining, rounds=3)
