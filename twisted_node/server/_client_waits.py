"""Clients that may be about to ask, while connections are finished: how long each is waited for.

A client that has connected and said nothing has a moment for its first words. One that was busy may be sending its next
request while we close: it has as long as it usually takes to ask again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_node.server._connection import Connection
from twisted_node.server._states import ConnectionState

__all__ = ["FIRST_WORDS", "ClientWaits"]

#: How many seconds a client that has just connected gets to send its first bytes.
FIRST_WORDS = 0.1


class ClientWaits:
    """All waits for clients that may be about to ask. A wait is over when its timer has fired.

    Args:
        clock: of the connections.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # Seconds on the clock: when the drain began, and when connections began to be finished. Neither has, yet.
        self._drain_began = self._finish_began = math.inf
        self._timers: list[IDelayedCall] = []
        self._for_first_words: IDelayedCall | None = None
        self._for_next_request: dict[Connection, IDelayedCall] = {}
        # Peers that were active when connections began to be finished, and within how many seconds they ask again.
        self._busy_peers: dict[object, float] = {}

    def begin_drain(self) -> None:
        """Learn that the drain begins."""
        self._drain_began = self._clock.seconds()

    def begin_finishing(self, connections: Iterable[Connection]) -> None:
        """Learn that connections are finished from now on.

        Args:
            connections: all that are open.
        """
        self._finish_began = self._clock.seconds()
        for connection in connections:
            if self._was_active(connection):
                peer = connection.peer()
                self._busy_peers[peer] = max(connection.asks_again_within, self._busy_peers.get(peer, 0.0))

    def limit(self, linger: float, look_at_all: Callable[[], None], lose_patience: Callable[[], None]) -> None:
        """Have the waits end; the limits count from the beginning of the drain, so some of that may have passed.

        Args:
            linger: seconds for a client that is in the middle of a request.
            look_at_all: is called when there was time for first words.
            lose_patience: is called when the linger is over, or now if it is over already.
        """
        drained_for = self._clock.seconds() - self._drain_began
        if drained_for < FIRST_WORDS:
            self._for_first_words = self.wait(FIRST_WORDS - drained_for, look_at_all)
        if drained_for < linger:
            self.wait(linger - drained_for, lose_patience)
        else:
            lose_patience()

    def wait(self, seconds: float, over: Callable[[], None]) -> IDelayedCall:
        """Wait, unless :meth:`stop` comes before.

        Args:
            seconds: to wait.
            over: is called then.
        """
        timer = self._clock.callLater(seconds, over)
        self._timers.append(timer)
        return timer

    def stop(self) -> None:
        """Wait for nobody any more: no connection is open."""
        for timer in self._timers:
            if timer.active():
                timer.cancel()

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that is lost."""
        self._for_next_request.pop(connection, None)

    def is_new(self, connection: Connection) -> bool:
        """Return whether a client has sent nothing yet, and is still waited for.

        A client that we accepted after the drain had begun is waited for as long as any client that is asking. One
        that we accepted shortly before is waited for only until FIRST_WORDS seconds after the drain began.
        """
        if connection.state is not ConnectionState.NEW:
            return False
        if connection.opened_at >= self._drain_began:
            return True
        return connection.opened_at >= self._drain_began - FIRST_WORDS and _runs(self._for_first_words)

    def asks_again(self, connection: Connection) -> bool:
        """Return whether a busy client may have been sending its next request when :meth:`begin_finishing` was called.

        It was active within the ``asks_again_within`` seconds before that call, and gets as long to ask again. A client
        with a pool of connections is busy on all of them: it may have taken one that it had not used for long.
        """
        if connection.active_at >= self._finish_began or not self._busy_peers:
            return False
        if not (within := self._busy_peers.get(connection.peer(), 0.0)):
            return False
        if connection not in self._for_next_request:
            self._for_next_request[connection] = self.wait(within, connection.look_again)
        return _runs(self._for_next_request[connection])

    def _was_active(self, connection: Connection) -> bool:
        return self._finish_began - connection.asks_again_within <= connection.active_at < self._finish_began


def _runs(timer: IDelayedCall | None) -> bool:
    return timer is not None and bool(timer.active())
