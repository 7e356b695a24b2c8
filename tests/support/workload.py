"""A node with the handlers of the task, in memory."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import message
from tests.support.memory import House, Sink


def reply(body: str) -> bytes:
    """A line from the node to c1."""
    return ('{"src": "n1", "dest": "c1", "body": {' + body + "}}\n").encode()


class WorkloadTestCase(SynchronousTestCase):
    """A node with the usual handlers, on a clock."""

    def setUp(self) -> None:
        self.house = House()
        self.sink = Sink()

    def ask(self, type_: str, msg_id: Any = 2, **fields: Any) -> bytes:
        """One message in, what comes out at once."""
        self.house.requests.receive(message(type_, msg_id, **fields), self.sink)
        return self.sink.take()

    def wait(self, seconds: float) -> bytes:
        """What comes out in so many seconds."""
        self.house.clock.advance(seconds)
        return self.sink.take()
