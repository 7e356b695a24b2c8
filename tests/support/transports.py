"""A server's side of a connection, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure


class MemoryTransport(StringTransport):
    """What a protocol writes, and how its connection ends.

    Args:
        clock: on it the loss is told one turn later, as by a real connection; without a clock it is told at once.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 4711))
        self.clock = clock
        self.half_closed = False
        self.closed = False
        self.aborted = False
        self.protocol: Any = None

    def connect(self, protocol: Any) -> None:
        """Connect a protocol."""
        self.protocol = protocol
        protocol.makeConnection(self)

    def receive(self, data: bytes) -> None:
        """Have the client send something; a closing connection reads no more."""
        if not self.disconnecting:
            self.protocol.dataReceived(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        written: bytes = self.value()
        self.clear()
        return written

    def is_closing(self) -> bool:
        """Whether the server takes nothing more."""
        return self.half_closed or self.disconnecting

    def leave(self) -> None:
        """Have the client close."""
        self._lose(ConnectionDone())

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._lose_soon(ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True
        self._lose_soon(ConnectionAborted())

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.producerState = "paused"

    def resumeProducing(self) -> None:
        self.producerState = "producing"

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing, as asked of TCP only."""

    def _lose_soon(self, error: Exception) -> None:
        if self.clock is None:
            self._lose(error)
        else:
            self.clock.callLater(0, self._lose, error)

    def _lose(self, error: Exception) -> None:
        if not self.closed:
            self.closed = True
            producer = self.producer
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(Failure(error))
