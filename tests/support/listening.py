"""Listeners on real sockets, which greet."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from twisted_node.server._listening import Listener

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
