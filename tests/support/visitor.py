"""A connection that is as a test says, and remembers what it was told; and a server's connections, made of such."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.server._connection import Connection
from twisted_node.server._connections import Connections
from twisted_node.server._states import ConnectionState

#: What a connection is told that is finished: when it may say its last words, and that its transport shall close.
FINISHED = ["last words", "close"]


class Visitor:
    """The protocol and the transport of one connection.

    Args:
        connections: where it is opened.
        kept: whether it asks to stay open beyond the drain.
        owed: whether its client waits for an answer.
        asking: whether its client is in the middle of a request.
        loses: whether its client has not taken everything.
        silent: whether its client has sent nothing yet.
        asks_again_within: in seconds, as for ``Connection``.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        kept: bool = False,
        owed: bool = False,
        asking: bool = False,
        loses: bool = False,
        silent: bool = False,
        asks_again_within: float = 0.0,
    ) -> None:
        self.owed = owed
        self.asking = asking
        self.loses = loses
        #: What it turns out that its client has sent already: ``owed`` or ``asking``.
        self.waiting: list[str] = []
        #: Whether its client has sent more than can be read now.
        self.unread = False
        self.told: list[str] = []
        self.connection = Connection(self, connections, self, asks_again_within=asks_again_within)
        self.connection.opened()
        if not silent:
            self.connection.heard()
        if kept:
            self.connection.keep_open()

    @classmethod
    def in_state(cls, connections: Connections, state: ConnectionState) -> Visitor:
        """Make one that is led to a state."""
        visitor = cls(connections, silent=True)
        if state is ConnectionState.TALKING:
            visitor.connection.heard()
        elif state is ConnectionState.FINISHING:
            visitor.connection.finish()
        elif state is ConnectionState.GONE:
            visitor.leave()
        return visitor

    def __str__(self) -> str:
        return "a visitor"

    def leave(self) -> None:
        """Be lost."""
        self.connection.lost()

    # As the protocol.

    def begin_lame_duck(self) -> None:
        self.told.append("lame duck")

    def begin_drain(self) -> None:
        self.told.append("drain")

    def is_owed(self) -> bool:
        return self.owed

    def is_asking(self) -> bool:
        return self.asking

    def last_words(self) -> None:
        self.told.append("last words")

    # As what closes the transport.

    def begin(self, *, client_has_closed: bool = False) -> None:
        self.told.append("close at once" if client_has_closed else "close")

    def client_closed(self) -> None:
        self.told.append("client closed")

    def read_waiting(self) -> bool:
        for state in self.waiting:
            setattr(self, state, True)
        return self.unread

    def has_unsent(self) -> bool:
        return self.loses

    def close_now(self) -> None:
        self.told.append("close now")

    def closed(self) -> None:
        self.told.append("closed")


class VisitorsTestCase(SynchronousTestCase):
    """The connections of a server with a linger of 2 s; no timer is left at the end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connections = Connections(self.clock, linger=2)
        self.visitors: list[Visitor] = []

    def tearDown(self) -> None:
        for visitor in self.visitors:
            visitor.leave()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def open(self, **state: Any) -> Visitor:
        """Open a connection."""
        visitor = Visitor(self.connections, **state)
        self.visitors.append(visitor)
        return visitor

    def drain(self) -> None:
        """Begin the drain, with nothing in flight."""
        self.connections.begin_drain()
        self.connections.finish()
