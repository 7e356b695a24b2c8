"""What ``handover`` relies on in Twisted's private names, on its real classes: it fails when Twisted changes it."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor, tcp, unix
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, TCP4ServerEndpoint, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.paths import short_folder
from twisted_node.handover._twisted import (
    innermost_endpoint,
    keep_only_copy,
    leave_path_alone,
    listen_with,
    own_socket,
    reactor_of,
)

REACTOR: Any = reactor


class PathTests(TestCase):
    """A unix port and its path."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "s")

    async def test_leave_path_alone(self) -> None:
        """A port that is told so does not remove its path."""
        port = REACTOR.listenUNIX(os.fspath(self.path), Factory())
        leave_path_alone(port)
        await port.stopListening()
        self.assertTrue(self.path.exists())

    async def test_removes_its_path(self) -> None:
        """Otherwise it does, so that the way around it is still needed."""
        port = REACTOR.listenUNIX(os.fspath(self.path), Factory())
        await port.stopListening()
        self.assertFalse(self.path.exists())

    async def test_shared(self) -> None:
        """A socket that another process listens on too stays open there, and keeps its path."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(os.fspath(self.path))
        listening.listen()
        port = REACTOR.adoptStreamPort(listening.fileno(), socket.AF_UNIX, Factory())
        leave_path_alone(port, shared=True)
        await port.stopListening()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(self.path))

    def test_name_of_its_path(self) -> None:
        """The address of a port is its path."""
        port: tcp.Port = REACTOR.listenUNIX(os.fspath(self.path), Factory())
        self.addCleanup(port.stopListening)
        self.assertEqual(port.getHost().name, os.fsencode(self.path))


class EndpointTests(SynchronousTestCase):
    """Endpoints that wrap another."""

    def test_innermost_endpoint(self) -> None:
        """What a balancer's protocol is wrapped around is found."""
        self.assertIsInstance(innermost_endpoint(serverFromString(REACTOR, "haproxy:tcp:0")), TCP4ServerEndpoint)

    def test_not_wrapped(self) -> None:
        """One that is not wrapped is its own innermost."""
        endpoint = serverFromString(REACTOR, "tcp:0")
        self.assertIs(innermost_endpoint(endpoint), endpoint)


class SharedSocketTests(TestCase):
    """Listening sockets that two processes have."""

    timeout = 20

    def factory(self) -> Any:
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        return factory

    def test_reactor_of(self) -> None:
        """It is found in every kind of endpoint, and in what stands in for it."""
        for description in ("tcp:0", "haproxy:tcp:0", "unix:x", r"tcp6:0:interface=\:\:1"):
            place = reactor_of(serverFromString(reactor, description))
            assert place is not None
            holder, name, found = place
            self.assertIs(found, reactor)
            self.assertIs(getattr(holder, name), reactor)
        adopted = reactor_of(AdoptedStreamServerEndpoint(reactor, 0, socket.AF_INET))
        assert adopted is not None
        self.assertEqual((adopted[1], adopted[2]), ("reactor", reactor))
        self.assertIsNone(reactor_of(object()))

    async def test_tcp(self) -> None:
        """A port that only has a copy closes that; the socket goes on listening, and then ends with its own port."""
        listening = socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        copy = listening.dup()
        first = listen_with(tcp.Port(0, self.factory(), reactor=REACTOR), copy)
        self.assertEqual(first.getHost().port, address[1])
        self.assertNotIn(first, REACTOR.getReaders())
        await first.stopListening()
        socket.create_connection(address).close()
        second = listen_with(tcp.Port(0, self.factory(), reactor=REACTOR), listening.dup())
        own_socket(second, b"", locked=False)
        await second.stopListening()
        # It was shut down, which ends it for all who have it.
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(address)
        listening.close()

    async def test_own_socket_is_kept(self) -> None:
        """A port that has bound its address itself leaves socket, path and lock to another process."""
        path = str(short_folder(self) / "socket").encode()
        port = REACTOR.listenUNIX(path, self.factory(), wantPID=True)
        copy = port.socket.dup()
        keep_only_copy(port)
        await port.stopListening()
        self.assertTrue(os.path.lexists(path + b".lock"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        adopted = unix.Port(path, self.factory(), reactor=REACTOR)
        leave_path_alone(adopted, shared=True)
        listen_with(adopted, copy)
        own_socket(adopted, path, locked=True)
        await adopted.stopListening()
        self.assertFalse(os.path.exists(path) or os.path.lexists(path + b".lock"))

    async def test_own_path_without_a_lock(self) -> None:
        """A path without a lock gets none."""
        path = str(short_folder(self) / "socket").encode()
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen()
        port = unix.Port(path, self.factory(), reactor=REACTOR)
        own_socket(listen_with(port, listening), path, locked=False)
        self.assertFalse(os.path.lexists(path + b".lock"))
        await port.stopListening()
        self.assertFalse(os.path.exists(path))
