"""The node, as programs use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.node import NodeTestCase
from twisted_node.drain import Drain
from twisted_node.errors import MisuseError
from twisted_node.node._handlers import Request
from twisted_node.node._node import Node, requests_of


class UnboundTests(SynchronousTestCase):
    """A node that is not bound to a drain yet."""

    def test_misuse(self) -> None:
        """What needs a drain says that the node has none."""
        node = Node("n1")
        uses: list[Callable[[], object]] = [
            lambda: node.drain,
            lambda: node.clock,
            lambda: node.send("n2", {"type": "read"}),
            lambda: node.rpc("n2", {"type": "read"}),
            lambda: requests_of(node),
        ]
        for use in uses:
            error = self.assertRaises(MisuseError, use)
            self.assertEqual(str(error), "the node is not bound to a drain yet: call its bind method first")

    def test_known_before(self) -> None:
        """Its name, and what it counts, are there from the beginning."""
        node = Node()
        self.assertEqual((node.node_id, node.node_ids), (None, ()))
        self.assertEqual((node.observer, node.unreadable_lines), (None, 0))


class BindTests(SynchronousTestCase):
    """Giving a node its drain."""

    def test_second_time(self) -> None:
        """A node has one drain: a second is told, and the first one stays."""
        node, first = Node("n1"), Drain(Clock())
        node.bind(first)
        error = self.assertRaises(MisuseError, node.bind, Drain(Clock()))
        self.assertEqual(str(error), "the node is bound to a drain already: each drain needs a node of its own")
        self.assertIs(node.drain, first)


class FaceTests(SynchronousTestCase):
    """What ``help(Node)`` shows."""

    def test_names(self) -> None:
        """A program sees what it has a use for, and nothing of what a connection needs."""
        self.assertEqual(
            {name for name in dir(Node("n1")) if not name.startswith("_")},
            {
                *("node_id", "node_ids", "drain", "clock", "observer", "unreadable_lines"),
                *("handle", "after_init", "every", "on_drain", "bind", "send", "rpc"),
            },
        )


class RegistrationTests(NodeTestCase):
    """Registering a handler."""

    def test_second_handler(self) -> None:
        """A type has one handler; a second one fails where it is registered."""
        self.handle({})
        self.assertRaises(MisuseError, self.node.handle, "echo")
        self.assertRaises(MisuseError, self.node.handle, "init")

    def test_decorator(self) -> None:
        """What is decorated stays what it was."""

        def function(_: Request[Any]) -> None:
            return None

        self.assertIs(Node().handle("echo")(function), function)
