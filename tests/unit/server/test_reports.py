"""What the log says of a shutdown."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import capture_logs
from tests.support.visitor import Visitor
from twisted_node.drain import Drain
from twisted_node.server import _reports as reports
from twisted_node.server._connections import Connections
from twisted_node.server._reports import SECONDS_BETWEEN_REPORTS, Reports


class ReportsTests(SynchronousTestCase):
    """Reports on a drain of ten seconds, which the test begins and ends itself."""

    def setUp(self) -> None:
        self.captured = capture_logs(self)
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.connections = Connections(self.clock)
        self.ends_by: float | None = None
        self.reports = Reports(self.drain, self.connections, lambda: self.ends_by)

    @property
    def events(self) -> list[LogEvent]:
        return [event for event in self.captured if event["log_namespace"] == reports.__name__]

    @property
    def log(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def track(self, name: str) -> Deferred[None]:
        """Have work in flight, a second older than what comes next."""
        work: Deferred[None] = Deferred()
        self.drain.track(name, work).addErrback(lambda _: None)
        self.clock.advance(1)
        return work

    def begin(self, accepted: int = 0) -> None:
        self.drain.begin(10, "SIGTERM")
        self.reports.draining(accepted)

    def end(self) -> None:
        self.reports.ended(self.drain.statistics())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lame_duck(self) -> None:
        """A lame duck is said with its time and its reason."""
        self.reports.lame_duck(5, "SIGTERM")
        self.assertEqual(self.log, ["lame duck for 5 s: SIGTERM"])

    def test_draining(self) -> None:
        """At the beginning: how long at most, why, and what is in flight."""
        self.track("first")
        self.begin()
        self.assertEqual(self.log, ["draining, at most 10.0 s: SIGTERM; 1 in flight; the oldest: first (1.0 s)"])

    def test_queue(self) -> None:
        """Who was accepted from the queue is said, if anybody was."""
        self.begin(accepted=3)
        self.assertEqual(self.log, ["draining, at most 10.0 s: SIGTERM; 3 accepted from the queue; 0 in flight"])

    def test_numbers(self) -> None:
        """Each line has its numbers as fields, for logs that keep them."""
        work = self.track("first")
        Visitor(self.connections)
        self.begin()
        self.clock.advance(5)
        self.clock.advance(2)
        work.callback(None)
        self.end()
        begun, left, ended = self.events
        self.assertEqual((begun["in_flight"], begun["accepted"], begun["left"]), (1, 0, 10))
        self.assertEqual((left["in_flight"], left["connections"], left["left"]), (1, 1, 5))
        counts = [ended[name] for name in ("finished", "refused", "cut", "undelivered", "took")]
        self.assertEqual(counts, [1, 0, 0, 0, 7])

    def test_what_is_left(self) -> None:
        """Every five seconds: what is in flight, the three oldest of it, and how long it can take at most."""
        for name in ("first", "second", "third", "fourth"):
            self.track(name)
        self.begin()
        self.ends_by = self.clock.seconds() + 11
        self.clock.advance(SECONDS_BETWEEN_REPORTS)
        self.assertEqual(
            self.log[1:],
            ["4 in flight, 0 connections, 6.0 s left; the oldest: first (9.0 s), second (8.0 s), third (7.0 s)"],
        )
        self.ends_by = self.clock.seconds() - 1
        self.drain.cut_in_flight()
        self.clock.advance(SECONDS_BETWEEN_REPORTS)
        self.assertEqual(self.log[2:], ["0 in flight, 0 connections, 0.0 s left"])
        self.end()

    def test_cut(self) -> None:
        """What was cut is a warning, with its oldest and what cut it."""
        self.reports.cut(4, (("first", 10.6), ("second", 10.4)), "the deadline")
        self.reports.cut(1, (), "a second SIGINT")
        self.assertEqual(
            self.log,
            ["4 cut by the deadline; the oldest: first (10.6 s), second (10.4 s)", "1 cut by a second SIGINT"],
        )
        self.assertEqual({event["log_level"] for event in self.events}, {LogLevel.warn})

    def test_lost(self) -> None:
        """Connections whose answers were not read are named; of very many, ten."""
        connections = [Visitor(self.connections).connection for _ in range(12)]
        for count, names in ((2, "a visitor, a visitor"), (12, f"{', '.join(['a visitor'] * 10)}, and 2 more")):
            self.reports.lost(connections[:count], "the deadline")
            said = f"{count} connections closed by the deadline with answers that their clients did not read: {names}"
            self.assertEqual(self.log[-1], said)
        self.assertEqual({event["log_level"] for event in self.events}, {LogLevel.warn})

    def test_going_on(self) -> None:
        """A service that goes on falls silent, until its connections close."""
        self.begin()
        self.reports.going_on(self.drain.statistics())
        self.clock.advance(60)
        self.assertEqual(
            self.log[1:],
            ["drained; going on until the end of input: 0 finished, 0 refused, 0 cut, 0 undelivered, in 0.000 s"],
        )
        for _ in range(2):
            self.reports.closing()
        self.clock.advance(SECONDS_BETWEEN_REPORTS)
        self.assertEqual(self.log[2:], ["0 in flight, 0 connections, 0.0 s left"])
        self.end()

    def assert_ends(self, level: Any, outcome: str) -> None:
        """The last line is on this level and begins so; nothing is said after it."""
        self.begin()
        self.end()
        self.clock.advance(60)
        self.assertEqual(len(self.log), 2)
        self.assertTrue(self.log[-1].startswith(outcome), self.log)
        self.assertEqual(self.events[-1]["log_level"], level)

    def test_clean(self) -> None:
        """The end of a shutdown that cut nothing is said as clean."""
        self.track("work").callback(None)
        self.assert_ends(LogLevel.info, "clean: 1 finished, 0 refused, 0 cut, 0 undelivered, in ")

    def test_not_clean(self) -> None:
        """If something was cut, the end is a warning."""
        self.track("work")
        self.drain.cut_in_flight()
        self.assert_ends(LogLevel.warn, "cut: 0 finished, 0 refused, 1 cut, 0 undelivered, in ")
