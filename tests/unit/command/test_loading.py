"""A node, found by its name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_node import MisuseError, Node
from twisted_node.command._loading import load_node


class LoadingTests(SynchronousTestCase):
    """Finding a node by its name."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.patch(sys, "path", list(sys.path))
        self.addCleanup(sys.modules.pop, "mine", None)

    def write(self, module: str, text: str) -> None:
        (self.folder / f"{module}.py").write_text(text)

    def assert_misuse(self, name: str, text: str) -> None:
        self.assertEqual(str(self.assertRaises(MisuseError, load_node, name)), text)

    def test_found(self) -> None:
        """A module in the working folder is found, also when that is on the path already."""
        self.write("mine", "from twisted_node import Node\nnode = Node('n7')")
        node = load_node("mine:node")
        self.assertIsInstance(node, Node)
        self.assertEqual(node.node_id, "n7")
        path = list(sys.path)
        self.assertIs(load_node("mine:node"), node)
        self.assertEqual(sys.path, path)

    def test_no_name(self) -> None:
        """Both the module and the node must be named."""
        for name in ("mine", "mine:", ":node", ""):
            self.assert_misuse(name, f"--app: expected MODULE:NODE, got {name!r}")

    def test_cannot_be_imported(self) -> None:
        """A module that does not exist, or fails, or ends the process, is named in one line that says how."""
        self.assert_misuse(
            "mine:node", "--app mine:node: mine cannot be imported: ModuleNotFoundError: No module named 'mine'"
        )
        for text, words in (
            ("raise ValueError('one\\ntwo')", "ValueError: one two"),
            ("raise SystemExit(3)", "SystemExit: 3"),
            ("node = (", "SyntaxError: '(' was never closed (mine.py, line 1)"),
        ):
            self.write("mine", text)
            self.assert_misuse("mine:node", f"--app mine:node: mine cannot be imported: {words}")

    def test_no_node(self) -> None:
        """A module that has no such node is told apart from one that has something else by that name."""
        self.write("mine", "node = 3")
        self.assert_misuse("mine:nod", "--app mine:nod: mine has no nod")
        self.assert_misuse("mine:node", "--app mine:node: expected a Node, node is of type int")
