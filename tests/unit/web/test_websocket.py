"""Websockets in a draining site: told 1001, and counted until they are gone."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Message, TextMessage
from wsproto.events import Request as UpgradeRequest

from tests.support.transports import MemoryTransport
from tests.support.web import WebTests, get, statuses


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


class WebSocketTests(WebTests):
    """Websockets of twisted.web."""

    def setUp(self) -> None:
        super().setUp()
        try:
            from twisted.web.websocket import WebSocketResource
        except ImportError:
            raise SkipTest("this Twisted has no websockets") from None
        self.echo = Echo()
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
