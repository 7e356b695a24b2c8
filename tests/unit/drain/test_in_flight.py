"""The work in flight: how a piece of it is held, ends and is cut."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.drain import Counts
from twisted_node.drain._in_flight import InFlight
from twisted_node.errors import DrainTimeout


class InFlightTestCase(SynchronousTestCase):
    """Work, its counts, and what comes of it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.counts = Counts()
        self.in_flight = InFlight(self.counts, self.clock.seconds)

    def hold(self, work: Deferred[Any] | None = None, name: object = "work") -> tuple[Deferred[Any], list[Any]]:
        """Work in flight, and what its outcome will be put into."""
        work = Deferred() if work is None else work
        outcomes: list[Any] = []
        self.in_flight.hold(name, work).addBoth(outcomes.append)
        return work, outcomes

    def assert_cut(self, outcomes: list[Any]) -> None:
        self.assertEqual([outcome.type for outcome in outcomes], [DrainTimeout])


class WorkEndTests(InFlightTestCase):
    """Work comes to its own end, or is refused after all."""

    def test_failure(self) -> None:
        """A failure is an end like any other, and is passed on; nobody else logs it."""
        work, outcomes = self.hold()
        work.errback(ValueError("no"))
        self.assertEqual([outcome.type for outcome in outcomes], [ValueError])
        self.assertEqual((len(self.in_flight), self.counts), (0, Counts(finished=1)))

    def test_ended_already(self) -> None:
        """Work that has ended already is counted, and is not in flight."""
        _, outcomes = self.hold(succeed(5))
        self.assertEqual((outcomes, len(self.in_flight), self.counts), ([5], 0, Counts(finished=1)))

    def test_same_name(self) -> None:
        """Names are only shown: equal ones are separate work."""
        (one, first), (two, second) = self.hold(), self.hold()
        self.assertEqual(len(self.in_flight.held), 2)
        two.callback(2)
        one.callback(1)
        self.assertEqual((first, second), ([1], [2]))

    def test_refused_after_all(self) -> None:
        """Work that is refused after all counts as refused, once; its own end is dropped."""
        work: Deferred[int] = Deferred()
        ours = self.in_flight.hold("work", work)
        self.in_flight.refuse(ours)
        self.in_flight.refuse(ours)
        self.assertIsNone(self.successResultOf(ours))
        work.callback(5)
        self.assertEqual((len(self.in_flight), self.counts), (0, Counts(refused=1)))


class WorkCutTests(InFlightTestCase):
    """Work is cut, whatever it thinks of that."""

    def test_one(self) -> None:
        """To cancel our own Deferred cuts that work alone, which is told of it."""
        cancelled: list[Deferred[None]] = []
        work: Deferred[None] = Deferred(cancelled.append)
        self.hold()
        ours = self.in_flight.hold("work", work)
        ours.cancel()
        self.failureResultOf(ours, DrainTimeout)
        self.assertEqual((cancelled, len(self.in_flight), self.counts), ([work], 1, Counts(cut=1)))

    def test_reason(self) -> None:
        """All that is held fails with the reason."""
        outcomes = [self.hold()[1] for _ in range(3)]
        self.in_flight.cut_for("SIGTERM")
        self.in_flight.cut_all()
        self.assertEqual([str(outcome.value) for (outcome,) in outcomes], ["SIGTERM"] * 3)
        self.assertEqual((len(self.in_flight), self.counts), (0, Counts(cut=3)))

    def test_late_result(self) -> None:
        """What work says after it was cut is dropped, result or failure."""
        (one, first), (two, second) = self.hold(), self.hold()
        # None of them heeds its cancellation: a Deferred swallows one result after that.
        _, third = self.hold(Deferred(lambda work: work.callback("too late")))
        one.addErrback(lambda _: None)
        self.in_flight.cut_all()
        one.callback("too late")
        two.errback(ValueError("too late"))
        for outcomes in (first, second, third):
            self.assert_cut(outcomes)
        self.assertEqual(self.counts, Counts(cut=3))

    def test_coroutine_that_ignores(self) -> None:
        """A coroutine that swallows its cancellation is cut all the same."""

        async def stubborn() -> None:
            try:
                await Deferred[None]()
            except CancelledError:
                await Deferred[None]()

        _, outcomes = self.hold(Deferred.fromCoroutine(stubborn()))
        self.in_flight.cut_all()
        self.assert_cut(outcomes)
        self.assertEqual(len(self.in_flight), 0)

    def test_canceller_that_raises(self) -> None:
        """A canceller that raises is logged, and keeps nobody else from being cut."""

        def canceller(_: object) -> None:
            raise ValueError("no")

        outcomes = [self.hold(work)[1] for work in (Deferred[None](canceller), Deferred[None]())]
        self.in_flight.cut_all()
        for each in outcomes:
            self.assert_cut(each)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class NamesTests(InFlightTestCase):
    """What is in flight, by name."""

    def test_oldest(self) -> None:
        """The oldest come first, each with its age."""
        for name in ("old", "ended", "young"):
            work, _ = self.hold(name=name)
            if name == "ended":
                work.callback(None)
            self.clock.advance(1)
        self.assertEqual(self.in_flight.oldest(5), (("old", 3.0), ("young", 1.0)))
        self.assertEqual(self.in_flight.oldest(1), (("old", 3.0),))

    def test_named(self) -> None:
        """Our own Deferreds of some of it, or of all."""
        ours = [self.in_flight.hold(name, Deferred[None]()) for name in (1, 2, 3)]
        self.assertEqual(self.in_flight.named(lambda name: name != 2), [ours[0], ours[2]])
        self.assertEqual(self.in_flight.all(), ours)
