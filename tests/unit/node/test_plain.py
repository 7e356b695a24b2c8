"""Requests that are plain, and so are decoded together with their bodies."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import House, Sink
from twisted_node.errors import RequestError
from twisted_node.node._handlers import Answer, Fixed, Request
from twisted_node.node._plain import PlainBody


class PlainRequest(PlainBody):
    """What is read together with its message."""

    count: int = 0


class PlainTests(SynchronousTestCase):
    """Requests that take the short way, as those of a chunk do that are all plain."""

    def setUp(self) -> None:
        """Handle plain requests."""
        self.house = House()
        nothing = Fixed()

        @self.house.node.handle("count", PlainRequest)
        def count(request: Request[PlainRequest]) -> Answer:
            if request.body.count < 0:
                raise RequestError(1000, "below 0")
            if request.body.count > 100:
                raise ZeroDivisionError
            return nothing if request.body.count == 0 else {"value": request.body.count}

    def ask(self, *counts: int) -> list[Any]:
        """Ask in one chunk; the answers' types, or codes."""
        sink = Sink()
        lines = b"".join(message("count", number, count=count) for number, count in enumerate(counts))
        self.house.requests.receive_lines(lines, sink)
        return [body.get("code", body["type"]) for body in bodies(sink.output)]

    def test_answers(self) -> None:
        """Each gets its answer, in order, whatever its handler does."""
        self.assertEqual(self.ask(0, 1, -1, 101, 0), ["count_ok", "count_ok", 1000, 13, "count_ok"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_observed(self) -> None:
        """The observer hears of each of them."""
        events: list[tuple[str, str]] = []
        self.house.node.observer = lambda type_, outcome, _: events.append((type_, outcome))
        self.ask(0, 1, -1)
        self.assertEqual(events, [("count", "ok"), ("count", "ok"), ("count", "error")])

    def test_limit_within_a_chunk(self) -> None:
        """The limit holds within a chunk too, though a handler has more than its own request in flight."""
        house = House(max_in_flight=3)

        @house.node.handle("two", PlainRequest)
        def two(request: Request[PlainRequest]) -> Answer:
            house.drain.track("more", Deferred())
            return Deferred()

        sink = Sink()
        house.requests.receive_lines(b"".join(message("two", number) for number in range(3)), sink)
        self.assertEqual([body["code"] for body in bodies(sink.output)], [11])
        self.assertEqual(house.drain.in_flight, 4)

    def test_limit_of_work_besides_answers(self) -> None:
        """Work of a handler's own counts too, also if its answer is at once, and always the same."""
        house, done = House(max_in_flight=2), Fixed()

        @house.node.handle("start", PlainRequest)
        def start(request: Request[PlainRequest]) -> Answer:
            house.drain.track("more", Deferred())
            return done

        sink = Sink()
        house.requests.receive_lines(b"".join(message("start", number) for number in range(4)), sink)
        self.assertEqual([body.get("code", "ok") for body in bodies(sink.output)], ["ok", "ok", 11, 11])
        self.assertEqual(house.drain.in_flight, 2)
