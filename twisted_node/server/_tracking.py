"""A connection of a protocol that knows nothing of the drain.

A wrapper stands on the transport's side of the protocol: it sees what comes in, and the end. The protocol has the
transport itself, so that all its interfaces show.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from twisted.internet.interfaces import IHandshakeListener, IProtocol, IProtocolFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from twisted_node.drain import Drain
from twisted_node.names import peer_name
from twisted_node.server._closing import GracefulClose
from twisted_node.server._connection import Connection
from twisted_node.server._connections import Connections
from twisted_node.server._twisted import replace_close, restore_close

__all__ = ["TrackedConnection"]

#: The usual pause, in seconds, between an answer and the next request of a busy client (HTTP, say). See
#: ``Connection``.
_ASKS_AGAIN_WITHIN = 0.1


class TrackedConnection(ABC):
    """Stands between a transport and a protocol, so that the server knows of the connection.

    A base class: what the protocol's clients wait for is for its subclasses to say.

    Args:
        protocol: gets what comes in.
        factory: made the protocol. It is kept started while the connection is open, so that it closes no log too early.
        connections: all connections of the server.
        drain: the work in flight.
    """

    transport: Any
    connection: Connection
    close: GracefulClose

    def __init__(self, protocol: Any, factory: IProtocolFactory, connections: Connections, drain: Drain) -> None:
        self.protocol = protocol
        self.drained_factory = factory
        self.connections = connections
        self.drain = drain
        # Whether the protocol is being called this moment: what it will answer is not known yet.
        self._busy = False
        # What the protocol can do besides (half-close, say) is passed on by __getattr__.
        directlyProvides(self, IProtocol, IHandshakeListener, providedBy(protocol))

    def __getattr__(self, name: str) -> Any:
        if name == "__providedBy__":
            # zope.interface asks for it first, and the protocol's would hide the interfaces that are declared above.
            raise AttributeError(name)
        return getattr(self.protocol, name)

    def __str__(self) -> str:
        return f"connection from {peer_name(self.transport.getPeer())}"

    # What the transport calls.

    def makeConnection(self, transport: Any) -> None:
        """Connect the protocol, and register."""
        self.transport = transport
        connections = self.connections
        self.close = GracefulClose(
            transport,
            connections.clock,
            connections.linger,
            will_be_ended=lambda: connections.will_end,
            given_up=self.drain.count_undelivered,
        )
        replace_close(transport, self.lose_connection)
        self.connection = connections.make_connection(
            self, transport, close=self.close, asks_again_within=_ASKS_AGAIN_WITHIN, peer=self._peer
        )
        self.drained_factory.doStart()
        self.protocol.makeConnection(transport)
        self.connection.opened()

    def _peer(self) -> object:
        """Return the client's machine; all clients on unix sockets are on this one."""
        return getattr(self.transport.getPeer(), "host", None)

    def handshakeCompleted(self) -> None:
        """Learn that the TLS handshake is over; the protocol hears of it if it wants to."""
        self.connection.handshake_completed()
        if IHandshakeListener.providedBy(self.protocol):
            self.protocol.handshakeCompleted()

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came in; nothing any more once the connection is finished."""
        if not self.connection.heard():
            return
        self._busy = True
        try:
            self.protocol.dataReceived(data)
        finally:
            self._busy = False
        self.look_again()

    def readConnectionLost(self) -> None:
        """Learn that the client has sent everything; asked only of protocols that want to know."""
        self.connection.client_closed()
        if not self.connection.is_closing:
            self.protocol.readConnectionLost()
            self.look_again()

    def writeConnectionLost(self) -> None:
        """Learn that our half is closed; the protocol hears of it unless it was we who closed."""
        if not self.connection.is_closing:
            self.protocol.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        """Leave."""
        self._busy = True
        try:
            self.protocol.connectionLost(reason)
        finally:
            restore_close(self.transport)
            self.let_go()
            self.connection.lost()
            self.drained_factory.doStop()

    # What the protocol asks of its transport.

    def lose_connection(self) -> None:
        """Close gracefully, since the protocol has called ``transport.loseConnection()``; first send what was written.

        If the connection is closing already, that goes on as it has begun.
        """
        if not self.connection.is_closing:
            self.close.lose_connection(self._all_is_sent)

    def _all_is_sent(self) -> None:
        self.look_again()
        self.connection.finish()

    # What the connection asks, and what a subclass knows.

    @abstractmethod
    def begin_lame_duck(self) -> None:
        """Learn that a lame duck has begun. Told once."""

    @abstractmethod
    def begin_drain(self) -> None:
        """Learn that the drain has begun. Told once."""

    def is_owed(self) -> bool:
        """Return whether the client waits for an answer, or whether the protocol is being called this moment."""
        return self._busy or not self.is_idle()

    @abstractmethod
    def is_idle(self) -> bool:
        """Return whether the client waits for no answer."""

    @abstractmethod
    def is_asking(self) -> bool:
        """Return whether a part of a request has arrived, and the rest is still to come."""

    @abstractmethod
    def last_words(self) -> None:
        """Write what is still to be said: the connection is finished now. Told once."""

    def look_again(self) -> None:
        """Check whether the connection can be finished now, because something came in or went out."""
        self.connection.was_active()
        self.connection.look_again()

    @abstractmethod
    def let_go(self) -> None:
        """Let the drain end without this connection: it is lost."""
