"""A service in memory that listens with any factory, and a protocol that says nothing of itself."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.transports import MemoryTransport
from twisted_node import Drain, DrainingService


class Plain(Protocol):
    """Nothing is known of it."""

    def __init__(self) -> None:
        self.received = b""
        self.losses = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.losses += 1


class PlainFactory(Factory):
    """Makes them, and notes when it is stopped."""

    noisy = False
    running = False
    wanted = True

    def __init__(self, protocol: Any = Plain) -> None:
        self.make = protocol

    def buildProtocol(self, addr: Any) -> Any:
        return self.make() if self.wanted else None

    def startFactory(self) -> None:
        self.running = True

    def stopFactory(self) -> None:
        self.running = False


class AnyFactoryTestCase(SynchronousTestCase):
    """A service with a drain of 10 s and a linger of 1 s."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(self.drain, drain_timeout=10)

    def listen(self, factory: Any) -> Any:
        """Have the service listen; return the factory that makes what it listens with."""
        return self.service.listen(TCP4ServerEndpoint(MemoryReactorClock(), 0), factory).factory

    def connect(self, factory: Any) -> MemoryTransport:
        transport = MemoryTransport(self.clock)
        transport.connect(factory.buildProtocol(transport.getPeer()))
        return transport

    def check_ended(self, ended: Deferred[Any], **counts: int) -> None:
        """The service has ended, with these counts and no timer left."""
        statistics = self.successResultOf(ended)
        for name, count in counts.items():
            self.assertEqual(getattr(statistics, name), count, name)
        self.assertEqual(self.clock.getDelayedCalls(), [])
