"""Any factory's protocols, as connections that a drain knows of.

A wrapper stands on the transport's side of each protocol: it sees what comes in, and the end. The protocol has the
transport itself, so that all its interfaces show.

A protocol of which nothing is known is waited for until it ends by itself. One that knows when it is idle says so with
:class:`IDrainable`, and is closed as soon as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHandshakeListener, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, directlyProvides, implementer, providedBy

from twisted_node.drain import Drain
from twisted_node.errors import DrainTimeout, MisuseError
from twisted_node.names import peer_name
from twisted_node.server._closing import GracefulClose
from twisted_node.server._connection import Connection
from twisted_node.server._connections import Connections, IDrainingFactory
from twisted_node.server._twisted import replace_close, restore_close, unsent_bytes

__all__ = ["GenericConnection", "IDrainable", "TrackedConnection", "TrackedFactory", "tracked"]

_log = Logger()

#: The usual pause, in seconds, between an answer and the next request of a busy client (HTTP, say). See
#: ``Connection``.
_ASKS_AGAIN_WITHIN = 0.1


class IDrainable(Interface):
    """A protocol that knows when it is idle: it is drained by request, not by connection."""

    became_idle = Attribute(
        """
        Set before the connection is made: call it, without arguments, when an answer that was written later leaves the
        protocol idle. After data was received, whether it is idle is asked anyway.
        """
    )

    def is_idle() -> bool:
        """Say whether the client waits for no answer: then the connection may be closed, once the drain comes to it."""

    def drain_began() -> None:
        """Learn that the drain has begun: refuse new requests from now on, in your protocol's words."""


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


class GenericConnection(TrackedConnection):
    """A connection of any protocol: drained by request if that is ``IDrainable``, otherwise when it ends by itself.

    It is work in flight itself, from the beginning of the drain until the protocol is idle.
    """

    def __init__(self, protocol: Any, factory: IProtocolFactory, connections: Connections, drain: Drain) -> None:
        super().__init__(protocol, factory, connections, drain)
        self._hold: Deferred[None] | None = None
        # Whether the drain has cut it; whether it has closed its connection itself. It is waited for no more then.
        self._cut = self._closes = False
        self._drainable: Any = IDrainable(protocol, None)
        if self._drainable is not None:
            self._drainable.became_idle = self.look_again

    def begin_lame_duck(self) -> None:
        """Do nothing: the next answer may be the last."""

    def begin_drain(self) -> None:
        """Tell the protocol, and hold the drain while the protocol is not idle."""
        if self._drainable is not None:
            with _log.failuresHandled("while telling {protocol} of the drain", protocol=self.protocol):
                self._drainable.drain_began()
        if not self.is_idle():
            self._hold = Deferred()
            self.drain.track(self, self._hold, while_draining=True).addErrback(self._was_cut)

    def is_idle(self) -> bool:
        """Ask the protocol. One that cannot say is idle only once it has closed, or the drain has cut it."""
        if self._cut or self._closes:
            return True
        if self._drainable is None:
            return False
        with _log.failuresHandled("while asking whether {protocol} is idle", protocol=self.protocol) as asking:
            idle = bool(self._drainable.is_idle())
        # One that fails is not waited for.
        return idle if asking.succeeded else True

    def is_asking(self) -> bool:
        """Return False: what a part of a request looks like is not known."""
        return False

    def last_words(self) -> None:
        """Say nothing: the protocol was told when the drain began."""

    def look_again(self) -> None:
        """Release the drain if the protocol is idle now; then check whether the connection can be finished."""
        if self._hold is not None and self.is_idle():
            self.let_go()
        # What is written leaves the process in the reactor's next turn.
        if self.connections.shedding is not None and unsent_bytes(self.transport):
            self.connection.answered()
        super().look_again()

    def let_go(self) -> None:
        """Hold the drain no longer."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.callback(None)

    def _was_cut(self, failure: Failure) -> None:
        failure.trap(DrainTimeout)
        self._cut, self._hold = True, None
        # What is broken off is not known, so its client may be unable to tell it from what is complete.
        self.close.broken_off = not self._closes
        self.connection.look_again()

    def lose_connection(self) -> None:
        """Close, and wait for the protocol no longer: what is left is to deliver what it has written."""
        self._closes = True
        super().lose_connection()


@implementer(IDrainingFactory)
class TrackedFactory:
    """Makes the protocols of another factory, tracked.

    Args:
        factory: makes the protocols. It is stopped when its last connection is gone, not with its port.
        connections: where they register.
        drain: is held by those that are not idle.
    """

    def __init__(self, factory: IProtocolFactory, connections: Connections, drain: Drain) -> None:
        self.factory = factory
        self.connections = connections
        self.drain = drain
        # TLS asks the factory which protocols to negotiate.
        directlyProvides(self, IDrainingFactory, providedBy(factory))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.factory, name)

    def buildProtocol(self, addr: IAddress) -> GenericConnection | None:
        """Make one connection, if the factory wants it."""
        protocol = self.factory.buildProtocol(addr)
        if protocol is None:
            return None
        return GenericConnection(protocol, self.factory, self.connections, self.drain)


def tracked(factory: Any, connections: Connections, drain: Drain) -> Any:
    """Have the connections of a factory register.

    Args:
        factory: any factory. If it, or one that it wraps, provides ``IDrainingFactory``, that one does it itself.
        connections: where to register.
        drain: the work in flight.

    Returns:
        The factory to listen with.

    Raises:
        MisuseError: the factory works with another drain.
    """
    innermost = factory
    while not IDrainingFactory.providedBy(innermost):
        innermost = getattr(innermost, "wrappedFactory", None)
        if innermost is None:
            return TrackedFactory(factory, connections, drain)
    if innermost.drain is not drain:
        raise MisuseError("factory: expected one that works with the drain of this service, got one that has another")
    innermost.connections = connections
    return factory
