"""A deadline: its timer, and who is told."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.drain._deadline import Deadline


class DeadlineTests(SynchronousTestCase):
    """A deadline on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.passed: list[float] = []
        self.deadline = Deadline(self.clock, self.clock.seconds, lambda: self.passed.append(self.clock.seconds()))

    def test_nearer(self) -> None:
        """It can be brought nearer, never pushed away, and passes once."""
        told: list[float] = []
        self.deadline.watch(told.append)
        self.assertEqual((self.deadline.at, self.deadline.left), (None, None))
        for at in (10, 20, 5, 7):
            self.deadline.bring_near(at)
        self.assertEqual((told, self.deadline.left), ([10, 5], 5))
        self.clock.pump([5, 5, 10])
        self.assertEqual((self.passed, self.deadline.left), ([5], 0))

    def test_in_the_past(self) -> None:
        """One that is over already passes at once."""
        self.deadline.bring_near(0)
        self.assertEqual((self.passed, self.clock.getDelayedCalls()), ([0], []))

    def test_stopped(self) -> None:
        """One that is stopped sets no timer any more; when it comes nearer, that is told all the same."""
        told: list[float] = []
        self.deadline.watch(told.append)
        self.deadline.bring_near(10)
        self.deadline.stop()
        self.deadline.bring_near(5)
        self.assertEqual((told, self.passed, self.clock.getDelayedCalls()), ([10, 5], [], []))
