"""Any factory's protocols, as connections that a drain knows of.

A wrapper stands on the transport's side of each protocol: it sees what comes in, and the end. The protocol has the
transport itself, so that all its interfaces show.

A protocol of which nothing is known is waited for until it ends by itself. One that knows when it is idle says so with
:class:`IDrainable`, and is closed as soon as it is.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, directlyProvides, implementer, providedBy

from twisted_node.drain import Drain
from twisted_node.errors import DrainTimeout
from twisted_node.names import peer_name
from twisted_node.server._closing import GracefulClose
from twisted_node.server._connections import Connections, IDrainingFactory
from twisted_node.server._twisted import read_waiting

__all__ = ["IDrainable", "TrackedConnection", "TrackedFactory", "tracked"]


_log = Logger()


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


class TrackedConnection:
    """One connection, between its transport and its protocol.

    Args:
        protocol: takes what comes in.
        factory: is kept started while the connection is open, so that it closes no log too early.
        connections: where to register.
        drain: is held by a connection that is not idle.
    """

    kept = False
    transport: Any

    def __init__(self, protocol: Any, factory: IProtocolFactory, connections: Connections, drain: Drain) -> None:
        self.protocol = protocol
        self.drained_factory = factory
        self.connections = connections
        self.drain = drain
        self._busy = False
        self._active_at: float | None = None
        self._input_ended = False
        self._finishing = False
        self._cut = False
        self._hold: Deferred[None] | None = None
        self._drainable: Any = IDrainable(protocol, None)
        if self._drainable is not None:
            self._drainable.became_idle = self.look_again
        # What the protocol can do besides (half-close, a TLS handshake's end) is passed on by __getattr__.
        directlyProvides(self, IProtocol, providedBy(protocol))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.protocol, name)

    def __str__(self) -> str:
        return f"connection from {peer_name(self.transport.getPeer())}"

    # What the transport calls.

    def makeConnection(self, transport: Any) -> None:
        """Connect the protocol, and register."""
        self.transport = transport
        self._close = GracefulClose(transport, self.connections.clock, self.connections.linger)
        self.drained_factory.doStart()
        self.protocol.makeConnection(transport)
        self.connections.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came in; nothing any more once the connection is finished."""
        if self._finishing:
            return
        self._busy = True
        try:
            self.protocol.dataReceived(data)
        finally:
            self._busy = False
        self.look_again()

    def readConnectionLost(self) -> None:
        """Learn that the client has sent everything; asked only of protocols that want to know."""
        self._input_ended = True
        if self._finishing:
            self._close.client_closed()
        else:
            self.protocol.readConnectionLost()
            self.look_again()

    def writeConnectionLost(self) -> None:
        """Learn that our half is closed; the protocol hears of it unless it was we who closed."""
        if not self._finishing:
            self.protocol.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        """Leave."""
        self._busy = True
        self._close.closed()
        try:
            self.protocol.connectionLost(reason)
        finally:
            self.release()
            self.connections.closed(self)
            self.drained_factory.doStop()

    # What the connections ask.

    def begin_drain(self) -> None:
        """Tell the protocol, and hold the drain while the protocol is not idle."""
        if self._drainable is not None:
            with _log.failuresHandled("while telling {protocol} of the drain", protocol=self.protocol):
                self._drainable.drain_began()
        if not self.is_idle():
            self.hold()

    def is_owed(self) -> bool:
        """Say whether the client waits for an answer, or whether the protocol is being called this moment."""
        return self._busy or not (self._cut or self.is_idle())

    def is_asking(self) -> bool:
        """Say whether the client is about to ask: for the first time, or again."""
        if self._active_at is None:
            return self.connections.is_new(self)
        return self.connections.is_lively(self._active_at)

    def is_lively(self) -> bool:
        """Say no: a client that goes on asking is refused, and its connection closed behind that."""
        return False

    def read_waiting(self) -> None:
        """Read what the client has sent already, unless it does not read its answers."""
        if not self._input_ended:
            read_waiting(self.transport)

    def has_unsent(self) -> bool:
        """Say whether bytes are still in this process that the client has not taken."""
        return self._close.has_unsent()

    def finish(self) -> None:
        """Close without losing what was written."""
        self._finishing = True
        # A protocol that is closing by itself needs no help, and takes none.
        if not getattr(self.transport, "disconnecting", False):
            self._close.begin(client_has_closed=self._input_ended)

    def end(self) -> bool:
        """Close now; return whether unsent bytes are lost by it."""
        return self._close.end()

    # What a drain by request needs.

    def is_idle(self) -> bool:
        """Ask the protocol; one that cannot say is never idle."""
        if self._drainable is None:
            return False
        with _log.failuresHandled("while asking whether {protocol} is idle", protocol=self.protocol) as asking:
            idle = bool(self._drainable.is_idle())
        # One that fails is not waited for.
        return idle if asking.succeeded else True

    def hold(self) -> None:
        """Keep the drain from ending, until the connection is idle, lost, or cut."""
        self._hold = Deferred()
        self.drain.track(self, self._hold, while_draining=True).addErrback(self._was_cut)

    def release(self) -> None:
        """Let the drain end."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.callback(None)

    def look_again(self) -> None:
        """See whether the drain may end, or the connection be finished: something has come in, or gone out."""
        self._active_at = self.connections.clock.seconds()
        if self._hold is not None and self.is_idle():
            self.release()
        self.connections.changed(self)

    def _was_cut(self, failure: Failure) -> None:
        failure.trap(DrainTimeout)
        self._cut, self._hold = True, None
        self.connections.changed(self)


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

    def buildProtocol(self, addr: IAddress) -> TrackedConnection | None:
        """Make one connection, if the factory wants it."""
        protocol = self.factory.buildProtocol(addr)
        if protocol is None:
            return None
        return TrackedConnection(protocol, self.factory, self.connections, self.drain)


def tracked(factory: Any, connections: Connections, drain: Drain) -> Any:
    """Have the connections of a factory register.

    Args:
        factory: any factory. If it, or one that it wraps, provides ``IDrainingFactory``, that one does it itself.
        connections: where to register.
        drain: the work in flight.

    Returns:
        The factory to listen with.
    """
    innermost = factory
    while not IDrainingFactory.providedBy(innermost):
        innermost = getattr(innermost, "wrappedFactory", None)
        if innermost is None:
            return TrackedFactory(factory, connections, drain)
    innermost.connections = connections
    return factory
