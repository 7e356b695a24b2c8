"""The open connections of a server: which may be finished, and when.

A connection whose client waits for an answer stays. One whose client is asking is waited for, for a while. Any other is
finished once the drain has ended.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import Attribute, Interface

from twisted_node.drain._waiters import Waiters
from twisted_node.server._connection import Connection
from twisted_node.server._states import CONNECTIONS, ConnectionsEvent, ConnectionsState, ConnectionState

__all__ = ["FIRST_WORDS", "Connections", "IDrainingFactory"]

#: Seconds that a client which has just connected may take to send its first bytes.
FIRST_WORDS = 0.1

#: The states in which connections are finished as soon as they may be.
_FINISHING = (ConnectionsState.FINISHING, ConnectionsState.IMPATIENT)


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
        self._open: dict[Connection, None] = {}
        self._kept: set[Connection] = set()
        self._may_stay = True
        # Seconds on the clock: when the drain began, and when connections began to be finished.
        self._drain_began = self._finish_began = 0.0
        # What is waited for while connections are finished: a wait is over when its timer has fired.
        self._waits: list[IDelayedCall] = []
        self._for_first_words: IDelayedCall | None = None
        self._for_next_request: dict[Connection, IDelayedCall] = {}
        self._for_empty: Waiters[None] = Waiters()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def draining(self) -> bool:
        """Whether the drain has begun."""
        return self.state is not ConnectionsState.OPEN

    def count_unsent(self) -> int:
        """Return how many clients have not taken all of their answers."""
        return sum(connection.has_unsent() for connection in self._open)

    def when_empty(self) -> Deferred[None]:
        """Wait until no connection is open; fires at once if none is."""
        return self._for_empty.add() if self._open else succeed(None)

    # What a connection tells.

    def opened(self, connection: Connection) -> None:
        """Take in a connection."""
        self._open[connection] = None
        if self.draining:
            connection.speaker.begin_drain()
            self.look_at(connection)

    def closed(self, connection: Connection) -> None:
        """Let go of a connection that is lost."""
        self._open.pop(connection, None)
        self._kept.discard(connection)
        self._for_next_request.pop(connection, None)
        if not self._open:
            self._stop_timers()
            self._for_empty.fire(None)

    def keep_open(self, connection: Connection) -> None:
        """Have a connection stay open beyond the drain, until :meth:`release`."""
        if self._may_stay:
            self._kept.add(connection)

    def look_at(self, connection: Connection) -> None:
        """Finish a connection if it may be, now that something has happened on it."""
        if self.state not in _FINISHING or connection.is_closing or connection not in self._open:
            return
        if connection in self._kept or self._must_wait(connection):
            return
        # What has arrived in the kernel is answered first; a half-close would make that impossible.
        connection.read_waiting()
        if not self._must_wait(connection):
            connection.finish()

    # What the service tells.

    def begin_drain(self) -> None:
        """Tell every connection that the drain has begun; none is closed yet."""
        self.state = CONNECTIONS[self.state][ConnectionsEvent.DRAIN]
        self._drain_began = self.clock.seconds()
        for connection in list(self._open):
            connection.speaker.begin_drain()

    def finish(self) -> None:
        """Finish each connection as soon as it may be; those that are kept open stay."""
        self.state = CONNECTIONS[self.state][ConnectionsEvent.FINISH]
        self._finish_began = self.clock.seconds()
        if self._open:
            self._wait_for_askers(self._finish_began - self._drain_began)
        self._look_at_all()

    def lose_patience(self) -> None:
        """Wait no longer for clients that are asking."""
        self.state = CONNECTIONS[self.state][ConnectionsEvent.LOSE_PATIENCE]
        self._look_at_all()

    def release(self) -> None:
        """Keep no connection open beyond the drain any more."""
        self._may_stay = False
        self._kept.clear()
        self._look_at_all()

    def end(self) -> None:
        """Close what is still open; bytes that clients have not taken are lost."""
        for connection in list(self._open):
            connection.end()

    # When a connection must stay.

    def _wait_for_askers(self, drained_for: float) -> None:
        """Begin to wait for clients that are asking; all of it counts from the beginning of the drain."""
        if drained_for < FIRST_WORDS:
            self._for_first_words = self._wait(FIRST_WORDS - drained_for, self._look_at_all)
        if drained_for < self.linger:
            self._wait(self.linger - drained_for, self.lose_patience)
        else:
            self.lose_patience()

    def _must_wait(self, connection: Connection) -> bool:
        return (
            connection.speaker.is_owed()
            or self._asks_again(connection)
            or (self.state is ConnectionsState.FINISHING and self._is_asking(connection))
        )

    def _is_asking(self, connection: Connection) -> bool:
        """Return whether a client is in the middle of a request, or about to begin its first."""
        if connection.state is ConnectionState.NEW and self._is_new(connection):
            return True
        return connection.is_asking()

    def _is_new(self, connection: Connection) -> bool:
        """Return whether a client that has sent nothing yet is still waited for.

        One that waited in the kernel's queue when the drain began is; others, which had connected before, for
        FIRST_WORDS.
        """
        if connection.opened_at >= self._drain_began:
            return True
        return connection.opened_at >= self._drain_began - FIRST_WORDS and _runs(self._for_first_words)

    def _asks_again(self, connection: Connection) -> bool:
        """Return whether a client was active so shortly before the finish that it may be asking again this moment."""
        within = connection.asks_again_within
        if not self._finish_began - within <= connection.active_at < self._finish_began:
            return False
        if connection not in self._for_next_request:
            self._for_next_request[connection] = self._wait(within, connection.look_again)
        return _runs(self._for_next_request[connection])

    def _wait(self, seconds: float, over: Callable[[], None]) -> IDelayedCall:
        timer = self.clock.callLater(seconds, over)
        self._waits.append(timer)
        return timer

    def _stop_timers(self) -> None:
        for timer in self._waits:
            if timer.active():
                timer.cancel()

    def _look_at_all(self) -> None:
        if self.state in _FINISHING:
            for connection in list(self._open):
                self.look_at(connection)


def _runs(timer: IDelayedCall | None) -> bool:
    return timer is not None and bool(timer.active())
