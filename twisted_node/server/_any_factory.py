"""Any factory's protocols, as connections that a drain knows of.

A protocol of which nothing is known is waited for until it ends by itself. One that knows when it is idle says so with
:class:`IDrainable`, and is closed as soon as it is.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, directlyProvides, implementer, providedBy

from twisted_node.drain import Drain
from twisted_node.errors import DrainTimeout, MisuseError
from twisted_node.server._connections import Connections, IDrainingFactory
from twisted_node.server._tracking import TrackedConnection
from twisted_node.server._twisted import unsent_bytes

__all__ = ["GenericConnection", "IDrainable", "TrackedFactory", "tracked"]

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


class GenericConnection(TrackedConnection):
    """A connection of any protocol: drained by request if that is ``IDrainable``, otherwise when it ends by itself.

    It is work in flight itself, from the beginning of the drain until the protocol is idle.
    """

    def __init__(self, protocol: Any, factory: IProtocolFactory, connections: Connections, drain: Drain) -> None:
        super().__init__(protocol, factory, connections, drain)
        self._hold: Deferred[None] | None = None
        # Whether the drain has cut it, and whether the protocol has closed the connection itself: if so, the drain does
        # not wait for it.
        self._cut = self._closes = False
        self._drainable: Any = IDrainable(protocol, None)
        if self._drainable is not None:
            self._drainable.became_idle = self.look_again

    def begin_lame_duck(self) -> None:
        """Do nothing yet: at each answer it is drawn whether the client is sent away with it."""

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
        # Unsent bytes are an answer: what is written leaves the process in the reactor's next turn.
        if (shedding := self.connections.shedding) is not None and unsent_bytes(self.transport):
            shedding.answered(self.connection)
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
