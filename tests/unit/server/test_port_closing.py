"""Closing a listening port: whoever waits in its queue is served, and nobody is reset."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.task import deferLater

from tests.support.listening import TCP, Greeter, ListeningTestCase
from tests.support.paths import short_folder
from twisted_node.server import _door as door
from twisted_node.server import _port_closing as port_closing

# Its interfaces depend on the platform.
reactor: Any = _reactor


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
        port_closing._refuse_new(Port())  # type: ignore[arg-type] # what is needed of one

    async def test_refused_by_the_factory(self) -> None:
        """One that the factory does not want does not keep the others from being served."""
        listener = self.open(TCP)
        clients = [self.client(listener.host) for _ in range(3)]
        wanted = iter((False, True, True))
        build: Any = listener.factory.buildProtocol
        listener.factory.buildProtocol = lambda addr: build(addr) if next(wanted) else None  # type: ignore[method-assign] # a factory that refuses
        await listener.close()
        self.assertEqual([await self.read(client) for client in clients], [b"", b"hello", b"hello"])
