"""The open connections of a server: which may be closed, and when.

A connection whose client waits for an answer stays; one whose client is in the middle of asking is waited for, for a
while; any other is finished, and ``closing`` has the way to do that.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import Attribute, Interface

from twisted_node.drain._waiters import Waiters

__all__ = ["ASKING_AGAIN", "FIRST_WORDS", "Connection", "Connections", "IDrainingFactory"]

#: Seconds that a client which has connected may take to send its first bytes.
FIRST_WORDS = 0.1

#: Seconds within which a client that asks all the time asks again. Its connection is closed behind the answer to that:
#: closed in between, it would cross a request on its way.
ASKING_AGAIN = 0.01


class Connection(Protocol):
    """What a server asks of each of its connections."""

    #: Whether it asks to stay open beyond the drain, to see how that ends.
    kept: bool

    def begin_drain(self) -> None:
        """Learn that the drain has begun; told once."""

    def is_owed(self) -> bool:
        """Say whether its client waits for an answer."""

    def is_asking(self) -> bool:
        """Say whether its client is in the middle of asking."""

    def is_lively(self) -> bool:
        """Say whether its client has asked so lately that it is probably about to ask again."""

    def read_waiting(self) -> None:
        """Read what its client has sent already."""

    def has_unsent(self) -> bool:
        """Say whether bytes are still in this process that its client has not taken."""

    def finish(self) -> None:
        """Close without losing what was written; nothing more will be. Told once."""

    def end(self) -> bool:
        """Close now; return whether unsent bytes are lost by it."""


class IDrainingFactory(Interface):
    """A factory whose protocols register with the connections of their server themselves."""

    connections = Attribute("The Connections to register with; set before the factory listens.")


class Connections:
    """All open connections of a server.

    Args:
        clock: for the patience with clients, and their linger.
        linger: seconds that a closing connection waits for its client. One in the middle of asking is waited for as
            long, from the beginning of the drain.
    """

    def __init__(self, clock: IReactorTime, linger: float = 1.0) -> None:
        self.clock = clock
        self.linger = linger
        #: Whether the drain has begun; a connection opened now was waiting in the kernel's queue.
        self.draining = False
        # Each with the time when it was opened.
        self._open: dict[Connection, float] = {}
        self._finished: set[Connection] = set()
        self._finishing = False
        self._patient = True
        self._keeping = True
        self._new_since = self._drain_began = self._finishing_since = 0.0
        self._timers: list[IDelayedCall] = []
        self._asked_again: IDelayedCall | None = None
        self._for_empty: Waiters[None] = Waiters()

    def __len__(self) -> int:
        return len(self._open)

    def has_unsent(self) -> bool:
        """Say whether some client has not taken all of its answers."""
        return any(connection.has_unsent() for connection in self._open)

    def opened(self, connection: Connection) -> None:
        """Take in a connection; it calls this when it is made."""
        self._open[connection] = self.clock.seconds()
        if self.draining:
            connection.begin_drain()
            self.changed(connection)

    def closed(self, connection: Connection) -> None:
        """Let go of a connection; it calls this when it is lost."""
        self._open.pop(connection, None)
        self._finished.discard(connection)
        if not self._open:
            if self._asked_again is not None and self._asked_again.active():
                self._asked_again.cancel()
            self._for_empty.fire(None)

    def when_empty(self) -> Deferred[None]:
        """Wait until no connection is open; fires at once if none is."""
        return self._for_empty.add() if self._open else succeed(None)

    def begin_drain(self) -> None:
        """Tell each connection that the drain has begun."""
        self.draining = True
        self._drain_began = self.clock.seconds()
        self._new_since = self._drain_began - FIRST_WORDS
        self._timers = [
            self.clock.callLater(FIRST_WORDS, self._had_their_turn),
            self.clock.callLater(self.linger, self.stop_waiting),
        ]
        for connection in list(self._open):
            connection.begin_drain()

    def is_new(self, connection: Connection) -> bool:
        """Say whether a connection that has not said anything is about to.

        It is if it waited in the kernel's queue when the drain began, or was opened less than FIRST_WORDS before.
        """
        return self.draining and self._open.get(connection, 0.0) >= self._new_since

    def is_lively(self, active_at: float) -> bool:
        """Say whether the client of a connection that was active at a time is about to ask again.

        For FIRST_WORDS from the beginning of the drain it is, if that time was less than FIRST_WORDS before.
        """
        return self.draining and self._new_since <= active_at < self._drain_began

    def asked_lately(self, asked_at: float) -> bool:
        """Say whether a time was so shortly before connections began to be finished that its client may ask again."""
        since = self._finishing_since
        return since - ASKING_AGAIN <= asked_at < since and self.clock.seconds() < since + ASKING_AGAIN

    def finish(self) -> None:
        """Finish each connection as soon as it may be; those that are kept stay."""
        self._finishing = True
        self._finishing_since = self.clock.seconds()
        self._look_at_all()
        if self._open:
            self._asked_again = self.clock.callLater(ASKING_AGAIN, self._look_at_all)

    def stop_waiting(self) -> None:
        """Wait no longer for clients in the middle of asking."""
        self._patient = False
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._look_at_all()

    def release(self) -> None:
        """Keep no connection open beyond the drain any more."""
        self._keeping = False
        self._look_at_all()

    def changed(self, connection: Connection) -> None:
        """Look again at a connection; it calls this when an answer or a line was completed."""
        if not self._finishing or connection in self._finished or connection not in self._open:
            return
        if (self._keeping and connection.kept) or self._must_wait(connection):
            return
        # What has arrived in the kernel is answered first; a half-close would make that impossible.
        connection.read_waiting()
        if not self._must_wait(connection):
            self.finish_one(connection)

    def finish_one(self, connection: Connection) -> None:
        """Finish one connection now, drain or no drain."""
        if connection in self._open and connection not in self._finished:
            self._finished.add(connection)
            connection.finish()

    def end(self) -> int:
        """Close what is still open.

        Returns:
            How many of them lost bytes by it.
        """
        return sum(connection.end() for connection in list(self._open))

    def _had_their_turn(self) -> None:
        self._new_since = self._drain_began
        self._look_at_all()

    def _must_wait(self, connection: Connection) -> bool:
        return connection.is_owed() or connection.is_lively() or (self._patient and connection.is_asking())

    def _look_at_all(self) -> None:
        if self._finishing:
            for connection in list(self._open):
                self.changed(connection)
