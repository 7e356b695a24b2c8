"""The connections of any factory, drained: by connection, by request, and by the work in the drain."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.protocols import amp
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.any_factory import AnyFactoryTestCase, Plain, PlainFactory
from tests.support.documents import namespace
from tests.support.transports import MemoryTransport
from twisted_node import IDrainable, Node, Phase
from twisted_node.node._factory import NodeFactory
from twisted_node.server._any_factory import TrackedFactory, tracked


class ByConnectionTests(AnyFactoryTestCase):
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

    def test_unwanted(self) -> None:
        """A factory may refuse a connection, as always."""
        factory = PlainFactory()
        factory.wanted = False
        self.assertIsNone(self.listen(factory).buildProtocol(None))

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


class ByRequestTests(AnyFactoryTestCase):
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


class FailingTests(AnyFactoryTestCase):
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


class AMPTests(AnyFactoryTestCase):
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
