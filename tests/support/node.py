"""A node in memory, for tests of what it does with one line."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import House, Sink
from twisted_node.node._handlers import Answer, Request


class NodeTestCase(SynchronousTestCase):
    """A node in memory, with the handlers that a test gives it."""

    node_id: str | None = "n1"

    def setUp(self) -> None:
        self.house = House(self.node_id)
        self.node, self.drain, self.clock = self.house.node, self.house.drain, self.house.clock
        self.sink = Sink()

    def ask(self, line: bytes) -> bytes:
        """One line in, what comes out at once."""
        self.house.requests.receive(line, self.sink)
        return self.sink.take()

    def answer(self, type_: str = "echo", msg_id: Any = 2, **fields: Any) -> dict[str, Any]:
        """One request in, the body of its one answer."""
        (body,) = bodies(self.ask(message(type_, msg_id, **fields)))
        return body

    def handle(self, answer: Any, type_: str = "echo", **terms: Any) -> list[Request[Any]]:
        """Have requests of a type answered with a value, or by raising it; return those that come."""
        requests: list[Request[Any]] = []

        def handler(request: Request[Any]) -> Answer:
            requests.append(request)
            if isinstance(answer, BaseException):
                raise answer
            given: Answer = answer
            return given

        self.node.handle(type_, **terms)(handler)
        return requests
