"""Clients that may be about to ask, while connections are finished: how long each is waited for."""

from __future__ import annotations

from tests.support.visitor import FINISHED, VisitorsTestCase
from twisted_node.server._client_waits import FIRST_WORDS

#: Seconds within which some clients ask again.
WITHIN = 0.01


class ClientWaitsTests(VisitorsTestCase):
    """A client that is asking, has just connected, or asks all the time."""

    def test_asking(self) -> None:
        """One in the middle of asking is waited for, as long as the linger, from the beginning of the drain."""
        visitor, quicker = self.open(asking=True), self.open(asking=True)
        self.connections.begin_drain()
        self.clock.advance(1)
        self.connections.finish()
        quicker.asking = False
        quicker.connection.look_again()
        self.assertEqual(quicker.told, ["drain", *FINISHED])
        self.clock.advance(0.9)
        self.assertEqual(visitor.told, ["drain"])
        self.clock.advance(0.1)
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_asking_too_long(self) -> None:
        """None is waited for any more when the drain has taken longer than the linger."""
        visitor = self.open(asking=True)
        self.connections.begin_drain()
        self.clock.advance(2)
        self.assertEqual(visitor.told, ["drain"])
        self.connections.finish()
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_asks_again(self) -> None:
        """One that was active just before the finish is waited for, until it is heard again or for so long."""
        resting, asking, slow = (self.open(asks_again_within=within) for within in (0.0, WITHIN, WITHIN))
        slow.connection.heard()
        self.clock.advance(FIRST_WORDS)
        for visitor in (resting, asking):
            visitor.connection.heard()
        self.clock.advance(WITHIN / 2)
        self.drain()
        self.assertEqual(
            (resting.told, asking.told, slow.told), (["drain", *FINISHED], ["drain"], ["drain", *FINISHED])
        )
        self.connections.lose_patience()
        self.assertEqual(asking.told, ["drain"])
        asking.connection.heard()
        asking.connection.look_again()
        self.assertEqual(asking.told, ["drain", *FINISHED])

    def test_asks_no_more(self) -> None:
        """One that was active just before the finish and is silent from then on is finished after so long."""
        visitor = self.open(asks_again_within=WITHIN)
        visitor.connection.was_active()
        visitor.connection.heard()
        self.clock.advance(WITHIN / 2)
        self.drain()
        self.clock.advance(WITHIN * 0.9)
        self.assertEqual(visitor.told, ["drain"])
        self.clock.advance(WITHIN * 0.1)
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_opened_while_draining(self) -> None:
        """One that was waiting in the queue learns of the drain, and has as long as the linger to ask."""
        self.connections.begin_drain()
        visitor = self.open(silent=True)
        self.assertEqual(visitor.told, ["drain"])
        self.connections.finish()
        late = self.open(silent=True)
        self.clock.advance(1.9)
        self.assertEqual((visitor.told, late.told), (["drain"], ["drain"]))
        late.connection.heard()
        late.connection.look_again()
        self.assertEqual((visitor.told, late.told), (["drain"], ["drain", *FINISHED]))
        self.clock.advance(0.1)
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_new(self) -> None:
        """A client that connected just before the drain has its first words left, one in the queue has the linger."""
        old = self.open(silent=True)
        self.clock.advance(FIRST_WORDS)
        new = self.open(silent=True)
        self.clock.advance(FIRST_WORDS / 2)
        self.connections.begin_drain()
        queued = self.open(silent=True)
        self.connections.finish()

        def waited_for() -> list[bool]:
            return [not visitor.connection.is_closing for visitor in (old, new, queued)]

        self.assertEqual(waited_for(), [False, True, True])
        self.clock.advance(FIRST_WORDS)
        self.assertEqual(waited_for(), [False, False, True])

    def test_new_for_too_long(self) -> None:
        """The first words are waited for from the beginning of the drain, not of the finish."""
        visitor = self.open(silent=True)
        self.connections.begin_drain()
        self.clock.advance(FIRST_WORDS)
        self.connections.finish()
        self.assertEqual(visitor.told, ["drain"])
        self.clock.advance(2)
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_handshake(self) -> None:
        """A TLS handshake counts as asking, however long it has taken before; its end begins the first words."""
        shaking, done = self.open(silent=True), self.open(silent=True)
        for visitor in (shaking, done):
            visitor.connection.in_handshake = True
        self.clock.advance(FIRST_WORDS * 2)
        self.drain()
        self.clock.advance(1)
        done.connection.handshake_completed()
        done.connection.look_again()
        self.clock.advance(0.9)
        self.assertEqual((shaking.told, done.told), (["drain"], ["drain"]))
        self.clock.advance(0.1)
        self.assertEqual((shaking.told, done.told), (["drain", *FINISHED], ["drain", *FINISHED]))

    def test_handshake_before_the_drain(self) -> None:
        """A client whose handshake ended just before the drain has its first words left; another one has not."""
        before = self.open(silent=True)
        before.connection.handshake_completed()
        self.clock.advance(FIRST_WORDS * 1.5)
        just_now = self.open(silent=True)
        just_now.connection.handshake_completed()
        self.clock.advance(FIRST_WORDS / 2)
        self.drain()
        self.assertEqual((before.told, just_now.told), (["drain", *FINISHED], ["drain"]))
        self.clock.advance(FIRST_WORDS)
        self.assertEqual(just_now.told, ["drain", *FINISHED])

    def test_handshake_at_a_distance(self) -> None:
        """A client's first words need as long after its handshake as that took, and are waited for."""
        visitor = self.open(silent=True)
        self.clock.advance(FIRST_WORDS * 1.5)
        visitor.connection.handshake_completed()
        self.clock.advance(0.01)
        self.drain()
        self.clock.advance(FIRST_WORDS * 1.5 - 0.01)
        self.assertEqual(visitor.told, ["drain"])

    def test_handshake_at_a_distance_long_ago(self) -> None:
        """One that has been silent for longer than that is closed with the others."""
        visitor = self.open(silent=True)
        self.clock.advance(0.15)
        visitor.connection.handshake_completed()
        self.clock.advance(0.15 + FIRST_WORDS + 0.01)
        self.drain()
        self.assertEqual(visitor.told, ["drain", *FINISHED])
