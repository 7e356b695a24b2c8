"""One connection: what it is told, and what it says of its client."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.visitor import Visitor
from twisted_node.server._connections import Connections
from twisted_node.server._states import ConnectionState


class OneConnectionTests(SynchronousTestCase):
    """A connection of a server that serves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connections = Connections(self.clock)
        self.visitor = Visitor(self.connections, silent=True)
        self.connection = self.visitor.connection

    def test_served(self) -> None:
        """What comes in is served until the connection is finished."""
        visitors = [Visitor.in_state(self.connections, state) for state in ConnectionState]
        self.assertEqual([visitor.connection.is_closing for visitor in visitors], [False, False, True, True])
        self.assertEqual([visitor.connection.heard() for visitor in visitors], [True, True, False, False])

    def test_client_closed(self) -> None:
        """The end of the client's input closes a connection that is finished, and no other."""
        told = []
        for state in ConnectionState:
            visitor = Visitor.in_state(self.connections, state)
            visitor.connection.client_closed()
            self.assertTrue(visitor.connection.input_ended)
            self.assertIs(visitor.connection.state, state)
            told.append("client closed" in visitor.told)
        self.assertEqual(told, [False, False, True, True])

    def test_finish(self) -> None:
        """Its protocol says its last words, then its transport closes: once, and at once if the client has closed."""
        self.connection.finish()
        self.connection.finish()
        self.assertEqual(self.visitor.told, ["last words", "close"])
        other = Visitor(self.connections)
        other.connection.client_closed()
        other.connection.finish()
        self.assertEqual(other.told, ["last words", "close at once"])

    def test_close_now(self) -> None:
        """It can be closed at once, without a word."""
        self.connection.close_now()
        self.assertEqual(self.visitor.told, ["close now"])

    def test_lost(self) -> None:
        """When it is lost it leaves the others, and its close is over."""
        self.assertEqual(len(self.connections), 1)
        self.visitor.leave()
        self.assertEqual((len(self.connections), self.visitor.told), (0, ["closed"]))

    def test_name(self) -> None:
        """It is called what its protocol is called."""
        self.assertEqual(str(self.connection), "a visitor")

    def test_active(self) -> None:
        """It knows when it was opened, and when something was last heard or answered."""
        for happens in (self.connection.heard, self.connection.was_active):
            self.clock.advance(1)
            happens()
            self.assertEqual(self.connection.active_at, self.clock.seconds())
        self.assertEqual(self.connection.opened_at, 0)

    def test_handshake(self) -> None:
        """Its client's first words may be here as long after its TLS handshake as that took."""
        self.connection.in_handshake = True
        self.clock.advance(3)
        self.connection.handshake_completed()
        self.assertEqual((self.connection.in_handshake, self.connection.opened_at), (False, 6))

    def test_receiving(self) -> None:
        """More of a request may come in a handshake, behind half a request, and behind a pause with more to read."""
        for name in ("in_handshake", "paused"):
            self.assertFalse(self.connection.is_receiving())
            setattr(self.connection, name, True)
            self.assertTrue(self.connection.is_receiving(), name)
            setattr(self.connection, name, False)
        self.visitor.asking = True
        self.assertTrue(self.connection.is_receiving())
        self.visitor.asking = False
        self.connection.paused = True
        self.connection.client_closed()
        self.assertFalse(self.connection.is_receiving())

    def test_read_waiting(self) -> None:
        """What the client has sent is read, unless it has sent all and that is known."""
        self.visitor.waiting = ["asking"]
        self.connection.read_waiting()
        self.assertTrue(self.visitor.asking)
        self.visitor.asking = False
        self.connection.client_closed()
        self.connection.read_waiting()
        self.assertFalse(self.visitor.asking)

    def test_unsent(self) -> None:
        """Whether the client's kernel has taken everything is the transport's to say."""
        self.assertFalse(self.connection.has_unsent())
        self.visitor.loses = True
        self.assertTrue(self.connection.has_unsent())
