"""A protocol that knows nothing of the drain, and its transport: what passes between them, and how it closes."""

from __future__ import annotations

import ssl
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    ILoggingContext,
    IProtocolNegotiationFactory,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import directlyProvides, implementer
from zope.interface.verify import verifyObject

from tests.support.any_factory import AnyFactoryTestCase, Plain, PlainFactory
from tests.support.certificates import Certificates
from tests.support.sockets import connect
from tests.support.transports import MemoryTransport
from twisted_node import Drain, DrainingService, IDrainable
from twisted_node.server._tracking import TrackedConnection
from twisted_node.testing import MemoryServer


class PassedOnTests(AnyFactoryTestCase):
    """What the wrapper passes on, and what shows through it."""

    def test_factory_stops_last(self) -> None:
        """The factory is stopped when its last connection is gone, not with its port."""
        factory = PlainFactory()
        tracking = self.listen(factory)
        tracking.doStart()
        transport = self.connect(tracking)
        tracking.doStop()
        self.assertTrue(factory.running)
        transport.leave()
        self.assertFalse(factory.running)

    def test_half_close(self) -> None:
        """A protocol that wants to know of a half-close is told of the client's, and not of ours at the end."""

        @implementer(IHalfCloseableProtocol)
        class HalfCloseable(Plain):
            halves = ""

            def readConnectionLost(self) -> None:
                self.halves += "read "

            def writeConnectionLost(self) -> None:
                self.halves += "write "

        factory = self.listen(PlainFactory(HalfCloseable))
        clients = [self.connect(factory) for _ in range(3)]
        for client in clients:
            self.assertTrue(IHalfCloseableProtocol.providedBy(client.protocol))
        first, second, third = clients
        first.protocol.readConnectionLost()
        second.protocol.writeConnectionLost()
        self.service.stopService()
        for client in clients:
            client.protocol.connection.finish()
        # Its client has closed, so there is nothing to linger for.
        self.assertTrue(first.disconnecting)
        self.assertFalse(third.disconnecting)
        third.protocol.writeConnectionLost()
        third.protocol.readConnectionLost()
        self.assertTrue(third.disconnecting)
        self.assertEqual([client.protocol.halves for client in clients], ["read ", "write ", ""])
        self.clock.pump([0, 2, 0])

    def test_interfaces(self) -> None:
        """What the protocol and its factory provide shows through; what they do not, does not."""

        @implementer(IHandshakeListener)
        class Listening(Plain):
            secure = False

            def handshakeCompleted(self) -> None:
                self.secure = True

        negotiating = PlainFactory(Listening)
        negotiating.acceptableProtocols = lambda: [b"x"]  # type: ignore[attr-defined] # what ALPN asks for
        directlyProvides(negotiating, IProtocolNegotiationFactory)
        factory = self.listen(negotiating)
        self.assertTrue(verifyObject(IProtocolNegotiationFactory, factory))
        self.assertEqual(factory.acceptableProtocols(), [b"x"])
        protocol = self.connect(factory).protocol
        self.assertTrue(ILoggingContext.providedBy(protocol))
        self.assertEqual(protocol.logPrefix(), "Listening")
        self.assertFalse(IHalfCloseableProtocol.providedBy(protocol))
        self.assertTrue(verifyObject(IHandshakeListener, protocol))
        protocol.handshakeCompleted()
        self.assertTrue(protocol.secure)
        # The server wants to know, whether the protocol does or not.
        plain = self.connect(self.listen(PlainFactory())).protocol
        self.assertTrue(verifyObject(IHandshakeListener, plain))
        plain.handshakeCompleted()
        self.assertFalse(IProtocolNegotiationFactory.providedBy(self.listen(PlainFactory())))

    def test_transport(self) -> None:
        """The protocol has the transport itself."""
        transport = MemoryTransport(self.clock)
        directlyProvides(transport, ISSLTransport)
        factory = self.listen(PlainFactory())
        transport.connect(factory.buildProtocol(None))
        self.assertIs(transport.protocol.protocol.transport, transport)
        self.assertNotIsInstance(transport.protocol.protocol, TrackedConnection)


class Closing(LineReceiver):
    """Answers each line, closes behind ``bye``, and sends a file behind ``file``."""

    delimiter = b"\n"
    transport: Any

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self.heard.append(line)
        self.sendLine(line)
        if line == b"file":
            FileSender().beginFileTransfer(BytesIO(b"f" * 200_000), self.transport)
        if line in (b"bye", b"file"):
            self.transport.loseConnection()


class ClosesByItselfTests(SynchronousTestCase):
    """A protocol that closes its connection by itself, with a drain of 60 s and a linger of 1 s."""

    def setUp(self) -> None:
        self.server = MemoryServer(drain_timeout=60)
        self.protocols: list[Closing] = []
        self.server.listen(Factory.forProtocol(self.make))
        self.client = self.server.connect()
        self.client.lingers = True

    def make(self) -> Closing:
        self.protocols.append(Closing())
        return self.protocols[-1]

    def assert_lingers(self) -> None:
        """The connection is half-closed, and closed a second later."""
        self.assertTrue(self.client.closed)
        self.server.clock.advance(0.9)
        self.assertFalse(self.client.gone)
        self.server.clock.advance(0.2)
        self.assertEqual((self.client.gone, self.client.aborted), (True, False))

    def test_serving(self) -> None:
        """What it has written is sent; then the connection lingers, and what comes in is dropped."""
        self.client.send(b"one\nbye\n")
        self.client.send(b"two\n")
        self.assertEqual(self.client.lines(), [b"one", b"bye"])
        self.assert_lingers()
        self.assertEqual(self.protocols[0].heard, [b"one", b"bye"])

    def test_rest_of_the_input(self) -> None:
        """What came together with the last line is not served, as with any transport."""
        self.client.send(b"bye\ntwo\n")
        self.assertEqual(self.protocols[0].heard, [b"bye"])

    def test_again(self) -> None:
        """To close it again changes nothing."""
        self.client.stop_reading()
        self.client.send(b"bye\n")
        for _ in range(2):
            self.client.loseConnection()
        self.client.start_reading()
        self.client.loseConnection()
        self.assertEqual(self.client.lines(), [b"bye"])
        self.assert_lingers()

    def test_client_that_closes(self) -> None:
        """A client that closes too is waited for no longer."""
        self.client.send(b"bye\n")
        self.client.half_close()
        self.assertTrue(self.client.gone)
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_client_that_has_closed(self) -> None:
        """If its client has sent everything, it is closed as soon as all is sent, whoever came first."""

        @implementer(IHalfCloseableProtocol)
        class HalfCloseable(Closing):
            def readConnectionLost(self) -> None: ...

            def writeConnectionLost(self) -> None: ...

        for stops in (True, False):
            server = MemoryServer()
            server.listen(Factory.forProtocol(HalfCloseable))
            client = server.connect()
            client.stop_reading()
            client.half_close()
            client.protocol.protocol.lineReceived(b"bye")
            server.clock.advance(1)
            ended = server.stop() if stops else None
            self.assertFalse(client.gone)
            client.start_reading()
            self.assertEqual((client.lines(), client.gone, client.aborted), ([b"bye"], True, False))
            if ended is not None:
                self.assertEqual(self.successResultOf(ended).cut, 0)

    def test_file(self) -> None:
        """A producer that is still sending may finish first."""
        self.client.send(b"file\n")
        self.assertEqual(self.client.received, b"file\n" + b"f" * 200_000)
        self.assert_lingers()

    def test_file_in_the_drain(self) -> None:
        """Also if the drain comes to the connection in between."""
        self.client.stop_reading(after=1000)
        self.client.send(b"file\n")
        ended = self.server.stop()
        self.server.clock.advance(10)
        self.client.start_reading()
        self.assertEqual(self.client.received, b"file\n" + b"f" * 200_000)
        self.assert_lingers()
        self.assertEqual(self.successResultOf(ended).cut, 0)

    def test_half_closed(self) -> None:
        """A connection of which it has closed our half before lingers, too."""
        self.client.loseWriteConnection()
        self.server.clock.advance(0)
        self.assertTrue(self.client.closed)
        self.client.loseConnection()
        self.assert_lingers()

    def test_drain(self) -> None:
        """It is not waited for any more; but its client is, as long as that has not read everything."""
        self.client.lingers = False
        ended = self.server.stop()
        self.assertEqual(self.server.drain.in_flight, 1)
        self.client.stop_reading()
        self.client.send(b"bye\n")
        self.assertTrue(self.server.drain.ended)
        self.server.clock.advance(50)
        self.assertNoResult(ended)
        self.client.start_reading()
        self.assertEqual(self.client.lines(), [b"bye"])
        self.assertEqual(self.successResultOf(ended).cut, 0)

    def test_drain_by_a_timer(self) -> None:
        """The same if it closes at some time of its own."""
        ended = self.server.stop()
        self.client.loseConnection()
        self.server.clock.advance(0)
        self.assertTrue(self.server.drain.ended)
        self.assert_lingers()
        self.assertEqual(self.successResultOf(ended).cut, 0)

    def test_drain_begins_later(self) -> None:
        """A client that has not read everything when the drain begins has until the deadline."""
        for reads in (True, False):
            self.setUp()
            self.client.lingers = False
            self.client.stop_reading()
            self.client.send(b"bye\n")
            ended = self.server.stop()
            self.server.clock.advance(59)
            if reads:
                self.client.start_reading()
            else:
                self.server.clock.pump([1, 1, 1])
            self.assertEqual(self.successResultOf(ended).cut, 0 if reads else 1)

    def test_cut(self) -> None:
        """One that has closed at a time of its own before the deadline is not reset: nothing is missing."""
        ended = self.server.stop()
        self.client.stop_reading()
        self.client.send(b"one\n")
        self.client.loseConnection()
        self.server.clock.advance(60)
        self.client.start_reading()
        self.assertEqual(self.client.lines(), [b"one"])
        self.assertEqual((self.client.closed, self.client.aborted), (True, False))
        self.server.clock.pump([1, 1])
        self.assertEqual(self.successResultOf(ended).cut, 1)


class BrokenOffTests(SynchronousTestCase):
    """A protocol that the deadline cuts in the middle, with a drain of 10 s and a linger of 1 s."""

    def test_flushed_first(self) -> None:
        """What it has written is sent; then the connection is reset. If nobody reads, the reset comes with the end."""
        for reads in (True, False):
            server = MemoryServer(drain_timeout=10)
            server.listen(Factory.forProtocol(Closing))
            client = server.connect()
            client.stop_reading(after=2)
            client.send(b"one\n")
            ended = server.stop()
            server.clock.advance(10)
            self.assertFalse(client.aborted)
            if reads:
                client.start_reading()
                self.assertEqual(client.lines(), [b"one"])
            else:
                server.clock.pump([1, 0])
            self.assertTrue(client.aborted)
            self.assertGreater(self.successResultOf(ended).cut, 0)


class StartTLSTests(TestCase):
    """A protocol that turns to TLS, on a real socket."""

    async def test_start_tls(self) -> None:
        """A connection that has become TLS is closed after its linger, though its client never says good-bye."""
        certificates = Certificates(Path(self.mktemp()))
        options = PrivateCertificate.loadPEM(certificates.server.read_bytes()).options()

        @implementer(IDrainable)
        class StartTLS(Protocol):
            became_idle: Any
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                if data == b"start":
                    self.transport.write(b"go")
                    self.transport.startTLS(options)

            def is_idle(self) -> bool:
                return True

            def drain_began(self) -> None: ...

        drain = Drain(reactor)
        service = DrainingService(drain, linger=0.2)
        listener = service.listen(serverFromString(reactor, "tcp:0:interface=127.0.0.1"), Factory.forProtocol(StartTLS))
        service.startService()
        self.addCleanup(service.stopService)
        host: Any = listener.host
        context = ssl.create_default_context(cafile=certificates.authority)
        context.check_hostname = False

        def shake() -> ssl.SSLSocket:
            raw = connect(host.port)
            raw.sendall(b"start")
            raw.recv(2)
            secure = context.wrap_socket(raw)
            secure.sendall(b"hello")
            return secure

        client = await deferToThread(shake)
        self.addCleanup(client.close)
        statistics = await service.stopService().addTimeout(5, reactor)
        self.assertEqual(statistics.cut, 0)
