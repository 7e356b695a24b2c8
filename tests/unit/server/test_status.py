"""One picture of a server: what it tells, and by which message."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import Sink
from tests.support.visitor import Visitor
from twisted_node import Drain, DrainingService, DrainTimeout, Node
from twisted_node.names import printable
from twisted_node.node._about import answer_statistics
from twisted_node.node._node import requests_of
from twisted_node.server._status import describe


class StatusTests(SynchronousTestCase):
    """A server on a clock of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(self.drain, drain_timeout=25, linger=0.5)

    def test_serving(self) -> None:
        """While serving there is work but no deadline, and it says what a drain would do."""
        self.drain.track("slow one", Deferred())
        self.clock.advance(1.5)
        picture = describe(self.service)
        self.assertEqual((picture.phase, picture.reason, picture.in_flight), ("serving", "", 1))
        self.assertIs(picture.left_ms, None)
        self.assertEqual(picture.at_deadline, "none is set; a drain cuts what is left after 25 s")
        self.assertEqual([(each.name, each.age_ms) for each in picture.oldest], [("slow one", 1500)])

    def test_draining(self) -> None:
        """While draining it says how long it takes, how long is left, and what happens then."""
        cut: Deferred[None] = self.drain.track("slow one", Deferred())
        self.drain.begin(10, "because")
        self.clock.advance(4)
        picture = describe(self.service)
        self.assertEqual((picture.phase, picture.reason), ("draining", "because"))
        self.assertEqual((picture.took_ms, picture.left_ms, picture.remaining), (4000, 6000, 1))
        self.assertEqual(
            picture.at_deadline,
            "what is still in flight (1 now) is cut and answered so; connections close within 0.5 s",
        )
        self.clock.advance(6)
        self.failureResultOf(cut, DrainTimeout)
        picture = describe(self.service)
        self.assertEqual((picture.phase, picture.cut, picture.left_ms), ("timed_out", 1, None))
        self.assertEqual(picture.at_deadline, "the drain has ended")
        self.assertEqual([each.name for each in picture.oldest], ["slow one"])

    def test_unread(self) -> None:
        """While clients have not taken their answers, there is a deadline still."""
        Visitor(self.service.connections)
        unread = Visitor(self.service.connections, loses=True)
        self.service.end("because")
        self.clock.advance(4)
        picture = describe(self.service)
        self.assertEqual((picture.phase, picture.left_ms), ("drained", 21_000))
        self.assertEqual(
            picture.at_deadline, "connections are closed whose clients have not read their answers, and count as cut"
        )
        unread.loses = False
        self.assertIs(describe(self.service).left_ms, None)

    def test_so_many_oldest(self) -> None:
        """It names as many as are asked for, the oldest first."""
        for name in "abc":
            self.drain.track(name, Deferred())
        self.assertEqual([each.name for each in describe(self.service, oldest=2).oldest], ["a", "b"])

    def ask(self, *, control: bool) -> dict[str, Any]:
        """Send ``statistics`` over a connection."""
        node = Node("n1")
        answer_statistics(node, self.service)
        node.bind(self.drain)
        sink = Sink(control=control)
        requests_of(node).receive(message("statistics", 7), sink)
        (body,) = bodies(sink.take())
        return body

    def test_message(self) -> None:
        """``statistics`` carries the same fields, also while draining."""
        self.drain.track("slow one", Deferred())
        self.drain.begin(10, "because")
        body = self.ask(control=True)
        self.assertEqual((body["type"], body["in_reply_to"]), ("statistics_ok", 7))
        self.assertEqual(
            (body["phase"], body["left_ms"], body["oldest"]), ("draining", 10000, [{"name": "slow one", "age_ms": 0}])
        )

    def test_message_needs_control(self) -> None:
        """A client that may not stop the node may not look at others' requests either."""
        self.assertEqual(self.ask(control=False)["code"], 10)

    def test_printable(self) -> None:
        """A name from a client can neither end a line nor command a terminal."""
        self.assertEqual(printable("é a\n\x1b[2J"), "é a��[2J")
