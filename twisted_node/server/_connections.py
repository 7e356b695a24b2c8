"""The open connections of a server: which may be finished, and when.

A connection whose client waits for an answer stays. One whose client is asking is waited for, for a while. Any other is
finished once the drain has ended; after a lame duck, right before the drain begins. In the lame duck itself more and
more are finished, each right behind an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import Attribute, Interface

from twisted_node.drain._waiters import Waiters
from twisted_node.server._client_waits import FIRST_WORDS, ClientWaits
from twisted_node.server._closing import Close, GracefulClose
from twisted_node.server._connection import Connection, Speaker
from twisted_node.server._shedding import Shedding
from twisted_node.server._states import CONNECTIONS, ConnectionsEvent, ConnectionsState, ConnectionState
from twisted_node.server._twisted import watch_handshake

__all__ = ["Connections", "IDrainingFactory"]

#: The states in which no connection is finished; the usual one first, since members of an Enum are slow to compare.
_STAYING = (ConnectionsState.OPEN, ConnectionsState.DRAINING, ConnectionsState.SHEDDING)

#: The states before the drain.
_SERVING = (ConnectionsState.OPEN, ConnectionsState.SHEDDING)


class IDrainingFactory(Interface):
    """A factory whose protocols register with the connections of their server themselves."""

    connections = Attribute("The Connections to register with; set before the factory listens.")
    drain = Attribute("The drain that its protocols work with.")


class Connections:
    """All open connections of a server.

    Args:
        clock: for the time that clients get to ask, and to take their answers.
        linger: seconds that a closing connection waits for its client. A client that is asking is waited for as long,
            from the beginning of the drain.
    """

    def __init__(self, clock: IReactorTime, linger: float = 1.0) -> None:
        self.clock = clock
        self.linger = linger
        self.state = ConnectionsState.OPEN
        #: Whom to send away; None unless there is a lame duck, or was one.
        self.shedding: Shedding | None = None
        self._open: dict[Connection, None] = {}
        self._kept: set[Connection] = set()
        # Whether none is kept open any more.
        self._released = False
        # Whether the drain has ended, and the service ends too.
        self._drained = False
        self._waits = ClientWaits(clock)
        self._for_empty: Waiters[None] = Waiters()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def draining(self) -> bool:
        """Whether the drain has begun."""
        return self.state not in _SERVING

    @property
    def will_end(self) -> bool:
        """Whether a deadline is set, at which what is left is closed."""
        return self.state is not ConnectionsState.OPEN

    def unsent(self) -> list[Connection]:
        """Find the connections whose clients' kernels have not taken all of their answers."""
        return [connection for connection in self._open if connection.has_unsent()]

    def make_connection(
        self,
        speaker: Speaker,
        transport: Any,
        *,
        close: Close | None = None,
        asks_again_within: float = 0.0,
        peer: Callable[[], object] | None = None,
    ) -> Connection:
        """Make one of these connections; it registers once it is told that it is opened.

        Args:
            speaker: the protocol that holds it; over TLS an ``IHandshakeListener`` too.
            transport: of the protocol, with its wrappers.
            close: how the transport closes; None for the way of a socket.
            asks_again_within: in seconds, as for :class:`Connection`.
            peer: as for :class:`Connection`.
        """
        if close is None:
            close = GracefulClose(transport, self.clock, self.linger, will_be_ended=lambda: self.will_end)
        connection = Connection(speaker, self, close, asks_again_within=asks_again_within, peer=peer)
        connection.in_handshake = watch_handshake(transport, speaker)
        return connection

    def when_empty(self) -> Deferred[None]:
        """Wait until no connection is open; fires at once if none is."""
        return self._for_empty.add() if self._open else succeed(None)

    # What a connection tells.

    def opened(self, connection: Connection) -> None:
        """Take in a connection."""
        self._open[connection] = None
        if self.draining:
            connection.speaker.begin_drain()
            if self.state is ConnectionsState.FINISHING and len(self._open) == 1:
                # A listener that waited for a half-done handshake has accepted it only now. No timer runs while no
                # connection is open, so they are started for this one.
                self._start_waiting()
            self.look_at(connection)

    def closed(self, connection: Connection) -> None:
        """Let go of a connection that is lost."""
        self._open.pop(connection, None)
        self._kept.discard(connection)
        self._waits.forget(connection)
        if not self._open:
            self._waits.stop()
            self._for_empty.fire(None)

    def keep_open(self, connection: Connection) -> None:
        """Have a connection stay open beyond the drain, and for the linger once :meth:`finish` is called.

        :meth:`release` ends that at once; after a lame duck it stays at least until the drain has ended.
        """
        if not self._released or (self.shedding is not None and not self._drained):
            self._kept.add(connection)

    def look_at(self, connection: Connection) -> None:
        """Finish a connection if it may be, now that something has happened on it."""
        if self.state in _STAYING or connection.is_closing or connection not in self._open:
            return
        if self._must_wait(connection) or connection in self._kept:
            return
        # Requests that have arrived in the kernel are read and answered first. After a half-close we could not answer.
        connection.read_waiting()
        if not self._must_wait(connection):
            connection.finish()

    # What the service tells.

    def begin_lame_duck(self, shedding: Shedding) -> None:
        """Send clients away from now on.

        Args:
            shedding: draws which, and when. One that began earlier is followed by this one only if this one sends
                everybody away at once.
        """
        begun, self.state = self.state, CONNECTIONS[self.state][ConnectionsEvent.LAME_DUCK]
        if self.shedding is None or shedding.at_once:
            self.shedding = shedding
        if begun is not self.state:
            for connection in list(self._open):
                connection.speaker.begin_lame_duck()

    def end_lame_duck(self) -> None:
        """Finish idle connections, right before the drain begins: what has arrived on them is still served.

        A client that has just connected, and has sent nothing yet, is given a moment more.
        """
        if self.shedding is not None:
            opened_by = self.clock.seconds() - FIRST_WORDS
            for connection in list(self._open):
                if connection.state is not ConnectionState.NEW or connection.opened_at < opened_by:
                    self.shedding.send_away(connection)

    def begin_drain(self) -> None:
        """Tell every connection that the drain has begun.

        None is closed yet; after a lame duck, each is finished from now on as soon as it may be.
        """
        self.state = CONNECTIONS[self.state][ConnectionsEvent.DRAIN]
        self._waits.begin_drain()
        for connection in list(self._open):
            connection.speaker.begin_drain()
        if self.state is ConnectionsState.FINISHING:
            self._kept.update(connection for connection in self._open if connection.asked_to_stay)
            self._begin_finishing()

    def finish(self) -> None:
        """Finish each connection as soon as it may be; those that are kept open stay for the linger."""
        begun, self.state = self.state, CONNECTIONS[self.state][ConnectionsEvent.FINISH]
        self._drained = True
        if begun is not self.state:
            self._begin_finishing()
        else:
            # After a lame duck all but these are finished since the drain began.
            self.release()

    def _begin_finishing(self) -> None:
        self._waits.begin_finishing(self._open)
        if self._open:
            self._start_waiting()
        self._look_at_all()

    def lose_patience(self) -> None:
        """Wait no longer for clients that are asking."""
        self.state = CONNECTIONS[self.state][ConnectionsEvent.LOSE_PATIENCE]
        self._look_at_all()

    def begin_grace(self) -> None:
        """Wait for no client's request any more; only answers that are owed still have their time."""
        self.state = CONNECTIONS[self.state][ConnectionsEvent.END_IS_DUE]
        self._look_at_all()

    def release(self) -> None:
        """Keep no connection open beyond the drain any more."""
        self._released = True
        self._kept.clear()
        self._look_at_all()

    def close_now(self) -> None:
        """Close what is still open; bytes that clients have not taken are lost."""
        for connection in list(self._open):
            connection.close_now()

    def _keep_no_longer(self) -> None:
        """Close the connections that were kept open: their clients have had a whole linger to close them.

        They were kept so that their clients see how the drain ends. While other connections still have unread answers,
        that is not decided, so we wait another linger.
        """
        if any(connection not in self._kept and connection.has_unsent() for connection in self._open):
            self._waits.wait(max(self.linger, FIRST_WORDS), self._keep_no_longer)
            return
        kept = list(self._kept)
        self.release()
        for connection in kept:
            if connection.is_closing and not connection.has_unsent():
                connection.close_now()

    # When a connection must stay.

    def _start_waiting(self) -> None:
        """Limit the time of the connections that are kept open, and of the clients that are asking."""
        if not self._released:
            self._waits.wait(self.linger, self._keep_no_longer)
        self._waits.limit(self.linger, self._look_at_all, self.lose_patience)

    def _must_wait(self, connection: Connection) -> bool:
        """Return whether a connection's client is owed something, or may be about to ask."""
        if connection.speaker.is_owed():
            return True
        if self.state is ConnectionsState.FINISHING and (self._waits.is_new(connection) or connection.is_receiving()):
            return True
        return self.state is not ConnectionsState.GRACE and self._waits.asks_again(connection)

    def _look_at_all(self) -> None:
        if self.state not in _STAYING:
            for connection in list(self._open):
                self.look_at(connection)
