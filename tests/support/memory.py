"""A node without a network: a clock instead of time, and connections that only remember."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from tests.support.transports import MemoryTransport
from twisted_node.drain import Drain
from twisted_node.node._about import answer_about_drain
from twisted_node.node._factory import NodeFactory
from twisted_node.node._node import Node, requests_of
from twisted_node.node._workload import answer_requests
from twisted_node.server._connections import Connections


class Sink:
    """Somebody who asks a node, and keeps the answers."""

    def __init__(self, *, control: bool = True, routes: bool = False) -> None:
        self.control = control
        self.routes = routes
        self.gone = False
        self.in_flight = 0
        self.kept = False
        self.output = b""

    def keep_open(self) -> None:
        self.kept = True

    def request_began(self) -> None:
        self.in_flight += 1

    def request_ended(self) -> None:
        self.in_flight -= 1

    def send(self, line: bytes) -> None:
        self.output += line

    def take(self) -> bytes:
        """What has come since the last time."""
        output, self.output = self.output, b""
        return output


class LineClient:
    """The other side of a connection in memory."""

    def __init__(self, factory: NodeFactory) -> None:
        self.protocol = factory.buildProtocol(None)
        self.transport = MemoryTransport()
        self.transport.connect(self.protocol)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def close_half(self) -> None:
        """Send no more, but read on."""
        self.protocol.readConnectionLost()

    def leave(self) -> None:
        """Be gone, as after a reset."""
        self.transport.leave()

    def take(self) -> bytes:
        """What has come since the last time."""
        return self.transport.take()


class House:
    """A clock, a drain, a node with the usual handlers, and the connections to it."""

    def __init__(self, node_id: str | None = "n1", *, max_in_flight: int = 100_000, linger: float = 1.0) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.node = Node(node_id)
        answer_requests(self.node)
        #: As of a service: seconds.
        self.drain_timeout = 25.0
        answer_about_drain(self.node, self)
        self.node.bind(self.drain, max_in_flight=max_in_flight)
        self.requests = requests_of(self.node)
        self.connections = Connections(self.clock, linger)

    def factory(self, **options: Any) -> NodeFactory:
        factory = NodeFactory(self.node, **options)
        factory.connections = self.connections
        return factory

    def connect(self, **options: Any) -> LineClient:
        return LineClient(self.factory(**options))

    def ask(self, line: bytes, *, control: bool = True) -> bytes:
        """One line in, what comes out of it at once."""
        sink = Sink(control=control)
        self.requests.receive(line, sink)
        return sink.output
