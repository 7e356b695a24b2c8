"""The server in memory behaves as one on sockets, as far as a test can see."""

from __future__ import annotations

import json
import unittest
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.static import Data
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.documents import namespace
from tests.support.lines import message
from twisted_node.errors import MisuseError
from twisted_node.node._factory import NodeFactory
from twisted_node.node._handlers import Request
from twisted_node.node._node import Node
from twisted_node.testing import MemoryClient, MemoryEndpoint, MemoryServer
from twisted_node.testing._turns import Turns
from twisted_node.web import DrainingSite


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


class Blocks:
    """Writes ten blocks of 100,000 bytes, as a producer of either kind."""

    def __init__(self, transport: Any, *, streaming: bool) -> None:
        self.transport, self.streaming = transport, streaming
        self.left = 10
        self.paused = False
        transport.registerProducer(self, streaming)
        if streaming:
            self.resumeProducing()

    def resumeProducing(self) -> None:
        """Write one block, or all until told to pause."""
        self.paused = False
        while self.left and not self.paused:
            self.left -= 1
            self.transport.write(b"x" * 100_000)
            if not self.streaming:
                break
        if not self.left:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def pauseProducing(self) -> None:
        """Pause."""
        self.paused = True

    def stopProducing(self) -> None:
        """Write no more."""
        self.left = 0


class Lines(LineOnlyReceiver):
    """Answers each line, ``bye`` by closing, ``much`` by many bytes."""

    delimiter = b"\n"
    transport: Any

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.losses = 0
        self.blocks: Blocks | None = None

    def lineReceived(self, line: bytes) -> None:
        """Answer."""
        self.seen.append(line)
        if line in (b"pull", b"push"):
            self.blocks = Blocks(self.transport, streaming=line == b"push")
            return
        self.sendLine(b"got " + line)
        if line == b"bye":
            self.transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        """Count."""
        self.losses += 1


@implementer(IHalfCloseableProtocol)
class HalfClosing(Lines):
    """Knows of halves."""

    def __init__(self) -> None:
        super().__init__()
        self.halves: list[str] = []

    def readConnectionLost(self) -> None:
        """Answer once more."""
        self.halves.append("read")
        self.sendLine(b"the end")
        self.transport.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        """Note it."""
        self.halves.append("write")


class TransportTests(SynchronousTestCase):
    """What a protocol finds of a transport: the same as on a socket."""

    def connect(self, protocol: Lines | None = None) -> MemoryClient:
        """Connect a client to a protocol."""
        self.protocol = protocol or Lines()
        self.server = MemoryServer(drain_timeout=10)
        self.server.listen(Factory.forProtocol(lambda: self.protocol))
        return self.server.connect()

    def test_lines_behind_a_close(self) -> None:
        """``disconnecting`` says that the protocol has closed, so lines behind that are not looked at."""
        client = self.connect()
        client.send(b"hello\nbye\nmore\n")
        self.assertEqual(client.lines(), [b"got hello", b"got bye"])
        self.assertEqual((self.protocol.seen, self.protocol.losses), ([b"hello", b"bye"], 1))
        self.assertTrue(client.gone)

    def test_lost_behind_the_call(self) -> None:
        """A protocol is never called while it is calling: its loss comes when it has returned."""
        client, losses = self.connect(), []

        def close() -> None:
            self.protocol.transport.loseConnection()
            losses.append(self.protocol.losses)

        self.server.clock.callLater(1, close)
        self.server.clock.advance(1)
        self.assertEqual((losses, self.protocol.losses, client.gone), ([0], 1, True))

    def test_pull_producer(self) -> None:
        """A pull producer is asked for each block, once the client has read the one before."""
        client = self.connect()
        client.stop_reading(after=150_000)
        client.send(b"pull\n")
        assert self.protocol.blocks is not None
        self.assertEqual((len(client.received), self.protocol.blocks.left), (150_000, 8))
        client.start_reading()
        self.assertEqual((len(client.received), client.gone), (1_000_000, True))

    def test_push_producer(self) -> None:
        """A push producer is paused while its client does not read, and resumed."""
        client = self.connect()
        client.stop_reading()
        client.send(b"push\n")
        assert self.protocol.blocks is not None
        self.assertTrue(self.protocol.blocks.paused)
        self.assertGreater(self.protocol.blocks.left, 0)
        client.start_reading()
        self.assertEqual((len(client.received), client.gone), (1_000_000, True))

    def test_producer_of_a_lost_connection(self) -> None:
        """A producer is told to stop when its client has gone."""
        client = self.connect()
        client.stop_reading()
        client.send(b"push\n")
        client.close()
        assert self.protocol.blocks is not None
        self.assertEqual((self.protocol.blocks.left, self.protocol.losses), (0, 1))

    def test_client_does_not_read(self) -> None:
        """A close waits until the client has read what was written; an abort does not."""
        for aborted in (False, True):
            client = self.connect()
            client.stop_reading()
            client.send(b"bye\n")
            self.assertEqual((client.gone, client.received), (False, b""))
            if aborted:
                self.protocol.transport.abortConnection()
            client.start_reading()
            self.assertEqual((client.gone, client.aborted), (True, aborted))
            self.assertEqual(client.received, b"" if aborted else b"got bye\n")

    def test_cut_at_the_deadline(self) -> None:
        """What a client has not read at the deadline counts as cut."""
        client = self.connect()
        client.stop_reading()
        client.send(b"hello\n")
        stopped = self.server.stop()
        self.server.clock.pump([10, 1])
        self.assertEqual(self.successResultOf(stopped).cut, 2)
        self.assertTrue(client.aborted)

    def test_halves(self) -> None:
        """A protocol that knows of halves is told when either is closed, each once."""
        client = self.connect(protocol := HalfClosing())
        client.send(b"hello\n")
        client.half_close()
        self.assertEqual(client.lines(), [b"got hello", b"the end"])
        self.assertEqual((protocol.halves[:2], client.closed), (["read", "write"], True))
        self.assertEqual(protocol.halves.count("write"), 1)

    def test_half_close_waits_for_what_was_sent(self) -> None:
        """The end of a client's input comes behind all that it has sent."""
        client = self.connect()
        client.pauseProducing()
        client.send(b"hello\n")
        client.half_close()
        self.assertEqual(self.protocol.losses, 0)
        client.resumeProducing()
        self.assertEqual((self.protocol.seen, self.protocol.losses), ([b"hello"], 1))


class MemorySiteTests(SynchronousTestCase):
    """A ``DrainingSite`` in memory."""

    def test_drain(self) -> None:
        """An answer that the client reads only later arrives whole, and a stop closes the connection behind it."""
        server = MemoryServer(drain_timeout=10)
        root = Resource()
        root.putChild(b"big", Data(b"x" * 1_000_000, "text/plain"))
        server.listen(DrainingSite(root, drain=server.drain))
        client = server.connect()
        client.stop_reading(after=20)
        client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        stopped = server.stop()
        self.assertNoResult(stopped)
        self.assertEqual(client.received[:17], b"HTTP/1.1 200 OK\r\n")
        client.start_reading()
        self.assertTrue(client.received.endswith(b"\r\n\r\n" + b"x" * 1_000_000))
        self.assertEqual(self.successResultOf(stopped).finished, 1)
        self.assertTrue(client.gone)


class DocumentTests(SynchronousTestCase):
    """The test that ``docs/any-factory.md`` shows, of the protocol that it shows."""

    def test_example(self) -> None:
        """It passes as it stands."""
        protocol = namespace("any-factory.md", "class SlowEcho(")["SlowEcho"]
        case = namespace("any-factory.md", "class SlowEchoTests(", SlowEcho=protocol)["SlowEchoTests"]
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
        self.assertEqual((result.errors, result.failures, result.testsRun), ([], [], 2))


class TurnsTests(SynchronousTestCase):
    """The turns of a reactor that is not there."""

    def test_closed_by_another(self) -> None:
        """A connection that another one closes in the same turn is not read any more."""
        turns = Turns()

        class Quarrelsome:
            other: Quarrelsome
            reads = 0

            def can_write(self) -> bool:
                return False

            def can_read(self) -> bool:
                return not self.reads

            def doWrite(self) -> None:
                """It never writes."""

            def doRead(self) -> None:
                self.reads += 1
                turns.removeReader(self.other)

            def connectionLost(self, reason: Failure) -> None:
                """It never is."""

        first, second = Quarrelsome(), Quarrelsome()
        first.other, second.other = second, first
        with turns:
            turns.addReader(first)
            turns.addReader(second)
        self.assertEqual((first.reads, second.reads), (1, 0))
