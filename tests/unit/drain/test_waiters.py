"""Deferreds that wait for one moment."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.drain._waiters import Waiters


class FireTests(SynchronousTestCase):
    """The moment comes."""

    def setUp(self) -> None:
        self.waiters: Waiters[int] = Waiters()
        self.told: list[str] = []

    def wait(self, name: str) -> None:
        """Have one more wait."""
        self.waiters.add().addCallback(lambda value: self.told.append(f"{name} {value}"))

    def test_together(self) -> None:
        """All that wait are told, in the order in which they came, once."""
        self.wait("first")
        self.wait("second")
        self.assertEqual(self.told, [])
        self.waiters.fire(1)
        self.waiters.fire(2)
        self.assertEqual(self.told, ["first 1", "second 1"])

    def test_nobody(self) -> None:
        """Nobody need wait."""
        self.waiters.fire(1)

    def test_added_meanwhile(self) -> None:
        """One that comes while they are told waits for the next time."""
        self.waiters.add().addCallback(lambda _: self.wait("late"))
        self.waiters.fire(1)
        self.assertEqual(self.told, [])
        self.waiters.fire(2)
        self.assertEqual(self.told, ["late 2"])

    def test_cancelled(self) -> None:
        """One that is cancelled hears that, and nothing more; the others do."""
        leaves = self.waiters.add()
        self.wait("stays")
        leaves.cancel()
        self.failureResultOf(leaves, CancelledError)
        self.waiters.fire(1)
        self.assertEqual(self.told, ["stays 1"])

    def test_cancelled_by_another(self) -> None:
        """One may cancel the next while they are told."""
        first = self.waiters.add()
        second = self.waiters.add()
        second.addErrback(lambda _: self.told.append("cancelled"))
        first.addCallback(lambda _: second.cancel())
        self.wait("third")
        self.waiters.fire(1)
        self.assertEqual(self.told, ["cancelled", "third 1"])
