"""Closing a listening port: whoever waits in its queue is served, and nobody is reset."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.haproxy import proxyEndpoint
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support.paths import short_folder
from twisted_node.server import _door as door
from twisted_node.server import _listening as listening
from twisted_node.server._listening import Listener
from twisted_node.testing import MemoryEndpoint

# Its interfaces depend on the platform.
reactor: Any = _reactor

TCP = "tcp:0:interface=127.0.0.1:backlog=200"


class Greeter(Protocol):
    """Says hello."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


class ListeningTestCase(TestCase):
    """Listeners on real sockets. Nothing is accepted by the reactor until a test lets it run."""

    timeout = 20

    def factory(self) -> Any:
        factory = Factory.forProtocol(Greeter)
        factory.noisy = False
        return factory

    def open(self, description: str) -> Listener:
        return self.open_endpoint(serverFromString(reactor, description))

    def open_endpoint(self, endpoint: IStreamServerEndpoint) -> Listener:
        listener = Listener(endpoint, self.factory(), reactor, patience=0)
        listener.open()
        self.addCleanup(listener.close)
        return listener

    def client(self, address: Any) -> socket.socket:
        """A client whose connection is complete, as far as the kernel is concerned."""
        client = self.unconnected(address)
        client.connect(getattr(address, "name", None) or (address.host, address.port))
        return client

    def unconnected(self, address: Any) -> socket.socket:
        client = socket.socket(socket.AF_UNIX if isinstance(address, UNIXAddress) else socket.AF_INET)
        client.settimeout(self.timeout)
        self.addCleanup(client.close)
        return client

    async def read(self, client: socket.socket) -> bytes:
        """What a client gets, while the reactor runs."""
        return await deferToThread(client.recv, 100)

    async def check_queue(self, description: str, count: int = 100) -> None:
        """All that wait in the queue are served."""
        listener = self.open(description)
        clients = [self.client(listener.host) for _ in range(count)]
        await listener.close()
        self.assertEqual([await self.read(client) for client in clients], [b"hello"] * count)
        refused = self.unconnected(listener.host)
        with self.assertRaises((ConnectionRefusedError, FileNotFoundError)):
            refused.connect(getattr(listener.host, "name", None) or (listener.host.host, listener.host.port))  # type: ignore[union-attr] # one of both


class AcceptQueueTests(ListeningTestCase):
    """Connections that nobody has accepted yet."""

    async def test_tcp(self) -> None:
        """On TCP they are all served, and later ones refused."""
        await self.check_queue(TCP)

    async def test_unix(self) -> None:
        """On a unix socket they are too, and the path is removed."""
        path = short_folder(self) / "socket"
        await self.check_queue(f"unix:{path}:backlog=200")
        self.assertFalse(path.exists())

    async def test_unix_door(self) -> None:
        """A unix socket refuses new ones in the same turn, before it is closed."""
        path = short_folder(self) / "socket"
        listener = self.open(f"unix:{path}")
        closing = listener.close()
        self.assertRaises(ConnectionRefusedError, self.client, UNIXAddress(os.fsencode(path)))
        await closing

    async def test_tcp_door(self) -> None:
        """On TCP a connection attempt made in the same turn is not completed."""
        listener = self.open(TCP)
        client = self.unconnected(listener.host)
        client.setblocking(False)
        closing = listener.close()
        host: Any = listener.host
        self.assertEqual(client.connect_ex((host.host, host.port)), errno.EINPROGRESS)
        with self.assertRaises(OSError):
            client.getpeername()
        await closing

    async def test_elsewhere(self) -> None:
        """Where new connections cannot be held off, those that wait are served all the same."""
        self.patch(door, "_ON_LINUX", False)
        await self.check_queue(TCP)
        await self.check_queue(f"unix:{short_folder(self) / 'socket'}:backlog=200")

    async def test_bounded(self) -> None:
        """There, no storm keeps the port from closing: a bounded number is accepted."""
        self.patch(door, "_ON_LINUX", False)
        listener = self.open("tcp:0:interface=127.0.0.1:backlog=3")
        served = 0

        class Stormy(Greeter):
            def connectionMade(self) -> None:
                nonlocal served
                served += 1
                clients.append(test.client(listener.host))
                super().connectionMade()

        test, clients = self, [self.client(listener.host)]
        listener.factory.protocol = Stormy  # type: ignore[attr-defined] # it is a Factory
        await listener.close()
        self.assertGreaterEqual(served, 3)
        # One more than the backlog, when the door was to be shut, and again when the port closed.
        self.assertLessEqual(served, 8)
        await deferLater(reactor, 0.01)

    async def test_filter_refused(self) -> None:
        """Where there may be no filter, those that wait are served, and later ones refused, all the same."""
        self.patch(door, "_SO_ATTACH_FILTER", 9999)
        await self.check_queue(TCP)

    async def test_filter_and_decoy_refused(self) -> None:
        """A kernel that knows neither costs no more than a line in the log."""
        self.patch(door, "_SO_ATTACH_FILTER", 9999)
        self.patch(door, "_SO_ATTACH_REUSEPORT_CBPF", 9999)
        await self.check_queue(TCP)

    def test_unix_door_stays_open(self) -> None:
        """Where a unix socket cannot refuse new ones, that costs no more than a line in the log."""

        class Port:
            socket = socket.socket(socket.AF_UNIX)

        Port.socket.close()
        listening._refuse_new(Port())  # type: ignore[arg-type] # what is needed of one

    async def test_refused_by_the_factory(self) -> None:
        """One that the factory does not want does not keep the others from being served."""
        listener = self.open(TCP)
        clients = [self.client(listener.host) for _ in range(3)]
        wanted = iter((False, True, True))
        build: Any = listener.factory.buildProtocol
        listener.factory.buildProtocol = lambda addr: build(addr) if next(wanted) else None  # type: ignore[method-assign] # a factory that refuses
        await listener.close()
        self.assertEqual([await self.read(client) for client in clients], [b"", b"hello", b"hello"])


class AdoptedTests(ListeningTestCase):
    """Sockets that another process holds too."""

    def adopt(self, listening_socket: socket.socket) -> AdoptedStreamServerEndpoint:
        self.addCleanup(listening_socket.close)
        listening_socket.listen(10)
        listening_socket.setblocking(False)
        return AdoptedStreamServerEndpoint(reactor, os.dup(listening_socket.fileno()), listening_socket.family)

    async def test_tcp(self) -> None:
        """Their queue is left to their owner."""
        owner = socket.socket()
        owner.bind(("127.0.0.1", 0))
        listener = self.open_endpoint(self.adopt(owner))
        client = self.client(listener.host)
        await listener.close()
        accepted, _ = owner.accept()
        accepted.sendall(b"from the owner")
        accepted.close()
        self.assertEqual(client.recv(100), b"from the owner")

    async def test_wrapped(self) -> None:
        """So it is behind a balancer's protocol."""
        owner = socket.socket()
        owner.bind(("127.0.0.1", 0))
        listener = self.open_endpoint(proxyEndpoint(self.adopt(owner)))
        client = self.client(listener.host)
        await listener.close()
        owner.accept()[0].close()
        self.assertEqual(client.recv(100), b"")

    async def test_unix(self) -> None:
        """So are the path and the mode of a unix one."""
        path = short_folder(self) / "socket"
        owner = socket.socket(socket.AF_UNIX)
        owner.bind(str(path))
        path.chmod(0o600)
        listener = self.open_endpoint(self.adopt(owner))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        client = self.client(listener.host)
        await listener.close()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        accepted, _ = owner.accept()
        accepted.close()
        self.assertEqual(client.recv(100), b"")
        self.client(UNIXAddress(os.fsencode(path)))

    async def test_abstract_unix(self) -> None:
        """An abstract one has no path, and no mode to keep."""
        owner = socket.socket(socket.AF_UNIX)
        owner.bind(f"\0twisted-node-test-{os.getpid()}")
        listener = self.open_endpoint(self.adopt(owner))
        client = self.client(listener.host)
        await listener.close()
        accepted, _ = owner.accept()
        accepted.close()
        self.assertEqual(await self.read(client), b"")


class OwnPathTests(ListeningTestCase):
    """The path of our own unix socket."""

    async def test_removed(self) -> None:
        """If somebody has removed it, the socket closes all the same."""
        path = short_folder(self) / "socket"
        listener = self.open(f"unix:{path}")
        client = self.client(listener.host)
        path.unlink()
        await listener.close()
        self.assertEqual(await self.read(client), b"hello")

    async def test_taken(self) -> None:
        """If it has become somebody else's, it stays theirs."""
        path = short_folder(self) / "socket"
        listener = self.open(f"unix:{path}:lockfile=0")
        path.unlink()
        successor = self.open(f"unix:{path}:lockfile=0")
        await listener.close()
        client = self.client(successor.host)
        await successor.close()
        self.assertEqual(await self.read(client), b"hello")
        self.assertFalse(path.exists())

    async def test_no_socket(self) -> None:
        """If it has become a plain file, that stays."""
        path = short_folder(self) / "socket"
        listener = self.open(f"unix:{path}")
        path.unlink()
        path.write_text("mine")
        await listener.close()
        self.assertEqual(path.read_text(), "mine")


@implementer(IStreamServerEndpoint)
class SlowEndpoint:
    """An endpoint that takes its time to listen."""

    def __init__(self) -> None:
        self.listening: Deferred[IListeningPort] = Deferred()

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self.listening


class LifeTests(ListeningTestCase):
    """A listener's life."""

    def test_never_opened(self) -> None:
        """One that was not opened has nothing to close."""
        self.successResultOf(Listener(MemoryEndpoint(), self.factory(), reactor, patience=0).close())

    def test_twice(self) -> None:
        """Closing again does nothing."""
        listener = self.open_endpoint(MemoryEndpoint())
        self.successResultOf(listener.close())
        self.successResultOf(listener.close())

    def test_cannot_listen(self) -> None:
        """What cannot be listened to is told by the endpoint's own error."""
        taken: Any = self.open(TCP).host
        second = Listener(
            serverFromString(reactor, f"tcp:{taken.port}:interface=127.0.0.1"), self.factory(), reactor, patience=0
        )
        self.assertRaises(CannotListenError, second.open)
        self.assertIsNone(second.host)

    def test_close_fails(self) -> None:
        """A port that does not close is logged, and holds nobody up."""

        class Stuck:
            def getHost(self) -> str:
                return "somewhere"

            def stopListening(self) -> Deferred[None]:
                return fail(ValueError("stuck"))

        endpoint = SlowEndpoint()
        endpoint.listening = succeed(Stuck())  # type: ignore[arg-type] # what is needed of one
        self.successResultOf(self.open_endpoint(endpoint).close())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_closed_while_opening(self) -> None:
        """One that is closed before it listens does not listen afterwards."""
        endpoint, memory = SlowEndpoint(), MemoryEndpoint()
        listener = Listener(endpoint, self.factory(), reactor, patience=0)
        listener.open()
        self.successResultOf(listener.close())
        endpoint.listening.callback(await memory.listen(self.factory()))
        self.assertRaises(ConnectionRefusedError, memory.connect)

    async def test_opened_again(self) -> None:
        """One that was closed may be opened again."""
        listener = self.open(TCP)
        await listener.close()
        listener.open()
        client = self.client(listener.host)
        await listener.close()
        self.assertEqual(await self.read(client), b"hello")
