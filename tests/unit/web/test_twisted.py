"""What twisted.web keeps private and web/_twisted.py uses: each test fails when Twisted changes it."""

from __future__ import annotations

import inspect
from typing import Any
from unittest import SkipTest

import h2.config
import h2.connection
import h2.events
from twisted.internet import reactor, tcp
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import TestCase
from twisted.web.http import HTTPChannel
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import GzipEncoderFactory, Site
from wsproto import ConnectionType, WSConnection
from wsproto.events import CloseConnection
from wsproto.events import Request as UpgradeRequest

from tests.support.transports import MemoryTransport
from tests.support.web import Hold, get
from twisted_node.web._twisted import (
    UpgradableChannel,
    ask_before_timeout,
    channel_of,
    close_websocket,
    discard_input,
    go_away,
    has_length,
    has_lost_connection,
    is_handling_request,
    negotiated_protocol,
    put_back,
    request_line,
    stop_encoding,
    stream_sent,
    take_waiting,
    unparsed_input,
)


class PlainSite(Site):
    """Twisted's own site, with a channel that is handed over."""

    def __init__(self, resource: Any, channel: HTTPChannel) -> None:
        self.clock = Clock()
        super().__init__(resource, reactor=self.clock)
        self.channel = channel

    def protocol(self) -> Any:
        return negotiated_protocol(self.channel)

    def connect(self, negotiated: bytes | None = None) -> MemoryTransport:
        """Make a connection; TLS may have negotiated a protocol for it."""
        transport = MemoryTransport(self.clock)
        transport.negotiatedProtocol = negotiated  # type: ignore[attr-defined] # as TLS tells it
        transport.connect(self.buildProtocol(transport.getPeer()))
        return transport


class ChannelTests(TestCase):
    """An HTTP/1 channel."""

    def setUp(self) -> None:
        self.channel = HTTPChannel()
        self.resource = Hold()
        self.site = PlainSite(self.resource, self.channel)
        self.transport = self.site.connect()
        self.addCleanup(self.transport.leave)

    def test_negotiated_protocol(self) -> None:
        """What Site makes by itself is of the same kind, and holds its channel where ours is held."""
        made: Any = Site(Hold(), reactor=Clock()).buildProtocol(None)
        ours = negotiated_protocol(self.channel)
        self.assertIs(type(made), type(ours))
        self.assertIs(type(channel_of(made)), HTTPChannel)
        self.assertIs(channel_of(ours), self.channel)

    def test_unparsed_input(self) -> None:
        """Half a line is unparsed, and so is what follows a request that is being handled."""
        self.transport.receive(b"GET / HT")
        self.assertEqual(unparsed_input(self.channel), b"GET / HT")
        self.transport.receive(b"TP/1.1\r\n\r\n")
        self.assertEqual(unparsed_input(self.channel), b"")
        self.transport.receive(b"GET /next")
        self.assertEqual(unparsed_input(self.channel), b"GET /next")

    def test_is_handling_request(self) -> None:
        """A request is handled from its last byte to the end of its answer."""
        request = get()
        self.transport.receive(request[:-1])
        self.assertFalse(is_handling_request(self.channel))
        self.assertEqual(len(self.channel.requests), 1)
        self.transport.receive(request[-1:])
        self.assertTrue(is_handling_request(self.channel))
        self.resource.answer()
        self.assertFalse(is_handling_request(self.channel))

    def test_discard_input(self) -> None:
        """What follows is dropped, also what was received before."""
        self.transport.receive(get() + get("/now"))
        discard_input(self.channel)
        self.resource.answer()
        self.transport.receive(get("/now"))
        self.assertEqual(self.resource.bodies, [b""])

    def test_request_line(self) -> None:
        """The first line is known as soon as it is there; the request itself does not know it yet."""
        self.transport.receive(b"HEAD /path HTTP/1.0\r\nHo")
        self.assertEqual(request_line(self.channel), (b"HEAD", b"/path", b"HTTP/1.0"))
        self.assertNotEqual(self.channel.requests[0].method, b"HEAD")

    def test_ask_before_timeout(self) -> None:
        """The idle timer asks before it closes, and starts again if it may not; what follows replaces the abort."""
        answers, given_up = [False, True], []
        ask_before_timeout(self.channel, lambda: answers.pop(0), lambda: given_up.append(True))
        # As TLS does, which waits for the client.
        self.transport.loseConnection = lambda: None  # type: ignore[method-assign] # see above
        for seconds, expected in ((60, (1, [])), (60, (0, [])), (15, (0, [True]))):
            self.site.clock.advance(seconds)
            self.assertEqual((len(answers), given_up), expected)
        self.assertFalse(self.transport.aborted)

    def test_has_length(self) -> None:
        """The end of an answer can be told by its chunks, its length, or its having no body."""
        for version, length, method, code, expected in (
            (b"1.0", None, b"GET", 200, False),
            (b"1.1", None, b"GET", 200, True),
            (b"1.0", b"100", b"GET", 200, True),
            (b"1.0", None, b"HEAD", 200, True),
            (b"1.0", None, b"GET", 304, True),
        ):
            self.setUp()
            self.transport.receive(b"%b / HTTP/%b\r\n\r\n" % (method, version))
            (request,) = self.resource.requests
            request.setResponseCode(code)
            if length:
                request.setHeader(b"Content-Length", length)
            request.write(b"begun")
            self.assertEqual(has_length(request), expected, (version, length, method, code))

    def test_take_waiting(self) -> None:
        """Whoever waits for the end of a request can be told by somebody else."""
        self.transport.receive(get())
        (request,) = self.resource.requests
        waiter = request.notifyFinish()
        self.assertIs(take_waiting(request)[-1], waiter)
        self.resource.answer()
        self.assertNoResult(waiter)

    def test_upgrade(self) -> None:
        """A websocket of twisted.web takes the input over, and the channel learns of it."""
        if not hasattr(HTTPChannel, "_protocolUpgradeForWebsockets"):
            raise SkipTest("this Twisted has no websockets")
        received: list[bytes] = []
        upgraded: list[Any] = []

        class Taker(Protocol):
            def dataReceived(self, data: bytes) -> None:
                received.append(data)

        class Channel(UpgradableChannel):
            def upgraded(self, websocket: Any) -> None:
                super().upgraded(websocket)
                upgraded.append(websocket)

        taker = Taker()
        transport = PlainSite(self.resource, Channel()).connect()
        transport.receive(get())
        (request,) = self.resource.requests
        request.channel._protocolUpgradeForWebsockets(taker)
        transport.receive(b"frame")
        self.assertEqual((received, upgraded), ([b"frame"], [taker]))


class PlaceTests(TestCase):
    """The place between a transport and its protocol."""

    def test_put_back(self) -> None:
        """A protocol that another has replaced is put back, and the other returned; of a wrapper, too."""
        for attribute, transport in (
            ("protocol", MemoryTransport()),
            ("wrappedProtocol", WrappingFactory(Factory.forProtocol(Protocol)).buildProtocol(None)),
        ):
            ours, other = Protocol(), Protocol()
            setattr(transport, attribute, ours)
            self.assertIsNone(put_back(transport, ours))
            setattr(transport, attribute, other)
            self.assertIs(put_back(transport, ours), other)
            self.assertIs(getattr(transport, attribute), ours)
        # So does a transport of the reactor say to whom it gives what comes in.
        self.assertIn("protocol", inspect.signature(tcp.Connection).parameters)


class WebSocketCloseTests(TestCase):
    """A websocket of twisted.web."""

    def test_close_websocket(self) -> None:
        """A close is sent once and the connection stays open; what the program sends then is dropped."""
        try:
            from twisted.web.websocket import WebSocketResource
        except ImportError:
            raise SkipTest("this Twisted has no websockets") from None
        websockets: list[Any] = []

        class Program:
            def negotiationStarted(self, transport: Any) -> None:
                websockets.append(transport)

            def negotiationFinished(self) -> None: ...

            def connectionLost(self, reason: Any) -> None: ...

        class Programs:
            def buildProtocol(self, request: Any) -> Any:
                return Program()

        client = WSConnection(ConnectionType.CLIENT)
        root = Resource()
        root.putChild(b"ws", WebSocketResource(Programs()))
        transport = PlainSite(root, HTTPChannel()).connect()
        self.addCleanup(transport.leave)
        transport.receive(client.send(UpgradeRequest("x", "/ws")))
        client.receive_data(transport.take())
        self.assertEqual(len(list(client.events())), 1)
        (websocket,) = websockets
        self.assertTrue(close_websocket(websocket, 1001, "good-bye"))
        self.assertFalse(close_websocket(websocket, 1001, "good-bye"))
        websocket.sendTextMessage("dropped")
        websocket.sendBytesMessage(b"dropped")
        websocket.ping()
        client.receive_data(transport.take())
        self.assertEqual([event.code for event in client.events() if isinstance(event, CloseConnection)], [1001])
        self.assertFalse(transport.disconnecting)


class EncodingTests(TestCase):
    """A request whose resource has chosen an encoding."""

    def test_stop_encoding(self) -> None:
        """An answer can be written without the encoding that was chosen for it."""
        for stopped in (False, True):
            resource = Hold()
            site = PlainSite(EncodingResourceWrapper(resource, [GzipEncoderFactory()]), HTTPChannel())
            transport = site.connect()
            self.addCleanup(transport.leave)
            transport.receive(get("/", "Accept-Encoding: gzip"))
            if stopped:
                stop_encoding(resource.requests[0])
            resource.answer()
            self.assertIs(b"held" in transport.take(), stopped)


class StreamTests(TestCase):
    """A connection that has become HTTP/2."""

    async def test_stream(self) -> None:
        """Another channel takes the place of ours; a stream is sent some time after its request has finished."""
        resource, channel = Hold(), HTTPChannel()
        client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        client.initiate_connection()
        client.send_headers(
            1, [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "x")], end_stream=True
        )
        transport = PlainSite(resource, channel).connect(b"h2")
        self.addCleanup(transport.leave)
        transport.receive(client.data_to_send())
        connection = channel_of(transport.protocol)
        self.assertIsNot(connection, channel)
        self.assertEqual(list(connection.streams), [1])
        stream = resource.requests[0].channel
        sent = stream_sent(stream)
        assert sent is not None
        resource.answer()
        self.assertEqual(list(connection.streams), [1])
        self.assertNoResult(sent)
        for _ in range(20):
            await deferLater(reactor, 0)
        self.successResultOf(sent)
        self.assertIsNone(stream_sent(stream))
        self.assertEqual(list(connection.streams), [])
        events = client.receive_data(transport.take() + go_away(connection))
        self.assertIsInstance(events[-1], h2.events.ConnectionTerminated)
        self.assertFalse(has_lost_connection(connection))
        transport.leave()
        self.assertTrue(has_lost_connection(connection))

    def test_ask_before_timeout(self) -> None:
        """Its timers ask like those of HTTP/1."""
        site = PlainSite(Hold(), HTTPChannel())
        transport = site.connect(b"h2")
        self.addCleanup(transport.leave)
        client = h2.connection.H2Connection()
        client.initiate_connection()
        transport.receive(client.data_to_send())
        given_up: list[bool] = []
        ask_before_timeout(channel_of(transport.protocol), lambda: True, lambda: given_up.append(True))
        transport.loseConnection = lambda: None  # type: ignore[method-assign] # as TLS, which waits for the client
        site.clock.pump([60, 15])
        self.assertEqual((given_up, transport.aborted), ([True], False))
