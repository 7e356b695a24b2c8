"""Endpoints that listen with the sockets that a predecessor handed on, on Twisted's real reactor."""

from __future__ import annotations

import os
import socket
import stat
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support.certificates import Certificates
from tests.support.paths import short_folder
from twisted_node.handover import _inheritance, _line
from twisted_node.handover._adopting import adopting
from twisted_node.handover._inheritance import Inheritance
from twisted_node.server._listening import Listener, open_listeners
from twisted_node.testing import MemoryEndpoint

# Its interfaces depend on the platform.
reactor: Any = _reactor


class Greeter(Protocol):
    """Says hello."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


class AdoptingTestCase(TestCase):
    """A process, and its predecessor, both of them this one."""

    timeout = 20

    def setUp(self) -> None:
        self.folder = short_folder(self)
        self.patch(_line, "_kept", set())
        self.patch(_inheritance, "inherited", Inheritance())

    def open(self, endpoint: str | IStreamServerEndpoint) -> Listener:
        if isinstance(endpoint, str):
            endpoint = serverFromString(reactor, endpoint)
        factory = Factory.forProtocol(Greeter)
        factory.noisy = False
        # mypy does not see that it is one.
        listener = Listener(endpoint, factory, reactor, patience=0)  # type: ignore[arg-type]
        listener.open()
        self.addCleanup(listener.close)
        return listener

    def hand_on(self, *listeners: Listener) -> Inheritance:
        """Let the listeners that are opened from now on have the sockets of these."""
        line, other_end = socket.socketpair()
        self.addCleanup(line.close)
        self.addCleanup(other_end.close)
        self.line = other_end
        handed = [(str(listener.asked), os.dup(listener.fileno())) for listener in listeners]
        inheritance = Inheritance(handed, line.fileno(), os.getpid())
        self.addCleanup(inheritance.close_rest)
        self.patch(_inheritance, "inherited", inheritance)
        return inheritance

    def greeted(self, address: Any) -> Deferred[bytes]:
        """Connect, and read what comes; empty if nothing does."""

        def connect() -> bytes:
            with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
                client.settimeout(0.3)
                client.connect(address)
                try:
                    return client.recv(100)
                except TimeoutError:
                    return b""

        return deferToThread(connect)


class AdoptingTests(AdoptingTestCase):
    """Every kind of endpoint."""

    def check(self, description: str) -> None:
        """The socket of the first is that of the second."""
        first = self.open(description)
        self.hand_on(first)
        second = self.open(description)
        self.assertEqual((second.asked, second.host), (first.asked, first.host))
        inodes = [os.fstat(listener.fileno()).st_ino for listener in (first, second)]
        self.assertEqual(inodes[0], inodes[1])

    def test_tcp(self) -> None:
        """TCP, on a port of the kernel's choice, and behind a proxy."""
        self.check("tcp:0:interface=127.0.0.1")
        self.check("haproxy:tcp:0:interface=127.0.0.1")

    def test_tcp6(self) -> None:
        """TCP over IPv6."""
        self.check(r"tcp6:0:interface=\:\:1")

    def test_tls(self) -> None:
        """TLS."""
        certificates = Certificates(self.folder)
        self.check(f"ssl:0:interface=127.0.0.1:privateKey={certificates.server}")

    def test_unix(self) -> None:
        """A unix socket, with and without a lock."""
        self.check(f"unix:{self.folder}/locked")
        self.check(f"unix:{self.folder}/open:lockfile=0")

    def test_another_address(self) -> None:
        """What was asked for in another way is bound anew."""
        first = self.open("tcp:0:interface=127.0.0.1")
        inheritance = self.hand_on(first)
        second = self.open("tcp:0:interface=127.0.0.2")
        self.assertNotEqual(second.host, first.host)
        self.assertEqual(inheritance.taken, [])

    def test_opened_by_somebody_else(self) -> None:
        """Of a socket that somebody else has opened the number is known."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            number = os.dup(listening.fileno())
            listener = self.open(AdoptedStreamServerEndpoint(reactor, number, socket.AF_INET))
            self.assertEqual((listener.asked, listener.descriptor), (None, number))

    def test_no_reactor(self) -> None:
        """An endpoint that asks no reactor has nothing adopted, and no descriptor."""
        with adopting(MemoryEndpoint(), Inheritance()) as stand_in:
            self.assertIsNone(stand_in)
        listener = self.open(MemoryEndpoint())
        self.assertEqual((listener.asked, listener.descriptor, listener.fileno()), (None, None, -1))

    def test_attributes(self) -> None:
        """The stand-in is otherwise the reactor; the endpoint has that back afterwards."""
        endpoint: Any = serverFromString(reactor, "tcp:0")
        with adopting(endpoint, Inheritance()) as stand_in:
            assert stand_in is not None
            self.assertIs(endpoint._reactor, stand_in)
            self.assertEqual(stand_in.callLater, reactor.callLater)
        self.assertIs(endpoint._reactor, reactor)


class OurTurnTests(AdoptingTestCase):
    """Who accepts, and what is whose."""

    @inlineCallbacks
    def test_tcp(self) -> Any:
        """Nothing is accepted before it is our turn; then the connections that wait are."""
        first = self.open("tcp:0:interface=127.0.0.1")
        inheritance = self.hand_on(first)
        second, new = self.open("tcp:0:interface=127.0.0.1"), self.open("tcp:0:interface=127.0.0.1")
        host: Any = first.host
        added: Any = new.host
        first.leave_to_successor()
        self.assertFalse(first.is_open)
        for port in (host.port, added.port):
            self.assertEqual((yield self.greeted(("127.0.0.1", port))), b"")
        waiting = [self.greeted(("127.0.0.1", port)) for port in (host.port, added.port)]
        yield deferLater(reactor, 0.05)
        inheritance.begin()
        for greeted in waiting:
            self.assertEqual((yield greeted), b"hello")
        yield second.close()
        with self.assertRaises(ConnectionRefusedError):
            yield self.greeted(("127.0.0.1", host.port))
        yield first.close()

    @inlineCallbacks
    def test_unix(self) -> Any:
        """The path and its lock are the predecessor's until it is our turn; then they are ours, and go with us."""
        path = f"{self.folder}/socket"
        first = self.open(f"unix:{path}:mode=600")
        inheritance = self.hand_on(first)
        second = self.open(f"unix:{path}:mode=666")
        first.leave_to_successor()
        yield deferLater(reactor, 0)
        os.unlink(f"{path}.lock")
        os.symlink("1", f"{path}.lock")
        inheritance.begin()
        self.assertEqual(os.readlink(f"{path}.lock"), str(os.getpid()))
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual((yield self.greeted(path)), b"hello")
        yield second.close()
        self.assertEqual(list(self.folder.iterdir()), [])

    @inlineCallbacks
    def test_unix_before(self) -> Any:
        """One that closes before it is our turn leaves everything to the predecessor."""
        path = f"{self.folder}/socket"
        first = self.open(f"unix:{path}")
        inheritance = self.hand_on(first)
        second = self.open(f"unix:{path}")
        yield second.close()
        inheritance.begin()
        self.assertEqual((yield self.greeted(path)), b"hello")
        self.assertEqual(len(list(self.folder.iterdir())), 2)

    @inlineCallbacks
    def test_lock_cannot_be_written(self) -> Any:
        """A folder that became read-only costs the lock, with a word in the log."""
        path = f"{self.folder}/socket"
        first = self.open(f"unix:{path}")
        inheritance = self.hand_on(first)
        second = self.open(f"unix:{path}")
        first.leave_to_successor()
        # An earlier attempt that was killed has left this.
        os.symlink("1", f"{path}.lock.{os.getpid()}")
        with capturedLogs() as logs:
            inheritance.begin()
        self.assertIn("File exists", next(str(event["error"]) for event in logs if "error" in event))
        self.assertEqual((yield self.greeted(path)), b"hello")
        yield second.close()
        self.assertFalse(os.path.exists(path))

    def test_failures_are_told(self) -> None:
        """A predecessor is told which listener of ours could not be opened, and why."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.hand_on()
            description = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            with self.assertRaises(CannotListenError):
                self.open(description)
            self.assertIn(b"failed Couldn't listen on 127.0.0.1", self.line.recv(1000))

    def test_late(self) -> None:
        """We are not ready before an endpoint that needs its time listens; its port does not accept yet."""
        port: Deferred[IListeningPort] = Deferred()

        @implementer(IStreamServerEndpoint)
        class Late:
            def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
                return port

        inheritance = self.hand_on()
        listener = self.open(Late())
        (needed,) = inheritance.needed
        self.assertNoResult(needed)
        port.callback(self.successResultOf(MemoryEndpoint().listen(Factory())))
        self.successResultOf(needed)
        self.assertTrue(listener.is_open)

    def test_closed_copies(self) -> None:
        """To leave twice, or what is not open, does nothing."""
        listener = Listener(MemoryEndpoint(), Factory(), reactor, patience=0)
        listener.leave_to_successor()
        self.assertNotIn(listener, open_listeners())
        self.successResultOf(listener.close())
