"""Clients that may have been sending their next request when the connections began to be finished."""

from __future__ import annotations

import math
from collections.abc import Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_node.server._connection import Connection

__all__ = ["BusyPeers"]


class BusyPeers:
    """Gives each client that was active shortly before as long to ask again as it may take for that.

    A client with a pool of connections is busy on all of them: it may have taken one that it had not used for long.

    Args:
        clock: for that time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # In seconds on the clock.
        self._began = math.inf
        # Within how many seconds they ask again.
        self._peers: dict[object, float] = {}
        # A wait is over when its timer has fired.
        self._waits: dict[Connection, IDelayedCall] = {}

    def find(self, connections: Iterable[Connection]) -> None:
        """Find who is busy, now that the connections begin to be finished."""
        self._began = self._clock.seconds()
        for connection in connections:
            if self._began - connection.asks_again_within <= connection.active_at < self._began:
                peer = connection.peer()
                self._peers[peer] = max(connection.asks_again_within, self._peers.get(peer, 0.0))

    def may_ask(self, connection: Connection) -> bool:
        """Return whether a connection's client is waited for; once it is not any more, that is looked at again."""
        if connection.active_at >= self._began or not self._peers:
            return False
        if not (within := self._peers.get(connection.peer(), 0.0)):
            return False
        if connection not in self._waits:
            self._waits[connection] = self._clock.callLater(within, connection.look_again)
        return bool(self._waits[connection].active())

    def forget(self, connection: Connection) -> None:
        """Wait no longer for the client of a connection that is lost."""
        wait = self._waits.pop(connection, None)
        if wait is not None and wait.active():
            wait.cancel()
