"""The server in memory behaves as one on sockets, as far as a test can see."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.support.lines import message
from twisted_node.errors import MisuseError
from twisted_node.node._factory import NodeFactory
from twisted_node.node._handlers import Request
from twisted_node.node._node import Node
from twisted_node.testing import MemoryClient, MemoryEndpoint, MemoryServer


class MemoryServerTests(SynchronousTestCase):
    """A node of one's own, drained in memory."""

    def setUp(self) -> None:
        """Serve a slow handler."""
        self.server = MemoryServer(drain_timeout=10, linger=2)
        self.node = Node("n1")
        self.node.bind(self.server.drain)

        @self.node.handle("slow")
        def slow(request: Request[dict[str, float]]) -> Deferred[dict[str, int]]:
            done: Deferred[dict[str, int]] = Deferred()
            self.server.clock.callLater(request.body["seconds"], done.callback, {"value": 1})
            return done

        self.server.listen(NodeFactory(self.node))

    def test_drain(self) -> None:
        """What is in flight is answered, what comes is refused, and then the connection closes."""
        client = self.server.connect()
        client.send(message("slow", 1, seconds=3))
        stopped = self.server.stop()
        client.send(message("slow", 2, seconds=3))
        self.assertNoResult(stopped)
        self.server.clock.advance(3)
        types = [json.loads(line)["body"]["type"] for line in client.lines()]
        self.assertEqual(types, ["error", "slow_ok"])
        self.assertTrue(client.gone)
        self.assertEqual(self.successResultOf(stopped).finished, 1)
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_refused_after_the_drain_began(self) -> None:
        """Nobody connects any more once the drain has begun."""
        client = self.server.connect()
        client.send(message("slow", 1, seconds=3))
        self.server.stop()
        self.assertRaises(ConnectionRefusedError, self.server.connect)

    def test_deadline(self) -> None:
        """The deadline cuts, and a client that lingers costs the linger after it."""
        client = self.server.connect()
        client.lingers = True
        client.send(message("slow", 1, seconds=60))
        stopped = self.server.stop()
        self.server.clock.advance(10)
        self.assertEqual(json.loads(client.received)["body"]["code"], 0)
        self.assertEqual((client.closed, client.gone), (True, False))
        self.assertNoResult(stopped)
        self.server.clock.advance(2)
        self.assertEqual(self.successResultOf(stopped).cut, 1)
        self.assertTrue(client.gone)

    def test_half_close(self) -> None:
        """A client that has closed its half gets its answer."""
        client = self.server.connect()
        client.send(message("slow", 1, seconds=3))
        client.half_close()
        self.assertEqual(client.received, b"")
        self.server.clock.advance(3)
        self.assertIn(b"slow_ok", client.received)
        self.assertTrue(client.gone)

    def test_close(self) -> None:
        """The answer to a client that has gone is counted as undelivered."""
        client = self.server.connect()
        client.send(message("slow", 1, seconds=3))
        client.close()
        self.server.clock.advance(3)
        self.assertEqual(client.received, b"")
        self.assertEqual(self.server.drain.counts.undelivered, 1)

    def test_pause(self) -> None:
        """While a protocol does not read, what was sent waits."""
        client = self.server.connect()
        client.pauseProducing()
        client.send(message("slow", 1, seconds=0))
        self.assertEqual(self.server.drain.in_flight, 0)
        client.resumeProducing()
        self.assertEqual(self.server.drain.in_flight, 1)

    def test_listen_too_late(self) -> None:
        """A factory that comes after the start is refused, not forgotten."""
        self.server.connect()
        self.assertRaises(MisuseError, self.server.listen, NodeFactory(self.node))


class Refusing(Factory):
    """Wants no connection."""

    def buildProtocol(self, addr: object) -> None:
        """Refuse."""


class PlainProtocol(Protocol):
    """Keeps what it gets, and closes on ``bye``."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        self.transport.writeSequence([b"got ", data])
        if data == b"bye":
            self.transport.loseConnection()
        if data == b"help":
            self.transport.abortConnection()


class PlainProtocolTests(SynchronousTestCase):
    """Protocols of other people, by hand."""

    def connect(self) -> MemoryClient:
        """Connect a client to a plain protocol."""
        endpoint = MemoryEndpoint()
        endpoint.listen(Factory.forProtocol(PlainProtocol))
        return endpoint.connect()

    def test_closed_by_the_server(self) -> None:
        """What was written before the close has arrived."""
        client = self.connect()
        client.send(b"bye")
        self.assertEqual((client.received, client.gone), (b"got bye", True))
        client.send(b"more")
        self.assertEqual(client.received, b"got bye")

    def test_aborted_by_the_server(self) -> None:
        """An abort ends it too."""
        client = self.connect()
        client.send(b"help")
        self.assertTrue(client.gone)

    def test_half_close_of_the_client(self) -> None:
        """A protocol that knows no half-close loses its connection by one, as on a socket."""
        client = self.connect()
        client.half_close()
        self.assertTrue(client.gone)

    def test_refused_by_the_factory(self) -> None:
        """A factory may refuse a connection."""
        endpoint = MemoryEndpoint()
        endpoint.listen(Refusing())
        self.assertRaises(ConnectionRefusedError, endpoint.connect)

    def test_transport(self) -> None:
        """A client provides what a TCP transport does."""
        client = self.connect()
        verifyObject(ITCPTransport, client)
        verifyObject(IPushProducer, client)
        client.setTcpNoDelay(True)
        client.setTcpKeepAlive(True)
        self.assertEqual((client.getTcpNoDelay(), client.getTcpKeepAlive()), (True, False))
        self.assertNotEqual(client.getHost(), client.getPeer())
        client.stopProducing()
        client.write(b"too late")
        client.close()
        self.assertEqual((client.received, client.gone), (b"", True))

    def test_port(self) -> None:
        """Its port can be closed, more than once, and refuses then."""
        endpoint = MemoryEndpoint()
        port = self.successResultOf(endpoint.listen(Factory.forProtocol(PlainProtocol)))
        port.startListening()
        self.assertEqual(port.getHost(), endpoint.connect().getHost())
        port.stopListening()
        port.stopListening()
        self.assertRaises(ConnectionRefusedError, endpoint.connect)

    def test_lingering_client(self) -> None:
        """A client that lingers leaves its half open when the server closes the other."""
        client = self.connect()
        client.lingers = True
        client.loseWriteConnection()
        self.assertEqual((client.closed, client.gone), (True, False))
