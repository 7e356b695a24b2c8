"""What a node sends: its numbers, and answers that are kept encoded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import House, Sink
from tests.support.node import NodeTestCase
from twisted_node.node._handlers import Fixed
from twisted_node.node._identity import Identity
from twisted_node.node._outgoing import Outgoing
from twisted_node.node._plain import PlainBody


class NumberTests(NodeTestCase):
    """The one counter of all that a node sends."""

    def test_counter(self) -> None:
        """Replies are numbered from 0, whatever they are and whoever gets them."""
        self.handle({})
        numbers = []
        for line in (message("echo"), b"junk", message("nothing"), message("echo", "x"), message("tcp_shutdown")):
            numbers += [body["msg_id"] for body in bodies(self.house.ask(line))]
        self.assertEqual(numbers, [0, 1, 2, 3, 4])


class KeptAnswerTests(SynchronousTestCase):
    """Answers that are always the same are encoded once for each client."""

    def setUp(self) -> None:
        self.house = House()
        nothing = Fixed()
        self.house.node.handle("count", PlainBody)(lambda _: nothing)

    def test_many_clients(self) -> None:
        """What is kept encoded for clients does not grow for ever, and is right for each."""
        outgoing = Outgoing(Identity("n1"), self.house.drain)
        nothing = Fixed()
        for number in range(2500):
            sink = Sink()
            outgoing.fixed_reply(f"c{number}", 1, sink, "count_ok", nothing)
            self.assertIn(f'"dest": "c{number}"'.encode(), sink.output)
        self.assertLessEqual(len(outgoing._templates), 1000)

    def test_for_two_types(self) -> None:
        """An answer that is always the same may serve several types, each under its own name."""
        house, done = House(), Fixed(result="done")
        for type_ in ("one", "two"):
            house.node.handle(type_, PlainBody)(lambda _: done)
        sink = Sink()
        house.requests.receive_lines(message("one", 1) + message("two", 2) + message("one", 3), sink)
        self.assertEqual([body["type"] for body in bodies(sink.output)], ["one_ok", "two_ok", "one_ok"])

    def test_that_was_changed(self) -> None:
        """An answer that was spoilt later is a crash of its own request alone."""
        house, spoilt, good = House(), Fixed(values=[1]), Fixed()
        spoilt["values"].append(object())
        house.node.handle("spoilt", PlainBody)(lambda _: spoilt)
        house.node.handle("good", PlainBody)(lambda _: good)
        sink = Sink()
        house.requests.receive_lines(message("good", 1) + message("spoilt", 2) + message("good", 3), sink)
        self.assertEqual([body.get("code", "ok") for body in bodies(sink.output)], ["ok", 13, "ok"])
        self.assertEqual(house.drain.counts.finished, 3)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_for_a_client_that_is_gone(self) -> None:
        """What nobody reads any more is counted, and takes no number."""
        sink = Sink()
        sink.gone = True
        self.house.requests.receive_lines(message("count", 1) + message("count", 2), sink)
        self.assertEqual((sink.output, self.house.drain.counts.undelivered), (b"", 2))

    def test_after_another_name(self) -> None:
        """A node that is given another name speaks in that."""
        sink = Sink()
        self.house.requests.receive_lines(message("count", 1), sink)
        self.house.node.node_id = "n2"
        self.house.requests.receive_lines(message("count", 1), sink)
        self.assertIn(b'{"src": "n2"', sink.output.splitlines()[1])
