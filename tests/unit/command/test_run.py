"""A node as a program, before it runs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_node import Node
from twisted_node.command._run import run


class RunTests(SynchronousTestCase):
    """What ends a program before anything has begun."""

    def said(self, *arguments: str) -> object:
        """What the exit says."""
        return self.assertRaises(SystemExit, run, Node(), arguments).code

    def test_app(self) -> None:
        """A program is its own app."""
        self.assertEqual(self.said("--app", "mine:node"), "node: --app: this program has a node of its own")

    def test_wrong_option(self) -> None:
        """A wrong option is one line."""
        self.assertEqual(self.said("--linger", "long"), "node: --linger: expected seconds from 0 to 86400, got 'long'")
