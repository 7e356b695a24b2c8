"""The connections of any factory, drained: by connection, by request, and by the work in the drain."""

from __future__ import annotations

import ssl
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    ILoggingContext,
    IProtocolNegotiationFactory,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.protocols import amp
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import directlyProvides, implementer
from zope.interface.verify import verifyObject

from tests.support.certificates import Certificates
from tests.support.documents import namespace
from tests.support.sockets import connect
from tests.support.transports import MemoryTransport
from twisted_node import Drain, DrainingService, IDrainable, Node, Phase
from twisted_node.names import peer_name
from twisted_node.node._factory import NodeFactory
from twisted_node.server._any_factory import TrackedFactory, tracked
from twisted_node.server._tracking import TrackedConnection
from twisted_node.testing import MemoryServer


class Plain(Protocol):
    """Nothing is known of it."""

    def __init__(self) -> None:
        self.received = b""
        self.losses = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.losses += 1


class PlainFactory(Factory):
    """Makes them, and notes when it is stopped."""

    noisy = False
    running = False
    wanted = True

    def __init__(self, protocol: Any = Plain) -> None:
        self.make = protocol

    def buildProtocol(self, addr: Any) -> Any:
        return self.make() if self.wanted else None

    def startFactory(self) -> None:
        self.running = True

    def stopFactory(self) -> None:
        self.running = False


class TrackingTests(SynchronousTestCase):
    """A service with a drain of 10 s and a linger of 1 s."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(self.drain, drain_timeout=10)

    def listen(self, factory: Any) -> Any:
        """Have the service listen; return the factory that makes what it listens with."""
        return self.service.listen(TCP4ServerEndpoint(MemoryReactorClock(), 0), factory).factory

    def connect(self, factory: Any) -> MemoryTransport:
        transport = MemoryTransport(self.clock)
        transport.connect(factory.buildProtocol(transport.getPeer()))
        return transport

    def check_ended(self, ended: Deferred[Any], **counts: int) -> None:
        """The service has ended, with these counts and no timer left."""
        statistics = self.successResultOf(ended)
        for name, count in counts.items():
            self.assertEqual(getattr(statistics, name), count, name)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ByConnectionTests(TrackingTests):
    """A protocol of which nothing is known."""

    def test_ends_by_itself(self) -> None:
        """It is waited for, by name, until it ends; it goes on receiving until then."""
        transport = self.connect(self.listen(PlainFactory()))
        ended = self.service.stopService()
        self.assertEqual([str(name) for name, _ in self.drain.statistics().oldest], ["connection from 192.0.2.7:4711"])
        self.clock.advance(5)
        transport.receive(b"more")
        self.assertEqual(self.service.connections.unsent(), [])
        self.assertFalse(transport.half_closed)
        transport.protocol.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual(transport.protocol.received, b"more")
        self.assertEqual(transport.protocol.losses, 1)
        self.check_ended(ended, finished=1, cut=0)

    def test_deadline(self) -> None:
        """At the deadline it is cut, and reset: its client could not tell an end from the rest of an answer."""
        transport = self.connect(self.listen(PlainFactory()))
        ended = self.service.stopService()
        self.clock.advance(10)
        self.assertEqual((transport.aborted, transport.half_closed), (True, False))
        transport.receive(b"too late")
        self.assertEqual(transport.protocol.received, b"")
        self.clock.advance(0)
        self.assertEqual(transport.protocol.losses, 1)
        self.check_ended(ended, cut=1)
        self.assertIs(self.drain.phase, Phase.TIMED_OUT)

    def test_closing_already(self) -> None:
        """One that closes by itself when the deadline comes is not closed again."""
        transport = self.connect(self.listen(PlainFactory()))
        self.service.stopService()
        self.clock.advance(9.9)
        transport.disconnecting = True
        self.clock.advance(0.1)
        self.assertFalse(transport.half_closed)
        transport.leave()

    def test_accepted_from_the_queue(self) -> None:
        """A connection made after the drain began is waited for like any other."""
        factory = self.listen(PlainFactory())
        waiting = self.connect(factory)
        ended = self.service.stopService()
        late = self.connect(factory)
        waiting.leave()
        self.assertNoResult(ended)
        late.leave()
        self.check_ended(ended, finished=2)

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

    def test_unwanted(self) -> None:
        """A factory may refuse a connection, as always."""
        factory = PlainFactory()
        factory.wanted = False
        self.assertIsNone(self.listen(factory).buildProtocol(None))

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

    def test_names(self) -> None:
        """Addresses are named as a person would: IPv6 and unix ones too."""
        from twisted.internet.address import IPv6Address, UNIXAddress

        self.assertEqual(peer_name(IPv6Address("TCP", "::1", 80)), "[::1]:80")
        self.assertEqual(peer_name(UNIXAddress(b"/x")), "/x")
        self.assertEqual(peer_name(UNIXAddress(b"\0x")), "@x")
        self.assertEqual(peer_name(UNIXAddress(None)), "a unix socket")
        self.assertEqual(peer_name("standard input"), "standard input")

    def test_wrapped(self) -> None:
        """A factory that registers its connections itself does so within others too."""
        node = Node("n1")
        node.bind(self.drain)
        inner = NodeFactory(node)
        outer = WrappingFactory(WrappingFactory(inner))
        self.assertIs(tracked(outer, self.service.connections, self.drain), outer)
        self.assertIs(inner.connections, self.service.connections)
        plain = WrappingFactory(PlainFactory())
        self.assertIsInstance(tracked(plain, self.service.connections, self.drain), TrackedFactory)


class ByRequestTests(TrackingTests):
    """The LineReceiver of the document, which says when it is idle."""

    def setUp(self) -> None:
        super().setUp()
        self.protocol = namespace("any-factory.md", "class SlowEcho(")["SlowEcho"]
        self.factory = self.listen(PlainFactory(lambda: self.protocol(self.clock)))

    def test_interface(self) -> None:
        """It provides what it says."""
        self.assertTrue(verifyObject(IDrainable, self.connect(self.factory).protocol))

    def test_drain(self) -> None:
        """Lines in flight are answered, new ones refused; each connection closes when it is idle."""
        busy, idle = self.connect(self.factory), self.connect(self.factory)
        self.clock.advance(1)
        busy.receive(b"one\ntwo\n")
        ended = self.service.stopService()
        busy.receive(b"three\n")
        self.assertEqual(busy.take(), b"shutting down\n")
        self.assertFalse(busy.half_closed or idle.half_closed)
        self.clock.advance(1)
        self.assertEqual(busy.take(), b"one\ntwo\n")
        self.assertTrue(busy.half_closed)
        self.assertTrue(idle.half_closed)
        busy.leave()
        idle.leave()
        self.check_ended(ended, cut=0)

    def test_nothing_in_flight(self) -> None:
        """Idle connections are closed at once."""
        idle = self.connect(self.factory)
        self.clock.advance(1)
        ended = self.service.stopService()
        self.assertTrue(idle.half_closed)
        idle.leave()
        self.check_ended(ended)

    def test_client_gone(self) -> None:
        """A client that leaves ends its part."""
        busy = self.connect(self.factory)
        busy.receive(b"one\n")
        ended = self.service.stopService()
        busy.leave()
        self.assertEqual(self.successResultOf(ended).finished, 1)

    def test_deadline(self) -> None:
        """What is not idle by the deadline is cut."""
        busy = self.connect(self.factory)
        self.service.drain_timeout = 0.5
        busy.receive(b"one\n")
        ended = self.service.stopService()
        self.clock.pump([0.5, 0])
        self.assertTrue(busy.aborted)
        self.assertEqual(self.successResultOf(ended).cut, 1)

    def test_accepted_from_the_queue(self) -> None:
        """A connection accepted as the drain begins is waited for until it has asked, and been refused."""
        silent = self.connect(self.factory)
        ended = self.service.stopService()
        self.assertFalse(silent.half_closed)
        silent.receive(b"one\n")
        self.assertEqual(silent.take(), b"shutting down\n")
        self.assertTrue(silent.half_closed)
        silent.leave()
        self.check_ended(ended)


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


class FailingTests(TrackingTests):
    """A protocol with an error in what it says of itself."""

    def test_failing(self) -> None:
        """The error is logged; the protocol is not waited for, and the drain of all others goes on."""

        @implementer(IDrainable)
        class Failing(Plain):
            became_idle: Any

            def is_idle(self) -> bool:
                raise RuntimeError("neither yes nor no")

            def drain_began(self) -> None:
                raise RuntimeError("not now")

        failing = self.connect(self.listen(PlainFactory(Failing)))
        plain = self.connect(self.listen(PlainFactory()))
        self.clock.advance(1)
        ended = self.service.stopService()
        self.assertEqual(self.drain.in_flight, 1)
        plain.leave()
        self.assertTrue(failing.half_closed)
        failing.leave()
        self.check_ended(ended, finished=1)
        self.assertGreater(len(self.flushLoggedErrors(RuntimeError)), 1)


class ShuttingDown(Exception):
    """The server takes no more calls."""


class TooLate(Exception):
    """The server gave the call up."""


class Add(amp.Command):
    """A sum, later."""

    arguments = [(b"a", amp.Integer()), (b"b", amp.Integer())]  # noqa: RUF012 # as amp wants it
    response = [(b"total", amp.Integer())]  # noqa: RUF012 # the same
    errors = {ShuttingDown: b"DRAINING", TooLate: b"DRAIN_TIMEOUT"}  # noqa: RUF012 # the same


class AMPTests(TrackingTests):
    """The AMP of the document, whose calls are in the drain."""

    def setUp(self) -> None:
        super().setUp()
        base: Any = namespace("any-factory.md", "DrainingAMP")["DrainingAMP"]
        self.sums: list[tuple[Deferred[Any], int]] = []
        tests = self

        class Adding(base):  # type: ignore[misc] # Any: the document makes it
            @Add.responder
            def add(self, a: int, b: int) -> Deferred[Any]:
                tests.sums.append((Deferred(), a + b))
                return tests.sums[-1][0]

        self.factory = self.listen(PlainFactory(lambda: Adding(self.drain)))

    def connect_client(self) -> tuple[amp.AMP, MemoryTransport]:
        """A client and the transport of its server."""
        client = amp.AMP()
        client.makeConnection(MemoryTransport(self.clock))
        return client, self.connect(self.factory)

    def call(self, client: amp.AMP) -> list[Any]:
        """Call; the outcome will be in the list. AMP logs an error that nobody waits for when it comes."""
        outcome: list[Any] = []
        client.callRemote(Add, a=2, b=3).addBoth(outcome.append)
        return outcome

    def pass_on(self, client: amp.AMP, server: MemoryTransport) -> None:
        """Carry what both have written."""
        server.receive(client.transport.take())  # type: ignore[union-attr] # a MemoryTransport
        client.dataReceived(server.take())

    def test_drain(self) -> None:
        """A call in flight finishes; a new one fails with DRAINING; then the connection closes."""
        client, server = self.connect_client()
        outcome = self.call(client)
        self.pass_on(client, server)
        self.assertEqual([str(name) for name, _ in self.drain.statistics().oldest], ["Add from 192.0.2.7"])
        ended = self.service.stopService()
        refused = self.call(client)
        self.pass_on(client, server)
        self.assertEqual([failure.type for failure in refused], [ShuttingDown])
        self.assertFalse(server.half_closed)
        answer, total = self.sums[0]
        answer.callback({"total": total})
        self.pass_on(client, server)
        self.assertEqual(outcome, [{"total": 5}])
        self.assertTrue(server.half_closed)
        server.leave()
        self.check_ended(ended, finished=1, refused=1, cut=0)

    def test_deadline(self) -> None:
        """A call that the deadline cuts fails with DRAIN_TIMEOUT, and its Deferred is cancelled."""
        client, server = self.connect_client()
        outcome = self.call(client)
        self.pass_on(client, server)
        ended = self.service.stopService()
        self.clock.advance(10)
        self.pass_on(client, server)
        self.assertEqual([failure.type for failure in outcome], [TooLate])
        self.assertTrue(self.sums[0][0].called)
        server.leave()
        self.check_ended(ended, cut=1)

    def test_error(self) -> None:
        """A call that fails by itself fails as it always did."""
        client, server = self.connect_client()
        outcome = self.call(client)
        self.pass_on(client, server)
        self.sums[0][0].errback(RuntimeError("no sum"))
        self.pass_on(client, server)
        self.assertEqual([failure.type for failure in outcome], [amp.UnknownRemoteError])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


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
