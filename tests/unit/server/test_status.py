"""One picture of a server: what it tells, and by which message."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import Sink
from tests.support.visitor import Visitor
from twisted_node import Drain, DrainingService, DrainTimeout, Node
from twisted_node._version import VERSION
from twisted_node.names import printable
from twisted_node.node._about import answer_statistics
from twisted_node.node._node import requests_of
from twisted_node.server._status import describe
from twisted_node.testing import MemoryEndpoint


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

    def test_which_process(self) -> None:
        """It says which process of which version answers, and the name of its node if it has one."""
        picture = describe(self.service)
        self.assertEqual((picture.pid, picture.version, picture.node_id), (os.getpid(), VERSION, None))
        self.assertEqual(describe(self.service, node_id="n1").node_id, "n1")

    def test_uptime(self) -> None:
        """It counts from when the service began to serve, through the drain, by a clock that nobody sets."""
        wall, monotonic = Clock(), Clock()
        service = DrainingService(Drain(wall, monotonic.seconds))
        monotonic.advance(5)
        self.assertIs(describe(service).uptime_s, None)
        service.startService()
        self.assertEqual(describe(service).uptime_s, 0)
        wall.advance(3600)
        monotonic.advance(1.2345)
        self.assertEqual(describe(service).uptime_s, 1.234)
        # Once more, for listeners that it has been given since.
        service.startService()
        service.end("because")
        monotonic.advance(1)
        self.assertEqual(describe(service).uptime_s, 2.234)

    def test_uptime_of_a_failed_start(self) -> None:
        """A service that could not listen serves from when it can."""

        class Taken(MemoryEndpoint):
            taken = True

            def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
                return fail(CannotListenError("", 80, OSError("taken"))) if self.taken else super().listen(factory)

        endpoint = Taken()
        self.service.listen(endpoint, Factory())
        self.assertRaises(CannotListenError, self.service.startService)
        self.assertIs(describe(self.service).uptime_s, None)
        endpoint.taken = False
        self.clock.advance(2)
        self.service.startService()
        self.clock.advance(3)
        self.assertEqual(describe(self.service).uptime_s, 3)

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
        self.assertEqual((body["pid"], body["node_id"]), (os.getpid(), "n1"))
        self.assertEqual(
            (body["phase"], body["left_ms"], body["oldest"]), ("draining", 10000, [{"name": "slow one", "age_ms": 0}])
        )

    def test_message_needs_control(self) -> None:
        """A client that may not stop the node may not look at others' requests either."""
        self.assertEqual(self.ask(control=False)["code"], 10)

    def test_printable(self) -> None:
        """A name from a client can neither end a line nor command a terminal."""
        self.assertEqual(printable("é a\n\x1b[2J"), "é a��[2J")
