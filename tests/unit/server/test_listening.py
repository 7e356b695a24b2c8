"""One listening port: whose socket it has, and its life from opening to closing."""

from __future__ import annotations

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
from twisted.protocols.haproxy import proxyEndpoint
from zope.interface import implementer

from tests.support.listening import TCP, ListeningTestCase
from tests.support.paths import short_folder
from twisted_node.server._listening import Listener
from twisted_node.testing import MemoryEndpoint

# Its interfaces depend on the platform.
reactor: Any = _reactor


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
