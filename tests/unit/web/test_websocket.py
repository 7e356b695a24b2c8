"""Websockets in a draining site: told 1001, and counted until they are gone."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.events import Request as UpgradeRequest

from tests.support.documents import namespace
from tests.support.transports import MemoryTransport
from tests.support.web import WebTests, get, statuses
from twisted_node import Drain
from twisted_node.server._any_factory import TrackedFactory
from twisted_node.testing import MemoryClient, MemoryServer
from twisted_node.web import DrainingSite
from twisted_node.web._websocket import Farewell

WebSocketResource: Any
try:
    from twisted.web.websocket import WebSocketResource
except ImportError:
    WebSocketResource = None


class Echo:
    """A websocket that echoes."""

    def negotiationStarted(self, transport: Any) -> None:
        self.transport = transport
        self.lost = 0
        self.texts: list[str] = []

    def negotiationFinished(self) -> None: ...

    def pongReceived(self, payload: bytes) -> None: ...

    def textMessageReceived(self, message: str) -> None:
        self.texts.append(message)
        self.transport.sendTextMessage(message)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        self.lost += 1


class FarewellTests(SynchronousTestCase):
    """When websockets are due in a lame duck."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.farewell = Farewell(self.drain)

    def test_moments(self) -> None:
        """Each has its time; those of nearly the same leave together, and share one timer."""
        early, soon, late = (self.farewell.when_due_after(delay) for delay in (0.51, 0.52, 0.97))
        self.assertEqual(len(self.clock.getDelayedCalls()), 2)
        self.clock.advance(0.5)
        self.assertNoResult(early)
        self.clock.advance(0.05)
        self.successResultOf(early)
        self.successResultOf(soon)
        self.assertNoResult(late)
        self.clock.advance(0.45)
        self.successResultOf(late)

    def test_drain(self) -> None:
        """Once the drain has begun none is due in this way, and no timer runs."""
        due = [self.farewell.when_due_after(delay) for delay in (0.0, 1.0)]
        self.drain.begin(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for each in due:
            self.assertNoResult(each)


class WebSocketTests(WebTests):
    """Websockets of twisted.web."""

    def setUp(self) -> None:
        super().setUp()
        if WebSocketResource is None:
            raise SkipTest("this Twisted has no websockets")
        self.echo: Any = Echo()
        root = Resource()
        root.putChild(b"ws", WebSocketResource(self))
        self.site = self.make_site(root)
        self.client = WSConnection(ConnectionType.CLIENT)

    def buildProtocol(self, request: Any) -> Any:
        return self.echo

    def upgrade(self) -> MemoryTransport:
        self.transport = self.ask(self.client.send(UpgradeRequest("x", "/ws")))
        self.assertEqual([type(event) for event in self.events()], [AcceptConnection])
        return self.transport

    def events(self) -> list[Any]:
        self.client.receive_data(self.transport.take())
        return list(self.client.events())

    def say(self, event: Any) -> None:
        self.transport.receive(self.client.send(event))

    def test_going_away(self) -> None:
        """When the drain begins it is told 1001; it counts until it is gone."""
        transport = self.upgrade()
        self.assertEqual([str(n) for n, _ in self.drain.statistics().oldest], ["websocket GET /ws from 192.0.2.7:4711"])
        self.say(TextMessage("hi"))
        self.assertEqual([event.data for event in self.events()], ["hi"])
        ended = self.stop()
        (close,) = self.events()
        self.assertIsInstance(close, CloseConnection)
        self.assertEqual(close.code, 1001)
        self.assertTrue(transport.half_closed)
        self.assertEqual(self.drain.in_flight, 1)
        # On its way since before the good-bye.
        self.transport.receive(late_message("late"))
        self.assertEqual(self.echo.texts, ["hi", "late"])
        self.assertEqual(transport.take(), b"")
        self.say(close.response())
        self.clock.advance(0)
        self.assertEqual(self.echo.lost, 1)
        self.check_ended(ended, finished=1, cut=0)

    def test_lame_duck(self) -> None:
        """In a lame duck it is told at a moment that is drawn for it; one that comes later has what is left."""
        transport = self.upgrade()
        ended = self.stop(lame_duck=10, draws=0.5)
        self.clock.advance(4.9)
        self.assertEqual(self.events(), [])
        self.clock.advance(0.2)
        (close,) = self.events()
        self.assertEqual(close.code, 1001)
        self.assertTrue(transport.half_closed)
        self.say(close.response())
        self.clock.advance(0)
        self.upgrade_again()
        self.clock.advance(2.4)
        self.assertEqual(self.events(), [])
        self.clock.advance(0.1)
        (close,) = self.events()
        self.say(close.response())
        self.clock.pump([2.4, 0])
        self.check_ended(ended, finished=2, cut=0)

    def test_lame_duck_with_work(self) -> None:
        """If the program has work in flight then, it is told when that is over; work that comes later counts too."""
        work: list[Deferred[None]] = [Deferred() for _ in range(3)]
        self.drain.track("work", work[0])
        self.upgrade()
        ended = self.stop(lame_duck=10, draws=0.5)
        self.clock.advance(6)
        self.drain.track("work", work[1])
        work[0].callback(None)
        self.assertEqual(self.events(), [])
        work[1].callback(None)
        self.drain.track("work", work[2])
        (close,) = self.events()
        self.say(close.response())
        work[2].callback(None)
        self.clock.pump([4, 0])
        self.check_ended(ended, finished=4, cut=0)

    def test_lame_duck_that_ends_early(self) -> None:
        """Its moment is the beginning of the drain if that comes first."""
        self.upgrade()
        ended = self.stop(lame_duck=10, draws=0.9)
        self.clock.advance(1)
        self.service.end("a second signal")
        (close,) = self.events()
        self.say(close.response())
        self.clock.advance(0)
        self.check_ended(ended, finished=1, cut=0)

    def test_gone_in_a_lame_duck(self) -> None:
        """One that has gone before its moment is told nothing."""
        transport = self.upgrade()
        ended = self.stop(lame_duck=10, draws=0.5)
        transport.leave()
        self.clock.pump([6, 4])
        self.assertEqual(transport.take(), b"")
        self.check_ended(ended, finished=1)

    def upgrade_again(self) -> MemoryTransport:
        """Another client."""
        self.client = WSConnection(ConnectionType.CLIENT)
        return self.upgrade()

    def test_client_stays(self) -> None:
        """A client that does not say good-bye is waited for as long as any."""
        self.upgrade()
        ended = self.stop()
        self.clock.advance(0.9)
        self.assertNoResult(ended)
        self.clock.pump([0.2, 0])
        self.check_ended(ended, finished=1, cut=0)

    def test_closing_already(self) -> None:
        """One that said good-bye before is not told again."""
        self.upgrade()
        self.say(BytesMessage(b"please close"))
        ended = self.stop()
        self.assertEqual([event.code for event in self.events()], [1000])
        self.clock.advance(0)
        self.check_ended(ended, finished=1)

    def upgrade_socket(self) -> MemoryClient:
        """The same over what is a socket to Twisted; the client leaves the end of the connection to the server."""
        self.server = MemoryServer()
        root = Resource()
        root.putChild(b"ws", WebSocketResource(self))
        self.server.listen(DrainingSite(root, drain=self.server.drain))
        client = self.server.connect()
        client.lingers = True
        client.send(self.client.send(UpgradeRequest("x", "/ws")))
        self.client.receive_data(client.received)
        self.assertEqual([type(event) for event in self.client.events()], [AcceptConnection])
        return client

    def test_closed_by_the_program(self) -> None:
        """One that its program has closed lingers; what its client sends then does not reach the program any more."""
        client = self.upgrade_socket()
        client.send(self.client.send(BytesMessage(b"please close")))
        client.send(late_message("late"))
        self.assertEqual((client.closed, client.gone, self.echo.texts), (True, False, []))
        self.server.clock.advance(1.1)
        self.assertEqual((client.gone, client.aborted, self.echo.lost), (True, False, 1))

    def test_client_answers(self) -> None:
        """One that was told 1001 is closed when its client has answered that."""
        client = self.upgrade_socket()
        before = len(client.received)
        ended = self.server.stop()
        self.client.receive_data(client.received[before:])
        (close,) = self.client.events()
        assert isinstance(close, CloseConnection)
        self.assertFalse(client.gone)
        client.send(self.client.send(close.response()))
        self.assertTrue(client.gone)
        self.assertEqual(self.successResultOf(ended).cut, 0)

    def test_upgraded_while_draining(self) -> None:
        """A half-sent upgrade that is admitted becomes a websocket, and is told at once."""
        request = self.client.send(UpgradeRequest("x", "/ws"))
        self.transport = self.ask(request[:20])
        ended = self.stop()
        self.transport.receive(request[20:])
        accepted, close = self.events()
        self.assertIsInstance(accepted, AcceptConnection)
        self.assertEqual(close.code, 1001)
        self.transport.leave()
        self.check_ended(ended, finished=1)

    def test_refused_while_draining(self) -> None:
        """A new upgrade is refused."""
        self.upgrade()
        idle = self.connect()
        self.stop()
        idle.receive(WSConnection(ConnectionType.CLIENT).send(UpgradeRequest("x", "/ws")))
        self.assertEqual(statuses(idle.take()), [503])

    def track(self, seconds: float, text: str, *, while_draining: bool = False) -> None:
        """Have the program work for a while, and then send the answer."""
        work = deferLater(self.clock, seconds, lambda: self.echo.transport.sendTextMessage(text))
        self.drain.track("message", work, while_draining=while_draining).addErrback(lambda _: None)

    def told(self) -> list[str | int]:
        """The texts heard, and the codes of a close."""
        return [event.code if isinstance(event, CloseConnection) else event.data for event in self.events()]

    def test_work_of_the_program(self) -> None:
        """It is told when the work that the program tracks has ended, behind the answers that this has sent."""
        transport = self.upgrade()
        self.track(1.5, "first")
        self.track(2.5, "second")
        ended = self.stop()
        self.assertEqual(self.told(), [])
        self.assertFalse(transport.half_closed)
        self.clock.advance(1.5)
        self.assertEqual(self.told(), ["first"])
        self.clock.advance(1)
        self.assertEqual(self.told(), ["second", 1001])
        self.assertTrue(transport.half_closed)
        transport.leave()
        self.check_ended(ended, finished=3, cut=0, undelivered=0)

    def test_work_begun_in_the_drain(self) -> None:
        """Work that the program takes on while draining, of its own will, is waited for too."""
        self.upgrade()
        self.track(1, "first")
        self.stop()
        self.clock.advance(0.5)
        self.track(1, "second", while_draining=True)
        self.clock.advance(0.5)
        self.assertEqual(self.told(), ["first"])
        self.clock.advance(0.5)
        self.assertEqual(self.told(), ["second", 1001])

    def test_work_of_others(self) -> None:
        """Requests over HTTP, and connections of other protocols, are not waited for."""
        self.upgrade()
        held = self.connect(WebTests.make_site(self, self.resource))
        held.receive(get())
        other = TrackedFactory(Factory.forProtocol(Protocol), self.service.connections, self.drain)
        MemoryTransport(self.clock).connect(other.buildProtocol(held.getPeer()))
        self.stop()
        self.assertEqual(self.drain.in_flight, 3)
        self.assertEqual(self.told(), [1001])

    def test_work_at_the_deadline(self) -> None:
        """At the deadline the work is cut, and it is told all the same."""
        self.upgrade()
        self.track(60, "never")
        ended = self.stop()
        self.clock.advance(10)
        self.assertEqual(self.told(), [1001])
        self.clock.pump([1.1, 0])
        self.check_ended(ended, cut=2)

    def test_work_that_fails(self) -> None:
        """Work that fails has ended, too."""
        self.upgrade()
        failing: Deferred[None] = Deferred()
        self.drain.track("message", failing).addErrback(lambda _: None)
        self.stop()
        failing.errback(RuntimeError())
        self.assertEqual(self.told(), [1001])

    def test_gone_before_it_is_told(self) -> None:
        """One whose client goes meanwhile is not told any more."""
        transport = self.upgrade()
        self.track(1.5, "too late")
        ended = self.stop()
        transport.leave()
        self.clock.advance(1.5)
        self.check_ended(ended, finished=2)

    def test_several(self) -> None:
        """All websockets of a site wait for it, and those that have come since are told at once when it has ended."""
        self.upgrade()
        self.track(1.5, "answer")
        request = self.client.send(Ping())
        upgrading = WSConnection(ConnectionType.CLIENT)
        second = self.connect()
        second.receive((handshake := upgrading.send(UpgradeRequest("x", "/ws")))[:20])
        self.stop()
        self.transport.receive(request)
        self.clock.advance(0.9)
        second.receive(handshake[20:])
        self.assertFalse(second.half_closed)
        self.clock.advance(0.6)
        self.assertTrue(self.transport.half_closed)
        self.assertTrue(second.half_closed)

    def test_document(self) -> None:
        """The class in docs/web.md answers what it has begun, refuses what comes then, and says what was cut."""
        chat = namespace("web.md", "class Chat:")["Chat"]
        for ends, expected in ((True, "HI"), (False, "failed: DrainTimeout")):
            self.setUp()
            answers: list[Deferred[str]] = []

            def answer(_: str, answers: list[Deferred[str]] = answers) -> Deferred[str]:
                answers.append(Deferred())
                return answers[-1]

            self.echo = chat(self.drain, answer)
            self.upgrade()
            self.say(TextMessage("hi"))
            self.stop()
            self.say(TextMessage("late"))
            self.assertEqual(self.told(), ["not now: the server is shutting down"])
            if ends:
                answers[0].callback("HI")
            else:
                self.clock.advance(10)
            self.assertEqual(self.told(), [expected, 1001])
            self.assertEqual(len(answers), 1)

    def test_cut(self) -> None:
        """The deadline, or a second signal, cuts it like any work."""
        self.upgrade()
        ended = self.stop()
        self.service.cut("a second signal")
        self.clock.pump([1.1, 0])
        self.check_ended(ended, cut=1)


def late_message(text: str) -> bytes:
    """A text frame, with a mask."""
    connection = WSConnection(ConnectionType.CLIENT)
    accepting = WSConnection(ConnectionType.SERVER)
    accepting.receive_data(connection.send(UpgradeRequest("x", "/")))
    list(accepting.events())
    connection.receive_data(accepting.send(AcceptConnection()))
    list(connection.events())
    message: Message[str] = TextMessage(text)
    return connection.send(message)


class Taking(Protocol):
    """A protocol that is put in the place of HTTP."""

    def __init__(self) -> None:
        self.received = b""
        self.losses = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.losses += 1


class TakingWebSocket(Taking):
    """One with autobahn's way to close."""

    open = True

    def sendCloseFrame(self, code: int, reasonUtf8: bytes) -> None:
        if not self.open:
            raise RuntimeError("cannot close a connection not yet connected")
        assert self.transport is not None
        self.transport.write(b"closed %d" % code)


class Take(Resource):
    """Puts its protocol between the transport and nobody, as autobahn's WebSocketResource does."""

    isLeaf = True

    def __init__(self, protocol: Taking) -> None:
        super().__init__()
        self.protocol = protocol

    def render_GET(self, request: Any) -> Any:
        transport = request.channel.transport
        if isinstance(transport, ProtocolWrapper):
            transport.wrappedProtocol = self.protocol
        else:
            transport.protocol = self.protocol
        self.protocol.makeConnection(transport)
        return NOT_DONE_YET


class TakenTests(WebTests):
    """Connections that another protocol takes."""

    def take(self, protocol: Taking) -> MemoryTransport:
        transport = self.connect(self.make_site(Take(protocol)))
        transport.receive(get("/ws"))
        transport.receive(b"one")
        self.assertEqual(protocol.received, b"one")
        return transport

    def test_websocket(self) -> None:
        """One that has autobahn's way to close is told 1001; what comes then still reaches it."""
        protocol = TakingWebSocket()
        transport = self.take(protocol)
        ended = self.stop()
        self.assertEqual(transport.take(), b"closed 1001")
        self.assertTrue(transport.half_closed)
        transport.receive(b"two")
        self.assertEqual(protocol.received, b"onetwo")
        transport.leave()
        self.assertEqual(protocol.losses, 1)
        self.check_ended(ended, finished=1, cut=0)

    def test_handshake(self) -> None:
        """One that cannot be told yet is closed without; the drain goes on."""
        protocol = TakingWebSocket()
        transport = self.take(protocol)
        protocol.open = False
        ended = self.stop()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertTrue(transport.half_closed)
        transport.leave()
        self.check_ended(ended, cut=0)

    def test_unknown(self) -> None:
        """One of which nothing is known is waited for, until the deadline cuts it."""
        for leaves in (True, False):
            self.setUp()
            protocol = Taking()
            transport = self.take(protocol)
            ended = self.stop()
            self.clock.advance(5)
            transport.receive(b"two")
            self.assertEqual(protocol.received, b"onetwo")
            self.assertFalse(transport.half_closed)
            if leaves:
                transport.leave()
            else:
                self.clock.pump([5, 1.1, 0])
            self.assertEqual(protocol.losses, 1)
            self.check_ended(ended, cut=0 if leaves else 1)

    def test_lost_before_the_drain(self) -> None:
        """One that is lost before a drain is not waited for."""
        protocol = Taking()
        self.take(protocol).leave()
        self.assertEqual(protocol.losses, 1)
        self.check_ended(self.stop(), cut=0)

    def test_wrapped(self) -> None:
        """Under a wrapper, such as TLS, the place is the wrapper's."""
        protocol = Taking()
        site = self.make_site(Take(protocol))
        transport = MemoryTransport(self.clock)
        transport.connect(WrappingFactory(site).buildProtocol(transport.getPeer()))
        transport.receive(get("/ws"))
        transport.receive(b"one")
        self.assertEqual(protocol.received, b"one")
        transport.leave()
        self.assertEqual(protocol.losses, 1)
        self.check_ended(self.stop(), cut=0)
