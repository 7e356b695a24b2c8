"""The race of the work in flight against the deadline."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.drain import Counts
from twisted_node.drain._in_flight import InFlight
from twisted_node.drain._phases import Event
from twisted_node.drain._race import Race
from twisted_node.errors import DrainTimeout


class RaceTests(SynchronousTestCase):
    """A race without a timer: the test says when time is up."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.counts = Counts()
        self.work = InFlight(self.counts, self.clock.seconds)
        self.race = Race(self.work, self.counts)

    def hold(self) -> tuple[Deferred[Any], Deferred[Any]]:
        """A piece of work, and our own Deferred for it."""
        work: Deferred[Any] = Deferred()
        ours = self.work.hold("work", work)
        ours.addErrback(lambda failure: failure.trap(DrainTimeout) and None)
        return work, ours

    def run_race(self) -> Deferred[Event]:
        return Deferred.fromCoroutine(self.race.run())

    def test_nothing_to_wait_for(self) -> None:
        """With nothing in flight it is over at once, even if time was up before it began."""
        self.assertIs(self.successResultOf(self.run_race()), Event.EMPTY)
        self.race = Race(self.work, self.counts)
        self.race.time_is_up()
        self.assertIs(self.successResultOf(self.run_race()), Event.EMPTY)
        self.assertEqual((self.race.waited, self.race.cut), (False, 0))

    def test_work_first(self) -> None:
        """It is over when all work has ended, and nothing is cut."""
        works = [self.hold()[0] for _ in range(2)]
        over = self.run_race()
        works[0].callback(None)
        self.assertNoResult(over)
        works[1].callback(None)
        self.assertIs(self.successResultOf(over), Event.EMPTY)
        self.assertEqual((self.race.waited, self.race.cut, self.race.oldest_cut), (True, 0, ()))

    def test_time_first(self) -> None:
        """When time is up what is left is cut, and the oldest of it is known by name."""
        (ended, _), _ = self.hold(), self.hold()
        over = self.run_race()
        self.clock.advance(3)
        ended.callback(None)
        self.race.time_is_up()
        self.assertIs(self.successResultOf(over), Event.DEADLINE)
        self.assertEqual((self.race.cut, self.race.oldest_cut, len(self.work)), (1, (("work", 3.0),), 0))
        self.assertEqual(self.counts, Counts(finished=1, cut=1))

    def test_time_up_before(self) -> None:
        """If time was up before it began, what is in flight is cut at once."""
        self.hold()
        self.race.time_is_up()
        self.assertIs(self.successResultOf(self.run_race()), Event.DEADLINE)

    def test_taken_meanwhile(self) -> None:
        """Work that was taken meanwhile is waited for as well, and cut by the same deadline."""
        first, _ = self.hold()
        over = self.run_race()
        self.hold()
        first.callback(None)
        self.assertNoResult(over)
        self.hold()
        self.race.time_is_up()
        self.assertIs(self.successResultOf(over), Event.DEADLINE)
        self.assertEqual((self.race.cut, self.counts), (2, Counts(finished=1, cut=2)))

    def test_callbacks_that_wait(self) -> None:
        """A result that the callbacks of the work wait for is waited for."""
        work, ours = self.hold()
        saved: Deferred[None] = Deferred()
        ours.addCallback(lambda _: saved)
        over = self.run_race()
        work.callback(None)
        self.assertNoResult(over)
        saved.callback(None)
        self.assertIs(self.successResultOf(over), Event.EMPTY)

    def test_cut_while_its_callbacks_wait(self) -> None:
        """Work whose callbacks were waited for in vain was cut."""
        work, ours = self.hold()
        outcomes: list[Any] = []
        ours.addCallback(lambda _: Deferred[None]()).addBoth(outcomes.append)
        over = self.run_race()
        work.callback(None)
        self.race.time_is_up()
        self.assertIs(self.successResultOf(over), Event.DEADLINE)
        self.assertEqual((self.race.cut, self.counts.cut), (1, 1))
        self.assertEqual([outcome.type for outcome in outcomes], [CancelledError])

    def test_cut_earlier(self) -> None:
        """What was cut before is no part of what the deadline cut."""
        self.hold()
        self.work.cut_all()
        self.hold()
        self.race.time_is_up()
        self.successResultOf(self.run_race())
        self.assertEqual((self.race.cut, self.counts.cut), (1, 2))

    def test_all_cut_before_time_is_up(self) -> None:
        """If the last work was cut by its owner, the deadline cut nothing."""
        _, ours = self.hold()
        over = self.run_race()
        ours.cancel()
        self.assertIs(self.successResultOf(over), Event.EMPTY)
        self.assertEqual((self.race.cut, self.counts.cut), (0, 1))

    def test_very_much_work(self) -> None:
        """With 10,000 pieces of work in flight and more, the garbage collector does not look at them again."""
        self.addCleanup(gc.unfreeze)
        for pieces, frozen in ((9_999, False), (10_000, True)):
            gc.unfreeze()
            for _ in range(pieces):
                self.hold()
            over = self.run_race()
            self.assertEqual(gc.get_freeze_count() >= pieces, frozen)
            self.work.cut_all()
            self.successResultOf(over)
