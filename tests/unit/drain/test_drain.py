"""The drain: work in flight, and how it ends."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.errors import Draining, DrainTimeout, MisuseError


class DrainTestCase(SynchronousTestCase):
    """A drain on a clock, and work to give it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)

    def tearDown(self) -> None:
        if self.drain.ended:
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def track(self, name: object = "work", **options: Any) -> tuple[Deferred[Any], list[Any]]:
        """Work in flight, and what its outcome will be put into."""
        work: Deferred[Any] = Deferred()
        outcomes: list[Any] = []
        self.drain.track(name, work, **options).addBoth(outcomes.append)
        return work, outcomes

    def assert_cut(self, outcomes: list[Any]) -> None:
        self.assertEqual([outcome.type for outcome in outcomes], [DrainTimeout])


class TrackTests(DrainTestCase):
    """Work in flight while serving."""

    def test_result(self) -> None:
        """Work is in flight until it has its result, which is passed on."""
        work, outcomes = self.track()
        self.assertEqual((self.drain.in_flight, outcomes), (1, []))
        work.callback("result")
        self.assertEqual((self.drain.in_flight, outcomes), (0, ["result"]))
        self.assertEqual(self.drain.counts.finished, 1)

    def test_refused_after_all(self) -> None:
        """Work that is refused after all counts as refused, once, and not as finished; what has ended does not."""
        work: Deferred[None] = Deferred()
        ours = self.drain.track("work", work)
        self.drain.refuse(ours)
        self.drain.refuse(ours)
        self.successResultOf(ours)
        work.callback(None)
        counts = self.drain.counts
        self.assertEqual((self.drain.in_flight, counts.refused, counts.finished), (0, 1, 0))

    def test_statistics(self) -> None:
        """A picture names the oldest work and its age."""
        self.track("old")
        self.clock.advance(2)
        self.track("young")
        self.clock.advance(1)
        self.assertEqual(
            self.drain.statistics(),
            Statistics(Phase.SERVING, "", 2, 2, 0, 0, 0, 0, 0.0, None, (("old", 3.0), ("young", 1.0))),
        )
        self.assertEqual(self.drain.statistics(oldest=1).oldest, (("old", 3.0),))


class BeginTests(DrainTestCase):
    """A drain, from its beginning to its end."""

    def test_nothing_in_flight(self) -> None:
        """With nothing in flight it ends where it begins, whatever its timeout."""
        for timeout in (0, 10):
            drain = Drain(self.clock, self.clock.seconds)
            statistics = self.successResultOf(drain.begin(timeout))
            self.assertEqual((statistics.phase, statistics.took, statistics.remaining), (Phase.DRAINED, 0.0, 0))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waits(self) -> None:
        """It waits for what is in flight, and takes as long as that takes."""
        work, outcomes = self.track()
        drained = self.drain.begin(10, "asked to")
        self.clock.advance(3)
        self.assertNoResult(drained)
        self.assertEqual(self.drain.statistics().left, 7.0)
        work.callback("result")
        self.assertEqual(outcomes, ["result"])
        self.assertEqual(
            self.successResultOf(drained), Statistics(Phase.DRAINED, "asked to", 0, 0, 1, 0, 0, 0, 3.0, None, ())
        )

    def test_nothing_in_flight_takes_no_time(self) -> None:
        """With nothing in flight the drain takes no time at all, however long it takes to close the listeners."""
        self.drain.when_draining().addCallback(lambda _: self.clock.advance(0.002))
        self.assertEqual(self.successResultOf(self.drain.begin(10)).took, 0.0)

    def test_took_is_frozen(self) -> None:
        """What a drain took does not grow after its end."""
        self.drain.begin(10)
        self.clock.advance(5)
        self.assertEqual(self.drain.statistics().took, 0.0)

    def test_answered_before_it_ends(self) -> None:
        """Whoever waits for the last work hears of it before whoever waits for the drain."""
        order: list[str] = []
        work: Deferred[None] = Deferred()
        self.drain.track("work", work).addCallback(lambda _: order.append("work"))
        self.drain.begin(10).addCallback(lambda _: order.append("drain"))
        work.callback(None)
        self.assertEqual(order, ["work", "drain"])

    def test_refuses(self) -> None:
        """New work is refused, with the reason, and counted."""
        self.drain.begin(10, "SIGTERM")
        error = self.assertRaises(Draining, self.drain.track, "late", Deferred())
        self.assertEqual((str(error), self.drain.counts.refused, self.drain.in_flight), ("SIGTERM", 1, 0))

    def test_work_admitted_while_draining(self) -> None:
        """Work that belongs to what is in flight may join, and is waited for too, however often."""
        first, _ = self.track()
        drained = self.drain.begin(10)
        second, outcomes = self.track(while_draining=True)
        first.callback(None)
        self.assertNoResult(drained)
        third, more = self.track(while_draining=True)
        second.callback(2)
        self.assertNoResult(drained)
        third.callback(3)
        self.assertEqual((outcomes, more), ([2], [3]))
        self.assertIs(self.successResultOf(drained).phase, Phase.DRAINED)

    def test_admitted_work_is_cut_too(self) -> None:
        """Work that joined while draining is cut by the same deadline, before or after the rest has ended."""
        first, _ = self.track()
        drained = self.drain.begin(10)
        _, outcomes = self.track(while_draining=True)
        self.clock.advance(1)
        first.callback(None)
        self.clock.advance(9)
        self.assert_cut(outcomes)
        self.assertEqual(self.successResultOf(drained).remaining, 1)

    def test_failures_end_it_too(self) -> None:
        """A drain ends well when work fails: it has come to its own end."""
        work, _ = self.track()
        drained = self.drain.begin(10)
        work.errback(ValueError())
        self.assertIs(self.successResultOf(drained).phase, Phase.DRAINED)

    def test_wrong_timeout(self) -> None:
        """What is no number of seconds is refused, and nothing has changed."""
        for timeout in (-1, float("inf"), float("nan")):
            self.assertRaises(MisuseError, self.drain.begin, timeout)
            self.assertRaises(MisuseError, self.drain.lame_duck, 1, timeout)
            self.assertRaises(MisuseError, self.drain.lame_duck, timeout, 1)
        self.assertIs(self.drain.phase, Phase.SERVING)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class CutByDeadlineTests(DrainTestCase):
    """The deadline cuts what is left."""

    def test_cuts(self) -> None:
        """At the deadline all that is left fails, and the work is cancelled."""
        cancelled: list[Deferred[None]] = []
        outcomes: list[Any] = []
        for number in range(3):
            self.drain.track(number, Deferred(cancelled.append)).addBoth(outcomes.append)
        drained = self.drain.begin(10, "SIGTERM")
        self.clock.advance(9.999)
        self.assertEqual(outcomes, [])
        self.clock.advance(0.001)
        self.assertEqual([str(outcome.value) for outcome in outcomes], ["SIGTERM"] * 3)
        self.assertEqual(len(cancelled), 3)
        statistics = self.successResultOf(drained)
        self.assertEqual((statistics.phase, statistics.took), (Phase.TIMED_OUT, 10.0))
        self.assertEqual((statistics.cut, statistics.remaining, statistics.in_flight), (3, 3, 0))
        self.assertEqual(statistics.oldest, ((0, 10.0), (1, 10.0), (2, 10.0)))

    def test_zero(self) -> None:
        """A timeout of 0 cuts at once."""
        _, outcomes = self.track()
        self.assertIs(self.successResultOf(self.drain.begin(0)).phase, Phase.TIMED_OUT)
        self.assert_cut(outcomes)

    def test_nearer(self) -> None:
        """A later call brings the deadline nearer; the first reason stays."""
        _, outcomes = self.track()
        first = self.drain.begin(10, "first")
        self.clock.advance(1)
        second = self.drain.begin(2, "second")
        self.clock.advance(2)
        self.assert_cut(outcomes)
        self.assertEqual(self.successResultOf(first), self.successResultOf(second))
        self.assertEqual((self.drain.reason, self.drain.statistics().took), ("first", 3.0))

    def test_never_further(self) -> None:
        """A later call never pushes the deadline away."""
        _, outcomes = self.track()
        self.drain.begin(2)
        self.drain.begin(10)
        self.clock.advance(2)
        self.assert_cut(outcomes)

    def test_joining_the_end(self) -> None:
        """A call after the end gets the same statistics, and changes nothing."""
        self.drain.begin(0, "first")
        self.clock.advance(5)
        statistics = self.successResultOf(self.drain.begin(10, "second"))
        self.assertEqual((statistics.reason, statistics.took), ("first", 0.0))

    def test_wall_clock_set_forward(self) -> None:
        """When the wall clock jumps, and its timer fires early, the deadline still is when it was promised."""
        monotonic = Clock()
        drain = Drain(self.clock, monotonic.seconds)
        outcomes: list[Any] = []
        drain.track("work", Deferred()).addBoth(outcomes.append)
        drain.begin(10)
        monotonic.advance(1)
        self.clock.advance(3600)
        self.assertEqual(outcomes, [])
        monotonic.advance(9)
        self.clock.advance(9)
        self.assert_cut(outcomes)

    def test_cut_in_flight(self) -> None:
        """What is in flight can be cut in any phase, without a drain."""
        _, outcomes = self.track()
        self.drain.cut_in_flight()
        self.assert_cut(outcomes)
        self.assertEqual((self.drain.phase, self.drain.counts.cut), (Phase.SERVING, 1))

    def test_work_offered_by_what_was_cut(self) -> None:
        """Work that is offered while the deadline cuts is refused, or if it may join, cut in the same moment."""
        started: list[Any] = []

        def offer(_: Failure) -> None:
            self.assertRaises(Draining, self.drain.track, "new", Deferred())
            self.drain.track("joins", Deferred(), while_draining=True).addBoth(started.append)

        self.drain.track("work", Deferred()).addErrback(offer)
        statistics = self.successResultOf(self.drain.begin(0))
        self.assertEqual((statistics.remaining, statistics.in_flight, statistics.refused), (2, 0, 1))
        self.assert_cut(started)

    def test_work_after_the_end(self) -> None:
        """Work that may join is taken even after the end, and can be cut then."""
        self.drain.begin(0)
        _, outcomes = self.track(while_draining=True)
        self.assertEqual((self.drain.in_flight, self.drain.statistics().remaining), (1, 0))
        self.drain.cut_in_flight()
        self.assert_cut(outcomes)
        self.assertEqual(self.drain.phase, Phase.DRAINED)

    def test_begun_again_by_the_last_work(self) -> None:
        """When the last work itself ends the drain's patience, nothing is left to cut."""
        work: Deferred[None] = Deferred()

        def cut(_: None) -> None:
            self.drain.begin(0)

        self.drain.track("work", work).addCallback(cut)
        drained = self.drain.begin(10)
        work.callback(None)
        statistics = self.successResultOf(drained)
        self.assertEqual((statistics.phase, statistics.cut), (Phase.DRAINED, 0))


class LameDuckTests(DrainTestCase):
    """Serving on for a while."""

    def test_serves_then_drains(self) -> None:
        """A lame duck takes work, and drains by itself after its delay."""
        drained = self.drain.lame_duck(5, 10, "SIGTERM")
        work, _ = self.track()
        self.assertFalse(self.drain.refusing)
        self.assertEqual(self.drain.statistics().reason, "SIGTERM")
        self.clock.advance(5)
        self.assertEqual((self.drain.phase, self.drain.deadline), (Phase.DRAINING, 15.0))
        work.callback(None)
        self.assertEqual(self.successResultOf(drained).reason, "SIGTERM")

    def test_again(self) -> None:
        """A second lame duck joins the first: its time is not begun anew."""
        self.drain.lame_duck(5, 10, "first")
        self.clock.advance(4)
        self.drain.lame_duck(5, 10, "second")
        self.clock.advance(1)
        self.assertEqual((self.drain.phase, self.drain.reason), (Phase.DRAINED, "first"))

    def test_nearer(self) -> None:
        """A second lame duck may bring the end of the first nearer, and the deadline that follows."""
        self.drain.lame_duck(5, 10)
        for delay, timeout, drains_at, deadline in ((9, 1, 5, 10), (3, 20, 3, 10), (2, 1, 2, 3)):
            self.drain.lame_duck(delay, timeout)
            self.assertEqual((self.drain.lame_duck_ends, self.drain.deadline), (drains_at, deadline))
        _, outcomes = self.track()
        self.clock.advance(2)
        self.assertEqual((self.drain.phase, self.drain.lame_duck_ends), (Phase.DRAINING, None))
        self.clock.advance(1)
        self.assert_cut(outcomes)

    def test_promised_deadline(self) -> None:
        """The deadline is promised when the lame duck begins: a drain may bring it nearer, and never pushes it away."""
        for timeout, deadline in ((100, 15), (2, 3)):
            self.clock = Clock()
            self.drain = Drain(self.clock, self.clock.seconds)
            self.drain.lame_duck(5, 10)
            _, outcomes = self.track()
            self.clock.advance(1)
            self.drain.begin(timeout)
            self.assertEqual(self.drain.deadline, deadline)
            self.clock.advance(deadline - 1)
            self.assert_cut(outcomes)

    def test_no_time(self) -> None:
        """No time for the lame duck is a drain at once; no time for its drain cuts when it ends."""
        _, outcomes = self.track()
        self.drain.lame_duck(0, 10)
        self.assertEqual((self.drain.phase, self.drain.deadline), (Phase.DRAINING, 10))
        self.drain.begin(0)
        self.drain = Drain(self.clock, self.clock.seconds)
        _, outcomes = self.track()
        self.drain.lame_duck(5, 0)
        self.clock.advance(5)
        self.assert_cut(outcomes)
        self.assertIs(self.drain.phase, Phase.TIMED_OUT)

    def test_begin(self) -> None:
        """A drain ends the lame duck at once."""
        self.drain.lame_duck(5, 10, "first")
        self.successResultOf(self.drain.begin(10, "second"))
        self.assertEqual(self.drain.reason, "second")

    def test_too_late(self) -> None:
        """Once draining, a lame duck is no more than another call that joins."""
        self.track()
        self.drain.begin(10)
        drained = self.drain.lame_duck(1, 1)
        self.clock.advance(9)
        self.assertNoResult(drained)
        self.clock.advance(1)
        self.assertIs(self.successResultOf(drained).phase, Phase.TIMED_OUT)


class WaiterTests(DrainTestCase):
    """Whoever waits for a drain."""

    def test_when_draining(self) -> None:
        """Those who wait for the beginning hear of it in the same turn; later ones at once."""
        waiting = self.drain.when_draining()
        self.assertNoResult(waiting)
        self.track()
        self.drain.begin(10)
        self.successResultOf(waiting)
        self.successResultOf(self.drain.when_draining())

    def test_before_draining(self) -> None:
        """Those who wait for the last moment before a drain are told once, while work is still taken."""
        phases: list[Phase] = []
        self.drain.before_draining().addCallback(lambda _: phases.append(self.drain.phase))
        self.drain.lame_duck(5, 10)
        self.assertEqual(phases, [])
        self.clock.advance(5)
        self.drain.begin(3)
        self.assertEqual(phases, [Phase.LAME_DUCK])
        self.successResultOf(self.drain.before_draining())

    def test_when_draining_before_the_end(self) -> None:
        """The beginning is told before the end, also of a drain that has nothing to do."""
        order: list[str] = []
        self.drain.when_draining().addCallback(lambda _: order.append("draining"))
        self.drain.when_drained().addCallback(lambda _: order.append("drained"))
        self.drain.begin(0)
        self.assertEqual(order, ["draining", "drained"])

    def test_not_in_a_lame_duck(self) -> None:
        """A lame duck is not draining."""
        waiting = self.drain.when_draining()
        self.drain.lame_duck(5, 10)
        self.assertNoResult(waiting)
        self.clock.advance(5)
        self.successResultOf(waiting)

    def test_cancelled(self) -> None:
        """A waiter that is cancelled hears nothing more, and the others do."""
        waits: list[Callable[[], Deferred[Any]]] = [self.drain.when_draining, self.drain.when_drained]
        pairs = [(wait(), wait()) for wait in waits]
        for leaves, _ in pairs:
            leaves.cancel()
            self.failureResultOf(leaves, CancelledError)
        self.drain.begin(10)
        for _, stays in pairs:
            self.successResultOf(stays)

    def test_waiter_that_fails(self) -> None:
        """What one waiter does wrong is its own affair."""
        self.drain.when_draining().addCallback(lambda _: 1 / 0).addErrback(lambda failure: failure.trap(ValueError))
        self.successResultOf(self.drain.begin(10))
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_watch_deadline(self) -> None:
        """Watchers are told when the deadline is, and when it comes nearer; not when it stays."""
        told: list[float] = []
        self.drain.watch_deadline(told.append)
        self.track()
        self.clock.advance(1)
        for timeout in (10, 20, 5):
            self.drain.begin(timeout)
        self.assertEqual(told, [11.0, 6.0])
        self.assertEqual(self.drain.deadline, 6.0)
