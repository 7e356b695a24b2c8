"""What a handler gets, and the answer that is always the same."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import message
from tests.support.node import NodeTestCase
from twisted_node.errors import MisuseError
from twisted_node.node._handlers import Fixed


class RequestObjectTests(NodeTestCase):
    """A request, as its handler has it."""

    def test_name_without_msg_id(self) -> None:
        """A request without a msg_id is named by what it has."""
        self.handle(Deferred())
        self.ask(b'{"src":"c1","dest":"n1","body":{"type":"echo"}}')
        self.assertEqual(str(self.drain.statistics().oldest[0][0]), "echo from c1")

    def test_name_for_the_log(self) -> None:
        """What a client calls itself cannot forge the log, nor fill it."""
        self.handle(Deferred())
        self.ask(message("echo", src="a\n2026 clean\x1b[2J" + "x" * 900))
        name = str(self.drain.statistics().oldest[0][0])
        self.assertTrue(name.startswith("echo 2 from a�2026 clean�[2Jxxx"), name)
        self.assertTrue(name.isprintable() and len(name) < 130, name)

    def test_request(self) -> None:
        """A handler gets the whole request."""
        requests = self.handle({})
        self.clock.advance(3)
        self.node.observer = lambda *_: None
        self.answer("echo", 5, extra=[1])
        (request,) = requests
        self.assertEqual((request.src, request.dest, request.type, request.msg_id), ("c1", "n1", "echo", 5))
        self.assertEqual(request.body, {"type": "echo", "msg_id": 5, "extra": [1]})
        self.assertIs(request.asker, self.sink)
        self.assertEqual(request.started, 3.0)


class FixedTests(SynchronousTestCase):
    """An answer that is always the same."""

    def test_fields_of_the_node(self) -> None:
        """An answer that is always the same may not say what the node says."""
        self.assertRaises(MisuseError, lambda: Fixed(msg_id=1, value=2))

    def test_what_json_cannot_say(self) -> None:
        """Such an answer is refused where it is made: later it would cost others their answers."""
        for value in (object(), "\ud800", {"deep": {1, object()}}):
            self.assertRaises(MisuseError, lambda value=value: Fixed(value=value))

    def test_is_a_copy(self) -> None:
        """What it was made from may change; it does not."""
        values = [1]
        fixed = Fixed(values=values)
        values.append(2)
        self.assertEqual(dict(fixed), {"values": [1]})
