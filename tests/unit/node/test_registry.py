"""The handlers of a node, as programs register them."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.support.network import Network
from twisted_node import MisuseError, Node, Request


class HandleTests(SynchronousTestCase):
    """Registering handlers."""

    def assert_misuse(self, text: str, *arguments: Any) -> None:
        self.assertIn(text, str(self.assertRaises(MisuseError, Node().handle, *arguments)))

    def test_by_call(self) -> None:
        """A handler can be registered by call, and one function for several types."""
        network = Network()
        node = network.add("n1", Node())

        def answer(request: Request[dict[str, Any]]) -> dict[str, Any]:
            return {"of": request.type}

        for type_ in ("a", "b"):
            self.assertIs(node.handle(type_)(answer), answer)
            self.assertEqual(network.answer("n1", type_)["of"], type_)

    def test_body_is_what_was_asked_for(self) -> None:
        """A typed body is of just the registered type: it equals another, and shows no field besides."""
        network = Network()
        node = network.add("n1", Node())

        class Ask(msgspec.Struct):
            key: int

        found: list[Ask] = []
        node.handle("ask", Ask)(lambda request: found.append(request.body))
        network.answer("n1", "ask", key=3)
        self.assertEqual(found, [Ask(3)])
        self.assertEqual(msgspec.to_builtins(found), [{"key": 3}])

    def test_misuse(self) -> None:
        """A type that has a handler, a decorator without its brackets, and a body that is no type are told at once."""
        self.assert_misuse("type 'init' has a handler already", "init")
        self.assert_misuse('expected the type of the requests, as in @node.handle("echo"), got <function', lambda _: {})
        self.assert_misuse("expected a type for the bodies, such as a Struct, got <function", "a", lambda _: {})
