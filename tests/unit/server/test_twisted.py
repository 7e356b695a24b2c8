"""What ``server`` relies on in Twisted's private names, on Twisted's real classes: it fails when Twisted changes it."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor, tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, ServerFactory, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support.certificates import Certificates
from twisted_node.server._twisted import (
    accept_waiting,
    call_instead_of_close,
    close_raw,
    half_close_now,
    is_half_closed,
    raw_transport,
    read_waiting,
    replace_close,
    restore_close,
    restore_half_close,
    take_back_close,
    unsent_bytes,
    untaken_bytes,
    watch_handshake,
    write_now,
)

REACTOR: Any = reactor


@implementer(IHalfCloseableProtocol)
class Remembering(Protocol):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.received = b""
        self.input_ended = False
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.input_ended = True

    def writeConnectionLost(self) -> None:
        """Our half is closed."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class RealTransportTests(TestCase):
    """A connected pair of sockets, one of them a transport of Twisted's."""

    def setUp(self) -> None:
        ours, self.client = socket.socketpair()
        self.addCleanup(self.client.close)
        self.client.setblocking(False)
        self.protocol = Remembering()
        self.transport: Any = unix.Server(ours, self.protocol, "", FakePort(), 0, REACTOR)
        self.protocol.makeConnection(self.transport)
        self.transport.startReading()
        self.addCleanup(self.close)

    async def close(self) -> None:
        if not self.protocol.lost.called:
            self.transport.abortConnection()
            await self.protocol.lost

    async def turn(self) -> None:
        await deferLater(REACTOR, 0)

    def test_unsent_bytes(self) -> None:
        """Bytes count as unsent from the write until the kernel has them, in both of the transport's buffers."""
        self.assertEqual(unsent_bytes(self.transport), 0)
        much = b"x" * 10_000_000
        self.transport.write(much)
        self.assertEqual(unsent_bytes(self.transport), len(much))
        self.transport.doWrite()
        taken = len(much) - unsent_bytes(self.transport)
        self.assertGreater(taken, 0)
        self.assertLess(taken, len(much))
        self.transport.write(b"more")
        self.assertEqual(unsent_bytes(self.transport), len(much) - taken + 4)

    async def test_unsent_bytes_of_tls(self) -> None:
        """What TLS gathers before it encrypts it counts too."""
        factory = TLSMemoryBIOFactory(optionsForClientTLS("localhost"), True, Factory.forProtocol(Protocol))
        wrapper: Any = factory.buildProtocol(None)
        wrapper.makeConnection(self.transport)
        before = unsent_bytes(wrapper)
        wrapper.write(b"gathered")
        self.assertEqual(unsent_bytes(wrapper), before + 8)
        # It is encrypted then.
        await self.turn()

    def test_untaken_bytes_of_unix(self) -> None:
        """Of a unix socket none count: they stay there for the reader when we have closed."""
        self.transport.write(b"sent")
        self.transport.doWrite()
        self.assertEqual(untaken_bytes(self.transport), 0)

    async def test_call_instead_of_close(self) -> None:
        """When all is sent a function is called, once, and the connection is open; the next close closes it."""
        calls: list[bool] = []
        self.transport.registerProducer(object(), True)
        call_instead_of_close(self.transport, lambda: calls.append(bool(self.transport.disconnecting)))
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.assertTrue(self.transport.disconnecting)
        while not calls:
            await self.turn()
        self.assertEqual((calls, self.client.recv(10)), ([False], b"bye"))
        self.assertIsNone(self.transport.producer)
        self.assertFalse(self.protocol.lost.called)
        self.transport.loseConnection()
        await self.protocol.lost
        self.assertEqual(len(calls), 1)

    async def test_call_instead_of_close_taken_back(self) -> None:
        """It is not called for a close that was taken back: the next is a close again."""
        call_instead_of_close(self.transport, self.fail)
        self.transport.loseConnection()
        self.assertTrue(take_back_close(self.transport))
        self.transport.loseConnection()
        await self.protocol.lost

    async def test_replace_close(self) -> None:
        """What the protocol calls can be replaced, also on a wrapper, and restored; but only that of a socket."""
        wrapper: Any = WrappingFactory(Factory.forProtocol(Protocol)).buildProtocol(None)
        wrapper.makeConnection(self.transport)
        for transport in (self.transport, wrapper):
            calls: list[bool] = []
            replace_close(transport, partial(calls.append, True))
            transport.loseConnection()
            restore_close(transport)
            self.assertEqual((calls, bool(self.transport.disconnecting)), ([True], False))
        other = StringTransport()
        replace_close(other, self.fail)
        other.loseConnection()
        restore_close(other)
        wrapper.loseConnection()
        self.assertTrue(self.transport.disconnecting)

    def test_is_half_closed(self) -> None:
        """A transport knows that it has closed its half."""
        self.assertFalse(is_half_closed(self.transport))
        half_close_now(self.transport)
        self.assertTrue(is_half_closed(self.transport))
        self.assertFalse(is_half_closed(StringTransport()))

    def test_read_waiting(self) -> None:
        """What the client has sent is read in this turn; a paused producer stops that, and it is told what is left."""
        self.transport.producerPaused = True
        self.assertFalse(read_waiting(self.transport))
        self.client.send(b"sent")
        self.assertTrue(read_waiting(self.transport))
        self.assertEqual(self.protocol.received, b"")
        self.transport.producerPaused = False
        self.assertFalse(read_waiting(self.transport))
        self.assertEqual(self.protocol.received, b"sent")

    def test_write_now(self) -> None:
        """Bytes are with the client in this turn if nothing is queued, and behind the queue otherwise."""
        write_now(self.transport, b"first")
        self.assertEqual(self.client.recv(100), b"first")
        self.transport.write(b"queued ")
        write_now(self.transport, b"second")
        self.assertRaises(BlockingIOError, self.client.recv, 100)
        self.transport.doWrite()
        self.assertEqual(self.client.recv(100), b"queued second")

    def test_half_close_now(self) -> None:
        """Our half is closed in this turn; the client can still send."""
        half_close_now(self.transport)
        self.assertEqual(self.client.recv(100), b"")
        self.client.send(b"sent")
        self.transport.doRead()
        self.assertEqual(self.protocol.received, b"sent")

    async def test_take_back_close(self) -> None:
        """A connection that closes when all is sent can be had back until then, unless its producer is not ready."""
        self.transport.write(b"sent")
        self.transport.loseConnection()
        self.assertTrue(take_back_close(self.transport))
        await self.turn()
        await self.turn()
        self.assertEqual(self.client.recv(100), b"sent")
        self.client.send(b"heard")
        self.transport.doRead()
        self.assertEqual(self.protocol.received, b"heard")
        self.transport.registerProducer(self, True)
        self.transport.loseConnection()
        self.assertFalse(take_back_close(self.transport))
        self.transport.unregisterProducer()
        await self.protocol.lost
        self.assertFalse(take_back_close(self.transport))

    async def test_close_raw(self) -> None:
        """A connection closes though something has replaced its ``loseConnection``, as ``startTLS`` does."""
        self.transport.loseConnection = lambda: None
        close_raw(self.transport)
        await self.protocol.lost
        self.assertEqual(self.client.recv(100), b"")

    def test_raw_transport(self) -> None:
        """A wrapper has the transport that it wraps as its ``transport``."""
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
        wrapper.transport = self.transport
        self.assertIs(raw_transport(wrapper), self.transport)
        self.assertIsInstance(self.transport, FileDescriptor)

    def test_restore_half_close(self) -> None:
        """The wrapper of ``haproxy:`` hides that its protocol wants to learn of a half-close, until it is told to."""
        factory = HAProxyWrappingFactory(ServerFactory.forProtocol(Remembering))
        wrapper = factory.buildProtocol(None)
        self.assertFalse(IHalfCloseableProtocol.providedBy(wrapper))
        restore_half_close(wrapper, self.protocol)
        self.assertTrue(IHalfCloseableProtocol.providedBy(wrapper))
        wrapper.readConnectionLost()
        self.assertTrue(self.protocol.input_ended)


class TCPTests(TestCase):
    """A connected pair of TCP sockets, one of them a transport of Twisted's."""

    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.client = socket.socket()
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.client.settimeout(20)
            self.addCleanup(self.client.close)
            self.client.connect(listening.getsockname())
            ours, peer = listening.accept()
        ours.setblocking(False)
        self.protocol = Remembering()
        self.transport: Any = tcp.Server(ours, self.protocol, peer, PORT, 0, REACTOR)
        self.protocol.makeConnection(self.transport)
        self.addCleanup(self.close)

    async def close(self) -> None:
        if not self.protocol.lost.called:
            self.transport.abortConnection()
            await self.protocol.lost

    async def test_untaken_bytes(self) -> None:
        """Bytes count until the client's kernel has taken them; our FIN does not count."""
        self.assertEqual(untaken_bytes(self.transport), 0)
        much = b"x" * 1_000_000
        self.transport.write(much)
        self.transport.doWrite()
        sent = len(much) - unsent_bytes(self.transport)
        untaken = untaken_bytes(self.transport)
        self.assertGreater(untaken, 0)
        self.assertLess(untaken, sent)
        while unsent_bytes(self.transport):
            self.client.recv(65_536)
            self.transport.doWrite()
        before = untaken_bytes(self.transport)
        half_close_now(self.transport)
        self.assertEqual(untaken_bytes(self.transport), before)
        while self.client.recv(65_536):
            """Until the end."""
        while untaken_bytes(self.transport):
            # The client's kernel may take its time to say so.
            await deferLater(REACTOR, 0.001)

    async def test_untaken_bytes_when_lost(self) -> None:
        """A connection that is lost has none."""
        self.transport.write(b"x" * 1_000_000)
        self.transport.doWrite()
        self.transport.abortConnection()
        self.assertGreater(untaken_bytes(self.transport), 0)
        await self.protocol.lost
        self.assertEqual(untaken_bytes(self.transport), 0)


@implementer(IHandshakeListener)
class Listening(Protocol):
    """Waits for the end of a handshake."""

    transport: Any

    def __init__(self) -> None:
        self.waits = False
        self.completed: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.waits = watch_handshake(self.transport, self)

    def handshakeCompleted(self) -> None:
        self.completed.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class HandshakeTests(TestCase):
    """The end of a TLS handshake."""

    async def connect(self, prefix: str) -> Listening:
        """Connect a client with TLS, to the protocol that this returns."""
        certificates = Certificates(Path(self.mktemp()))
        path, protocol = certificates.server, Listening()
        factory = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        description = f"{prefix}ssl:0:interface=127.0.0.1:privateKey={path}:certKey={path}"
        port = await serverFromString(REACTOR, description).listen(factory)
        self.addCleanup(port.stopListening)

        def connect() -> socket.socket:
            client = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20)
            return certificates.client_context().wrap_socket(client, server_hostname="127.0.0.1")

        client = await deferToThread(connect)
        await protocol.completed
        self.assertTrue(protocol.waits)
        client.close()
        await protocol.lost
        return protocol

    async def test_tls(self) -> None:
        """A protocol that wants to know is told."""
        await self.connect("")

    async def test_haproxy(self) -> None:
        """So it is through a wrapper."""
        await self.connect("haproxy:")

    def test_no_tls(self) -> None:
        """Without TLS there is nothing to wait for."""
        self.assertFalse(watch_handshake(StringTransport(), Listening()))


class FakePort:
    """A server's transport names the port that accepted it."""

    _realPortNumber = 0


PORT: Any = FakePort()


class AcceptingTests(TestCase):
    """A port with clients in its queue."""

    def test_accept_waiting(self) -> None:
        """One client is accepted at a time, and no more than asked for."""
        accepted: list[object] = []
        factory = ServerFactory()
        factory.noisy = False
        factory.buildProtocol = accepted.append  # type: ignore[method-assign, assignment] # the client is not wanted
        port: tcp.Port = REACTOR.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        for _ in range(3):
            self.addCleanup(socket.create_connection(("127.0.0.1", port.getHost().port)).close)
        self.assertEqual((accept_waiting(port, 2), len(accepted)), (2, 2))
        self.assertEqual((accept_waiting(port, 2), len(accepted)), (1, 3))
