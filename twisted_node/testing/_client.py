"""One connection in memory: a client for the test, and a transport for the server's protocol."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_node.testing._turns import Turns

__all__ = ["MemoryClient"]


@implementer(ITCPTransport)
class MemoryClient(FileDescriptor):
    """A client, and the transport of the server's protocol that serves it.

    What the server writes arrives at once, unless the client does not read. When the server closes its half of the
    connection, the client closes the other half, as most clients do, unless ``lingers`` is set. There is no kernel in
    between, and so no buffer: what the client has not read is in the server's process.

    Args:
        turns: moves the bytes.
    """

    def __init__(self, turns: Turns) -> None:
        # All of a reactor that a connection needs.
        reactor: Any = turns
        super().__init__(reactor)
        #: Whether the client leaves its half open after the server has closed its own.
        self.lingers = False
        #: All that the client has read.
        self.received = b""
        #: Whether the server has closed its half: it writes no more.
        self.closed = False
        #: Whether both halves are closed.
        self.gone = False
        #: Whether the server has aborted the connection: the client's last read fails.
        self.aborted = False
        #: What the bytes are for; a protocol may put another in its place, as on a socket.
        self.protocol: Any = None
        self._turns = turns
        self._disconnecting = False
        # How many bytes the client still reads; None if all that come.
        self._will_read: int | None = None
        self._unread: list[bytes] = []
        self._input_ended = False

    # For the test.

    def send(self, data: bytes) -> None:
        """Send bytes; while the server does not read, they wait."""
        with self._turns:
            self._unread.append(data)

    def lines(self) -> list[bytes]:
        """Split what was received into its lines."""
        return self.received.splitlines()

    def stop_reading(self, after: int = 0) -> None:
        """Stop reading: what the server writes then stays with the server.

        Args:
            after: bytes that are still read.
        """
        with self._turns:
            self._will_read = after

    def start_reading(self) -> None:
        """Read again, and first what has been written in the meantime."""
        with self._turns:
            self._will_read = None

    def half_close(self) -> None:
        """Close the client's half; the client goes on reading."""
        with self._turns:
            self._input_ended = True

    def close(self) -> None:
        """Close the connection."""
        self._lose(ConnectionDone())

    # For the server's protocol.

    @property
    def disconnecting(self) -> bool:
        """Whether the server closes as soon as all that it has written was read."""
        return self._disconnecting

    @disconnecting.setter
    def disconnecting(self, value: int) -> None:
        # ``loseConnection`` sets it last, and expects to be called back later than that.
        self._disconnecting = bool(value)
        self.startWriting()

    def abortConnection(self) -> None:
        """Abort the connection from the server's side."""
        self.aborted = not self.gone
        self._lose(ConnectionAborted())

    def getPeer(self) -> IPv4Address:
        """Return the client's address, which is made up."""
        return IPv4Address("TCP", "192.0.2.1", 50000)

    def getHost(self) -> IPv4Address:
        """Return the server's address, which is made up."""
        return IPv4Address("TCP", "192.0.2.2", 80)

    def getTcpNoDelay(self) -> bool:
        """Return True; in memory it changes nothing."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing."""

    def getTcpKeepAlive(self) -> bool:
        """Return False; in memory it changes nothing."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing."""

    # For the turns, as a reactor calls them.

    def serve(self, protocol: IProtocol) -> None:
        """Begin: connect the server's protocol."""
        with self._turns:
            self.protocol = protocol
            self.connected = 1
            self.startReading()
            protocol.makeConnection(self)

    def can_write(self) -> bool:
        """Return whether the client takes bytes."""
        return self._will_read != 0

    def can_read(self) -> bool:
        """Return whether the client has sent something."""
        return bool(self._unread) or self._input_ended

    def doRead(self) -> None:
        """Give the protocol what the client has sent, or the end of it."""
        if self._unread:
            self.protocol.dataReceived(self._unread.pop(0))
            return
        self._input_ended = False
        self.stopReading()
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._lose(ConnectionDone())

    def writeSomeData(self, data: bytes) -> int:
        """Have the client read."""
        taken = bytes(data[: self._will_read])
        if self._will_read is not None:
            self._will_read -= len(taken)
        self.received += taken
        return len(taken)

    def connectionLost(self, reason: Failure) -> None:
        """Tell the protocol that the connection is lost."""
        if not self.gone:
            self.closed = self.gone = True
            super().connectionLost(reason)
            self.protocol.connectionLost(reason)

    def _closeWriteConnection(self) -> None:
        if self.closed:
            return
        self.closed = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()
        if not self.lingers:
            self.half_close()

    def _lose(self, reason: Exception) -> None:
        with self._turns:
            self._turns.lose(self, reason)
