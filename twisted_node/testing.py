r"""A draining server in memory, for your own tests: its clock moves only when the test advances it.

::

    server = MemoryServer()
    node.bind(server.drain)
    server.listen(NodeFactory(node))
    client = server.connect()
    client.send(b'{"src": "c1", "dest": "n1", "body": {"type": "slow", "msg_id": 1}}\n')
    stopped = server.stop()
    server.clock.advance(1)
    assert client.lines() == [...]
    assert client.closed
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamServerEndpoint,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_node._typing import AnyFactory
from twisted_node.drain import Drain, Statistics
from twisted_node.errors import MisuseError
from twisted_node.server._service import DrainingService

__all__ = ["MemoryClient", "MemoryEndpoint", "MemoryServer"]


class MemoryServer:
    """A :class:`~twisted_node.server.DrainingService` without a reactor or a socket.

    Args:
        drain_timeout: seconds, as for the service.
        lame_duck: seconds, as for the service.
        linger: seconds, as for the service.
    """

    def __init__(self, *, drain_timeout: float = 25.0, lame_duck: float = 0.0, linger: float = 1.0) -> None:
        #: The clock of all timers and of all times that are measured, in seconds.
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(self.drain, drain_timeout=drain_timeout, lame_duck=lame_duck, linger=linger)
        self._endpoints: list[MemoryEndpoint] = []

    def listen(self, factory: AnyFactory) -> None:
        """Serve with a factory.

        Args:
            factory: makes the protocols; with several factories, :meth:`connect` takes the position of one.

        Raises:
            MisuseError: the server has started.
        """
        if self.service.running:
            raise MisuseError("the server has started: listen first, then connect")
        endpoint = MemoryEndpoint()
        self._endpoints.append(endpoint)
        self.service.listen(endpoint, factory)

    def connect(self, position: int = 0) -> MemoryClient:
        """Connect a client; the server is started if it has not been.

        Args:
            position: of the factory, in the order of :meth:`listen`.

        Raises:
            ConnectionRefusedError: the server does not listen any more.
        """
        if not self.service.running and not self.drain.refusing:
            self.service.startService()
        return self._endpoints[position].connect()

    def stop(self) -> Deferred[Statistics]:
        """Stop the server, as a signal does.

        Returns:
            Fires with the final statistics when the last connection is closed.
        """
        return self.service.stopService()


@implementer(ITCPTransport, IPushProducer)
class MemoryClient:
    """A client, and the transport of the server's protocol that serves it.

    What the server writes arrives at once. When the server closes its half of the connection, the client closes the
    other half, as most clients do, unless ``lingers`` is set.
    """

    def __init__(self) -> None:
        #: Whether the client leaves its half open after the server has closed its own.
        self.lingers = False
        #: All that the server has written.
        self.received = b""
        #: Whether the server has closed its half: it writes no more.
        self.closed = False
        #: Whether both halves are closed.
        self.gone = False
        self._protocol: Any = None
        self._paused = False
        self._unread: list[bytes] = []

    # For the test.

    def send(self, data: bytes) -> None:
        """Send bytes; while the server does not read, they wait."""
        self._unread.append(data)
        self._deliver()

    def lines(self) -> list[bytes]:
        """Split what was received into its lines."""
        return self.received.splitlines()

    def half_close(self) -> None:
        """Close the client's half; the client goes on reading."""
        if IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.readConnectionLost()
        else:
            self._lose(ConnectionDone())

    def close(self) -> None:
        """Close the connection."""
        self._lose(ConnectionDone())

    # For the server's protocol.

    def write(self, data: bytes) -> None:
        """Take what the server writes."""
        if not self.closed and not self.gone:
            self.received += data

    def writeSequence(self, data: Any) -> None:
        """Take what the server writes."""
        self.write(b"".join(data))

    def loseWriteConnection(self) -> None:
        """Close the server's half."""
        self.closed = True
        if not self.lingers:
            self.half_close()

    def loseConnection(self) -> None:
        """Close the connection, from the server's side."""
        self._lose(ConnectionDone())

    def abortConnection(self) -> None:
        """Abort the connection, from the server's side."""
        self._lose(ConnectionAborted())

    def pauseProducing(self) -> None:
        """Keep what the client sends, until reading is resumed."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Deliver what the client has sent in the meantime."""
        self._paused = False
        self._deliver()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Do nothing: memory is never full."""

    def unregisterProducer(self) -> None:
        """Do nothing: none was registered."""

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

    def _serve(self, protocol: IProtocol) -> None:
        self._protocol = protocol
        protocol.makeConnection(self)

    def _deliver(self) -> None:
        while self._unread and not self._paused and not self.gone:
            self._protocol.dataReceived(self._unread.pop(0))

    def _lose(self, reason: Exception) -> None:
        if not self.gone:
            self.closed = self.gone = True
            self._protocol.connectionLost(Failure(reason))


@implementer(IStreamServerEndpoint)
class MemoryEndpoint:
    """A server endpoint in memory, for clients that are connected by a call."""

    def __init__(self) -> None:
        self._factory: IProtocolFactory | None = None

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Serve with a factory."""
        self._factory = factory
        factory.doStart()
        port: IListeningPort = _MemoryPort(self)
        return succeed(port)

    def connect(self) -> MemoryClient:
        """Connect a client.

        Raises:
            ConnectionRefusedError: nobody listens, or the factory refuses.
        """
        if self._factory is None:
            raise ConnectionRefusedError
        client = MemoryClient()
        protocol = self._factory.buildProtocol(client.getPeer())
        if protocol is None:
            raise ConnectionRefusedError
        client._serve(protocol)
        return client

    def close(self) -> None:
        """Stop listening."""
        factory, self._factory = self._factory, None
        if factory is not None:
            factory.doStop()


@implementer(IListeningPort)
class _MemoryPort:
    def __init__(self, endpoint: MemoryEndpoint) -> None:
        self._endpoint = endpoint

    def startListening(self) -> None:
        """Do nothing: it listens already."""

    def stopListening(self) -> None:
        """Refuse connections from now on."""
        self._endpoint.close()

    def getHost(self) -> IAddress:
        """Return the server's address, which is made up."""
        return IPv4Address("TCP", "192.0.2.2", 80)
