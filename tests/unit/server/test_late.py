"""Connections that come while the service drains, from a listener that waits for their handshakes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.certificates import Certificates
from tests.support.handshakes import connected, postpone
from tests.support.lines import bodies, message
from tests.support.memory import House
from tests.support.visitor import Visitor
from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.server import _door as door
from twisted_node.server import _handshakes as handshakes
from twisted_node.server import _listening as listening
from twisted_node.server._client_waits import FIRST_WORDS
from twisted_node.server._connections import Connections
from twisted_node.server._service import DrainingService
from twisted_node.server._states import ServiceState
from twisted_node.testing import MemoryClient, MemoryEndpoint

# Its interfaces depend on the platform.
reactor: Any = _reactor


class SlowlyClosingEndpoint(MemoryEndpoint):
    """An endpoint whose port goes on taking clients until the test lets it close."""

    def __init__(self) -> None:
        super().__init__()
        self.closing: Deferred[None] = Deferred()
        self._really: Any = super().close

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        def slow(port: Any) -> Any:
            port.stopListening = lambda: self.closing
            return port

        return super().listen(factory).addCallback(slow)

    def let_close(self) -> None:
        self._really()
        self.closing.callback(None)


class LateConnectionTests(SynchronousTestCase):
    """A service in memory, one of whose listeners takes its time to close."""

    def setUp(self) -> None:
        self.house = House()
        self.clock = self.house.clock
        self.service = DrainingService(self.house.drain, drain_timeout=10, linger=2)
        self.endpoint = SlowlyClosingEndpoint()
        self.service.listen(self.endpoint, self.house.factory())
        self.service._shutdown.listeners[0].factory.connections = self.service.connections  # type: ignore[attr-defined] # a NodeFactory
        self.service.startService()

    def types(self, client: MemoryClient) -> list[str]:
        return [body["type"] for body in bodies(client.received)]

    def test_empty_house(self) -> None:
        """The service has not ended, though no connection is open, while a listener may still bring one."""
        ended = self.service.stopService()
        self.assertNoResult(ended)
        self.assertIs(self.service.state, ServiceState.CLOSING)
        self.endpoint.let_close()
        self.assertIs(self.successResultOf(ended).phase, Phase.DRAINED)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """One that comes late may ask, is told that the server shuts down, and is waited for."""
        ended = self.service.stopService()
        self.clock.advance(FIRST_WORDS / 2)
        client = self.endpoint.connect()
        self.endpoint.let_close()
        self.clock.advance(FIRST_WORDS)
        self.assertNoResult(ended)
        client.send(message("tcp_request", 1))
        self.assertEqual(self.types(client), ["tcp_request_error"])
        self.assertTrue(client.gone)
        self.successResultOf(ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late_after_another(self) -> None:
        """So may one that comes when the last of those before has gone."""
        before = self.endpoint.connect()
        self.clock.advance(FIRST_WORDS)
        ended = self.service.stopService()
        self.clock.advance(FIRST_WORDS)
        self.assertTrue(before.gone)
        late = self.endpoint.connect()
        self.clock.advance(FIRST_WORDS)
        late.send(message("tcp_request", 1))
        self.assertEqual(self.types(late), ["tcp_request_error"])
        self.assertNoResult(ended)
        self.endpoint.let_close()
        self.successResultOf(ended)

    def test_silent(self) -> None:
        """One that says nothing is waited for no longer than the linger, from the beginning of the drain."""
        ended = self.service.stopService()
        self.clock.advance(1)
        client = self.endpoint.connect()
        self.endpoint.let_close()
        self.clock.advance(0.9)
        self.assertFalse(client.closed)
        self.clock.advance(0.1)
        self.assertTrue(client.gone)
        self.successResultOf(ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LateVisitorTests(SynchronousTestCase):
    """Connections, without a service."""

    def test_kept(self) -> None:
        """One that comes late and is kept open stays for the linger, as any other that is kept."""
        clock = Clock()
        connections = Connections(clock, linger=1)
        connections.begin_drain()
        connections.finish()
        clock.advance(0.5)
        visitor = Visitor(connections, kept=True)
        clock.advance(0.9)
        self.assertFalse(visitor.connection.is_closing)
        clock.advance(0.1)
        self.assertEqual(visitor.told, ["drain", "last words", "close", "close now"])
        visitor.leave()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_told_once(self) -> None:
        """One that comes when all patience is lost is told of the drain and finished, each once."""
        clock = Clock()
        connections = Connections(clock, linger=1)
        connections.begin_drain()
        clock.advance(1)
        connections.finish()
        visitor = Visitor(connections)
        self.assertEqual(visitor.told, ["drain", "last words", "close"])
        visitor.leave()
        self.assertEqual(clock.getDelayedCalls(), [])


class Polite(Protocol):
    """Answers what it gets, in one word, and closes."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"answered")
        self.transport.loseConnection()


class HalfDoneTests(TestCase):
    """A service on a real port, with a handshake that is half done when the drain begins and nothing is open.

    Its time is a clock's, which stands still unless a test advances it.
    """

    timeout = 20

    def start(
        self, linger: float = 1.0, drain_timeout: float = 10.0, endpoint: str = "tcp:0:interface=127.0.0.1"
    ) -> DrainingService:
        factory = Factory.forProtocol(Polite)
        factory.noisy = False
        self.clock = Clock()
        drain = Drain(self.clock, self.clock.seconds)
        service = DrainingService(drain, drain_timeout=drain_timeout, linger=linger)
        listener = service.listen(serverFromString(reactor, endpoint), factory)
        service.startService()
        port: Any = listener._port
        postpone(port.socket)
        self.address = port.socket.getsockname()
        return service

    def client(self) -> socket.socket:
        client = connected(self.address)
        self.addCleanup(client.close)
        return client

    async def end_of(self, ended: Deferred[Statistics]) -> Statistics:
        """Let time go by until the service has ended."""
        while not ended.called:
            self.clock.advance(0.01)
            await deferLater(reactor, 0.001)
        return await ended

    async def check(self) -> None:
        """A client that has connected is served; one that has not is held off, and then refused."""
        service = self.start()
        client = self.client()
        ended = service.stopService()
        self.clock.advance(0.1)
        await deferLater(reactor, 0)
        self.assertNoResult(ended)
        client.sendall(b"ask")
        self.assertEqual(await deferToThread(client.recv, 100), b"answered")
        statistics = await self.end_of(ended)
        self.assertEqual((statistics.phase, statistics.cut), (Phase.DRAINED, 0))
        self.assertRaises(ConnectionRefusedError, connected, self.address)

    async def test_filter(self) -> None:
        """However the door is shut here, it is served."""
        await self.check()

    async def test_decoy(self) -> None:
        """With a decoy too."""
        self.patch(door, "_SO_ATTACH_FILTER", 9999)
        await self.check()

    async def test_tls(self) -> None:
        """Over TLS it is served as well: its TLS handshake comes after the other."""
        certificates = Certificates(Path(self.mktemp()))
        service = self.start(endpoint=f"ssl:0:interface=127.0.0.1:privateKey={certificates.server}")
        client = self.client()
        ended = service.stopService()

        def ask() -> bytes:
            with certificates.client_context().wrap_socket(client, server_hostname="127.0.0.1") as secure:
                secure.sendall(b"ask")
                return secure.recv(100)

        self.assertEqual(await deferToThread(ask), b"answered")
        await self.end_of(ended)

    async def test_blind(self) -> None:
        """Where handshakes cannot be counted, a listener stays for a moment if somebody is connected."""
        self.patch(handshakes, "_SOCK_DIAG_BY_FAMILY", 9999)
        service = self.start()
        open_before, half_done = self.client(), self.client()
        port: Any = service._shutdown.listeners[0]._port
        open_before.sendall(b"ask")
        port.doRead()
        self.assertEqual(len(service.connections), 1)
        ended = service.stopService()
        self.clock.advance(handshakes.BLIND_WAIT - 0.01)
        half_done.sendall(b"ask")
        self.assertEqual(await deferToThread(half_done.recv, 100), b"answered")
        await self.end_of(ended)

    async def test_nobody(self) -> None:
        """With none half done the port closes at once, and nothing waits for the clock."""
        # The kernel counts cookies for all listeners together, those of other programs too.
        self.patch(listening, "cookies_sent", lambda: 0)
        service = self.start()
        ended = service.stopService()
        closing: Any = service._shutdown.listeners[0]._closing
        self.assertIsNone(closing._wait)
        await ended

    async def test_never_done(self) -> None:
        """One that is never done costs the linger."""
        service = self.start(linger=0.2)
        self.client()
        await self.end_of(service.stopService())
        self.assertTrue(0.2 <= self.clock.seconds() < 0.3, self.clock.seconds())

    async def test_deadline(self) -> None:
        """It costs no more than the deadline leaves."""
        service = self.start(linger=10, drain_timeout=0.1)
        self.client()
        await self.end_of(service.stopService())
        self.assertLess(self.clock.seconds(), 2)

    async def test_no_patience(self) -> None:
        """With a linger of 0 nobody is waited for."""
        service = self.start(linger=0)
        self.client()
        ended = service.stopService()
        closing: Any = service._shutdown.listeners[0]._closing
        self.assertIsNone(closing._wait)
        await ended
