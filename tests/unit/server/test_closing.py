"""How one connection ends, on real sockets; only its linger is on a clock of the test's."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from tests.support.certificates import Certificates
from tests.support.memory import House
from tests.support.paths import short_folder
from tests.support.sockets import read_to_end
from tests.support.transports import MemoryTransport
from twisted_node.server._closing import GracefulClose
from twisted_node.server._twisted import hold_back, read_waiting, restore_half_close, unsent_bytes

# Its interfaces depend on the platform.
reactor: Any = _reactor

LINGER = 5.0
#: More than the kernel takes for a client that does not read.
MUCH = b"x" * 8_000_000
#: More than a client's kernel takes if the client does not read; our own takes it as a whole.
SOME = b"x" * 1_000_000


@implementer(IHalfCloseableProtocol)
class Server(Protocol):
    """A server's connection that ends by a GracefulClose."""

    transport: Any

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.received = b""
        self.input_ended = False
        self.lost: list[Failure] = []
        self.made: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.close: GracefulClose

    def connectionMade(self) -> None:
        self.close = GracefulClose(self.transport, self.clock, LINGER)
        restore_half_close(self.transport, self)
        # As paused as a slow client makes it.
        self.transport.registerProducer(self, True)
        self.made.callback(None)

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is lost."""

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.input_ended = True
        self.close.client_closed()

    def writeConnectionLost(self) -> None:
        """Our half is closed."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override] # Twisted's own default is not used
        self.lost.append(reason)
        self.close.closed()
        self.gone.callback(None)


class ClosingTestCase(TestCase):
    """A connection over a real socket."""

    timeout = 20

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = Server(self.clock)

    async def break_off(self, client: socket.socket) -> None:
        """Close in the middle of an answer, all of which but its end the client reads."""
        self.server.close.broken_off = True
        self.server.transport.write(MUCH)
        self.server.close.begin()
        await deferToThread(self.read_some, client, len(MUCH))
        self.clock.advance(LINGER)
        await self.server.gone

    async def connect(self, description: str = "tcp:0:interface=127.0.0.1") -> socket.socket:
        """Connect a client; it blocks, so it is to be read from in a thread."""
        factory = Factory.forProtocol(lambda: self.server)
        factory.noisy = False
        port = await serverFromString(reactor, description).listen(factory)
        self.addCleanup(port.stopListening)
        address = port.getHost()
        client = socket.socket(socket.AF_UNIX if hasattr(address, "name") else socket.AF_INET)
        client.settimeout(self.timeout)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.addCleanup(client.close)
        await deferToThread(client.connect, getattr(address, "name", None) or (address.host, address.port))
        if "haproxy" in description:
            client.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
        await self.server.made
        return client

    async def read(self, client: socket.socket) -> bytes:
        """All that a client gets until the end."""
        return await deferToThread(read_to_end, client)

    def read_some(self, client: socket.socket, least: int) -> int:
        """Have a client read at least so many bytes; returns how many it has read."""
        count = 0
        while count < least:
            count += len(client.recv(65_536))
        return count

    async def sent(self) -> None:
        """Wait until all that was written has left this process."""
        while unsent_bytes(self.server.transport):
            await self.turns()

    async def taken(self) -> None:
        """Wait until the client's kernel has said that it has everything; it may take its time."""
        while self.server.close.has_unsent():
            await self.turns()

    async def turns(self) -> None:
        """Let the reactor do what is due."""
        for _ in range(5):
            await deferLater(reactor, 0.001)


class GracefulCloseTests(ClosingTestCase):
    """Nothing that was written is lost."""

    async def test_flush(self) -> None:
        """All that was written arrives, then the end; the linger begins with the last byte out."""
        client = await self.connect()
        self.server.transport.write(MUCH)
        self.server.close.begin()
        await self.turns()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(await self.read(client)), len(MUCH))
        await self.turns()
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [LINGER])
        client.close()
        await self.server.gone
        self.assertTrue(self.server.lost[0].check(ConnectionDone))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_end_with_the_answer(self) -> None:
        """The last bytes and the end reach the client together: it never sees an answer with no end behind it."""
        client = await self.connect()
        client.setblocking(False)
        transport = self.server.transport
        half_close = transport.loseWriteConnection
        unseen: list[type[BaseException]] = []

        def look_and_close() -> None:
            try:
                client.recv(100)
            except BlockingIOError as nothing_yet:
                unseen.append(type(nothing_yet))
            half_close()

        transport.loseWriteConnection = look_and_close
        transport.write(b"answer")
        self.server.close.begin()
        await self.turns()
        self.assertEqual(unseen, [BlockingIOError])
        self.assertEqual((client.recv(100), client.recv(100)), (b"answer", b""))
        client.close()
        await self.server.gone

    async def test_client_that_goes_on_sending(self) -> None:
        """What the client sends meanwhile is read, so that no reset destroys what it is sent."""
        client = await self.connect()
        self.server.transport.write(MUCH)
        self.server.close.begin()
        sent = b"y" * 1_000_000
        await deferToThread(client.sendall, sent)
        self.assertEqual(len(await self.read(client)), len(MUCH))
        client.close()
        await self.server.gone
        self.assertEqual(len(self.server.received), len(sent))

    async def test_linger(self) -> None:
        """A client that does not close is closed when its linger is over, and no sooner."""
        client = await self.connect()
        self.server.transport.write(b"bye")
        self.server.close.begin()
        self.assertEqual(await self.read(client), b"bye")
        await self.taken()
        self.clock.advance(LINGER - 0.1)
        self.assertEqual(self.server.lost, [])
        self.clock.advance(0.1)
        await self.server.gone
        self.assertTrue(self.server.lost[0].check(ConnectionDone))

    async def test_kernel_holds_bytes(self) -> None:
        """While the client's kernel has not taken everything, the linger begins again, however often."""
        client = await self.connect()
        self.server.transport.write(SOME)
        self.server.close.begin()
        await self.sent()
        for _ in range(5):
            self.clock.advance(LINGER)
        await self.turns()
        self.assertEqual((self.server.lost, self.server.close.has_unsent()), ([], True))
        # A closed connection would be reset by this.
        client.sendall(b"hello")
        self.assertEqual(len(await self.read(client)), len(SOME))
        await self.taken()
        self.clock.advance(LINGER)
        await self.server.gone
        self.assertTrue(self.server.lost[0].check(ConnectionDone))

    async def test_kernel_holds_bytes_and_no_deadline(self) -> None:
        """Where no deadline is to come, a client that takes nothing for a minute is closed, and given up."""
        client = await self.connect()
        given_up: list[bool] = []
        self.server.close = GracefulClose(
            self.server.transport,
            self.clock,
            LINGER,
            will_be_ended=lambda: False,
            given_up=lambda: given_up.append(True),
        )
        self.server.transport.write(SOME)
        self.server.close.begin()
        await self.sent()
        self.clock.pump([LINGER] * 11)
        read = await deferToThread(self.read_some, client, 200_000)
        self.clock.pump([LINGER] * 12)
        await self.turns()
        self.assertEqual((self.server.lost, given_up), ([], []))
        self.clock.advance(LINGER)
        await self.server.gone
        self.assertEqual(given_up, [True])
        # It is closed, not reset.
        self.assertEqual(len(await self.read(client)) + read, len(SOME))

    async def test_kernel_holds_bytes_and_no_linger(self) -> None:
        """Without a linger what the client's kernel has not taken is looked at again after a while."""
        client = await self.connect()
        self.server.close = GracefulClose(self.server.transport, self.clock, 0)
        self.server.transport.write(SOME)
        self.server.close.begin()
        await self.sent()
        self.clock.advance(0)
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [0.1])
        self.assertEqual(len(await self.read(client)), len(SOME))
        await self.taken()
        self.clock.advance(0.1)
        await self.server.gone

    async def test_end_while_kernel_holds_bytes(self) -> None:
        """The end closes such a connection and does not reset it, though it counts as one with unsent bytes."""
        client = await self.connect()
        self.server.transport.write(SOME)
        self.server.close.begin()
        await self.sent()
        self.assertTrue(self.server.close.has_unsent())
        self.server.close.close_now()
        await self.server.gone
        self.assertEqual(len(await self.read(client)), len(SOME))

    async def test_client_has_closed(self) -> None:
        """With a client that has sent everything there is nothing to linger for."""
        client = await self.connect()
        self.server.transport.write(MUCH)
        self.server.close.begin(client_has_closed=True)
        self.assertEqual(len(await self.read(client)), len(MUCH))
        await self.server.gone
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_client_closes_before_the_flush(self) -> None:
        """A client that closes its half while bytes are on their way still gets them all."""
        client = await self.connect()
        self.server.transport.write(MUCH)
        self.server.close.begin()
        client.shutdown(socket.SHUT_WR)
        await self.turns()
        self.assertTrue(self.server.input_ended)
        self.assertEqual(len(await self.read(client)), len(MUCH))
        await self.server.gone
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_client_vanishes(self) -> None:
        """A client that is gone before the flush leaves nothing behind."""
        client = await self.connect()
        self.server.transport.write(MUCH)
        self.server.close.begin()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        await self.server.gone
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_end_with_unsent_bytes(self) -> None:
        """The end cuts off a client that does not read, and says that bytes are lost."""
        client = await self.connect()
        self.server.transport.write(MUCH)
        self.server.close.begin()
        await self.turns()
        self.assertTrue(self.server.close.has_unsent())
        self.server.close.close_now()
        await self.server.gone
        with self.assertRaises(ConnectionResetError):
            await self.read(client)

    async def test_end_when_all_is_sent(self) -> None:
        """The end of a connection whose bytes are out loses none of them, also those that the client has not read."""
        client = await self.connect()
        self.server.transport.write(b"x" * 100_000)
        self.server.close.begin()
        await self.turns()
        self.assertEqual(unsent_bytes(self.server.transport), 0)
        self.server.close.close_now()
        await self.server.gone
        self.assertEqual(len(await self.read(client)), 100_000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_broken_off(self) -> None:
        """An answer that was broken off ends in a reset, but first comes all that was written of it."""
        client = await self.connect()
        await self.break_off(client)
        with self.assertRaises(ConnectionResetError):
            await self.read(client)

    async def test_broken_off_when_all_is_taken(self) -> None:
        """It is reset at once if the client's kernel has everything."""
        client = await self.connect()
        self.server.transport.write(b"begun")
        await deferToThread(self.read_some, client, 5)
        await self.taken()
        self.server.close.broken_off = True
        self.server.close.begin()
        await self.server.gone
        self.assertEqual(self.clock.getDelayedCalls(), [])
        with self.assertRaises(ConnectionResetError):
            await self.read(client)

    async def test_broken_off_for_a_client_that_has_closed(self) -> None:
        """A client that has sent everything, and reads on, is told by the reset, too."""
        for before in (True, False):
            self.setUp()
            client = await self.connect()
            self.server.close.broken_off = True
            self.server.transport.write(MUCH)
            self.server.close.begin(client_has_closed=before)
            if not before:
                client.shutdown(socket.SHUT_WR)
                while not self.server.input_ended:
                    await self.turns()
            await deferToThread(self.read_some, client, len(MUCH))
            self.clock.advance(LINGER)
            await self.server.gone
            with self.assertRaises(ConnectionResetError):
                await self.read(client)

    async def test_closed_by_the_protocol(self) -> None:
        """What the protocol closes itself is flushed when its producer has finished, and then closes gracefully."""
        client = await self.connect()
        self.server.transport.write(MUCH)
        self.server.close.lose_connection(self.server.close.begin)
        self.assertTrue(self.server.transport.disconnecting)
        self.server.transport.unregisterProducer()
        client.sendall(b"hello")
        self.assertEqual(len(await self.read(client)), len(MUCH))
        await self.taken()
        self.assertEqual(self.server.received, b"hello")
        self.assertEqual(self.server.lost, [])
        self.clock.advance(LINGER)
        await self.server.gone
        self.assertTrue(self.server.lost[0].check(ConnectionDone))

    async def test_unix(self) -> None:
        """A unix socket ends in the same way."""
        client = await self.connect(f"unix:{short_folder(self) / 'socket'}")
        self.server.transport.write(MUCH)
        self.server.close.begin()
        self.assertEqual(len(await self.read(client)), len(MUCH))
        client.close()
        await self.server.gone

    async def test_haproxy(self) -> None:
        """Behind haproxy: a client's half-close is heard of too, and nothing is lost."""
        client = await self.connect("haproxy:tcp:0:interface=127.0.0.1")
        client.shutdown(socket.SHUT_WR)
        while not self.server.input_ended:
            await self.turns()
        await self.server.gone
        self.assertTrue(self.server.lost[0].check(ConnectionDone))

    async def test_haproxy_flush(self) -> None:
        """Behind haproxy: all that was written arrives."""
        client = await self.connect("haproxy:tcp:0:interface=127.0.0.1")
        self.server.transport.write(MUCH)
        self.server.close.begin()
        self.assertEqual(len(await self.read(client)), len(MUCH))
        client.close()
        await self.server.gone


class TLSCloseTests(ClosingTestCase):
    """TLS, which has no half-close."""

    async def test_broken_off(self) -> None:
        """An answer that was broken off ends without close_notify, behind all that was written of it."""
        client = await self.connect_with_tls()
        await self.break_off(client)
        client.suppress_ragged_eofs = False  # type: ignore[attr-defined] # of an SSLSocket
        with self.assertRaises((ConnectionResetError, ssl.SSLEOFError)):
            await self.read(client)

    async def test_closed_by_the_protocol(self) -> None:
        """What the protocol closes itself is closed when its client has answered close_notify."""
        client = await self.connect_with_tls()
        self.server.transport.write(b"bye")
        self.server.close.lose_connection(self.fail)
        self.server.transport.unregisterProducer()
        self.assertEqual(await self.read(client), b"bye")
        self.assertEqual(self.server.lost, [])
        client.close()
        await self.server.gone

    async def connect_with_tls(self) -> socket.socket:
        certificates = Certificates(Path(self.mktemp()))
        path = certificates.server
        plain = await self.connect(f"ssl:0:interface=127.0.0.1:privateKey={path}:certKey={path}")
        context = certificates.client_context()
        client = await deferToThread(context.wrap_socket, plain, server_hostname="127.0.0.1")
        while not self.server.transport._handshakeDone:
            # The client has done its part; until we have done ours, nothing that is written goes out.
            await self.turns()
        self.addCleanup(client.close)
        return client

    async def test_flush(self) -> None:
        """All that was written arrives, then close_notify; a client that closes then is waited for no longer."""
        client = await self.connect_with_tls()
        self.server.transport.write(MUCH)
        self.server.close.begin()
        self.assertEqual(len(await self.read(client)), len(MUCH))
        await self.turns()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        client.close()
        await self.server.gone
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_linger(self) -> None:
        """A client that does not close is closed when its linger is over."""
        client = await self.connect_with_tls()
        self.server.transport.write(b"bye")
        self.server.close.begin()
        self.assertEqual(await self.read(client), b"bye")
        await self.taken()
        self.clock.advance(LINGER)
        await self.server.gone

    async def test_kernel_holds_bytes(self) -> None:
        """While the client's kernel has not taken everything, the linger begins again."""
        client = await self.connect_with_tls()
        await self.turns()
        self.server.transport.write(SOME)
        self.server.close.begin()
        await self.sent()
        for _ in range(5):
            self.clock.advance(LINGER)
        await self.turns()
        self.assertEqual(self.server.lost, [])
        client.sendall(b"hello")
        self.assertEqual(len(await self.read(client)), len(SOME))
        await self.taken()
        self.clock.advance(LINGER)
        await self.server.gone

    async def test_end(self) -> None:
        """The end cuts off a client that does not read."""
        await self.connect_with_tls()
        self.server.transport.write(MUCH)
        await self.turns()
        self.server.close.begin()
        await self.turns()
        self.assertTrue(self.server.close.has_unsent())
        self.server.close.close_now()
        await self.server.gone

    async def test_end_when_all_is_sent(self) -> None:
        """The end of a connection whose bytes are out loses none of them."""
        client = await self.connect_with_tls()
        self.server.transport.write(b"x" * 100_000)
        self.server.close.begin()
        await self.turns()
        self.assertEqual(unsent_bytes(self.server.transport), 0)
        self.server.close.close_now()
        await self.server.gone
        self.assertEqual(len(await self.read(client)), 100_000)

    async def test_end_before_the_flush(self) -> None:
        """Bytes that TLS has not even encrypted yet count as lost too."""
        await self.connect_with_tls()
        self.server.transport.write(b"x")
        self.assertTrue(self.server.close.has_unsent())
        self.server.close.close_now()
        await self.server.gone

    async def test_unfinished_handshake(self) -> None:
        """A client that never finishes its handshake is closed after the linger, though it could be told nothing."""
        path = Certificates(Path(self.mktemp())).server
        await self.connect(f"ssl:0:interface=127.0.0.1:privateKey={path}:certKey={path}")
        self.server.transport.write(b"too many connections")
        await self.turns()
        self.server.close.begin()
        await self.turns()
        self.clock.advance(LINGER)
        await self.server.gone

    async def test_no_half_close(self) -> None:
        """A half-close is not passed on by TLS: it ends the connection."""
        client = await self.connect_with_tls()
        client.shutdown(socket.SHUT_WR)
        await self.server.gone
        self.assertFalse(self.server.input_ended)


class ReadWaitingTests(ClosingTestCase):
    """What has arrived in the kernel."""

    async def test_read(self) -> None:
        """It is read in this turn, and its protocol gets it."""
        client = await self.connect()
        # No turn of the reactor passes between these.
        client.sendall(b"hello")
        read_waiting(self.server.transport)
        self.assertEqual(self.server.received, b"hello")
        read_waiting(self.server.transport)
        self.assertEqual(self.server.received, b"hello")

    async def test_flood(self) -> None:
        """A client that floods is read from a bounded number of times."""
        client = await self.connect()
        received = self.server.dataReceived

        def flood(data: bytes) -> None:
            received(data)
            client.sendall(b"x")

        self.server.dataReceived = flood  # type: ignore[method-assign] # it answers from the test
        client.sendall(b"x")
        self.assertTrue(read_waiting(self.server.transport))
        self.assertEqual(len(self.server.received), 16)
        self.server.dataReceived = received  # type: ignore[method-assign] # as before

    async def test_end_of_input(self) -> None:
        """The end of input is left for the reactor to find."""
        client = await self.connect()
        client.sendall(b"bye")
        client.shutdown(socket.SHUT_WR)
        read_waiting(self.server.transport)
        self.assertEqual((self.server.received, self.server.input_ended), (b"bye", False))
        await self.server.gone

    async def test_lost(self) -> None:
        """A connection that is lost is not read."""
        client = await self.connect()
        transport = self.server.transport
        client.sendall(b"hello")
        transport.abortConnection()
        await self.server.gone
        read_waiting(transport)
        self.assertEqual(self.server.received, b"")

    async def test_lost_while_reading(self) -> None:
        """A connection that its protocol ends while it is read is not read further."""
        client = await self.connect()
        transport = self.server.transport

        def lose(data: bytes) -> None:
            transport.connectionLost(Failure(ConnectionDone()))

        self.server.dataReceived = lose  # type: ignore[method-assign] # on purpose
        client.sendall(b"hello")
        read_waiting(transport)
        self.assertEqual(len(self.server.lost), 1)

    async def test_no_descriptor(self) -> None:
        """A transport whose descriptor tells nothing is not read."""
        await self.connect()
        transport = self.server.transport
        descriptor, transport.fileno = transport.fileno, lambda: -1
        read_waiting(transport)
        transport.fileno = descriptor
        self.assertEqual(self.server.received, b"")


class MemoryTests(SynchronousTestCase):
    """Transports that are not of the kernel."""

    def test_not_known(self) -> None:
        """Of a transport in memory nothing is unsent, and nothing waits."""
        transport = StringTransport()
        transport.write(b"x")
        self.assertEqual(unsent_bytes(transport), 0)
        self.assertFalse(read_waiting(transport))
        hold_back(transport)
        restore_half_close(transport, Protocol())

    def test_close(self) -> None:
        """Closing one is immediate, but for its linger."""
        clock, house = Clock(), House()
        transport = MemoryTransport()
        transport.protocol = house.connect().protocol
        transport.registerProducer(house, True)
        close = GracefulClose(transport, clock, LINGER)
        close.begin()
        self.assertEqual((transport.half_closed, transport.closed), (True, False))
        close.stopProducing()
        clock.advance(LINGER)
        self.assertTrue(transport.closed)
        close.closed()
