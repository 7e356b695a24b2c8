"""The task's own message, tcp_request, as lines in and lines out."""

from __future__ import annotations

from typing import Any

from tests.support.lines import bodies, message
from tests.support.workload import WorkloadTestCase, reply


class RequestTests(WorkloadTestCase):
    """tcp_request."""

    def test_now(self) -> None:
        """Without latency it is answered at once, be that 0 or left out."""
        self.assertEqual(
            self.ask("tcp_request", latency_ms=0),
            reply('"type": "tcp_request_ok", "in_reply_to": 2, "result": "processed", "duration_ms": 0, "msg_id": 0'),
        )
        self.assertIn(b'"duration_ms": 0,', self.ask("tcp_request", data="x"))
        self.assertEqual(self.house.clock.getDelayedCalls(), [])

    def test_later(self) -> None:
        """With latency it is answered when that has passed, and not before."""
        self.assertEqual(self.ask("tcp_request", data="process_this", latency_ms=500), b"")
        self.assertEqual(self.wait(0.499), b"")
        self.assertEqual(
            self.wait(0.001),
            reply('"type": "tcp_request_ok", "in_reply_to": 2, "result": "processed", "duration_ms": 500, "msg_id": 0'),
        )

    def test_duration_is_what_was_asked(self) -> None:
        """duration_ms is the number that was asked for: 3 stays 3, 2.5 stays 2.5."""
        for latency, written in ((3, b"3"), (2.5, b"2.5"), (3.0, b"3.0"), (0.0, b"0.0"), (3_600_000, b"3600000")):
            answer = self.ask("tcp_request", latency_ms=latency) or self.wait(latency / 1000)
            self.assertIn(b'"duration_ms": ' + written + b",", answer)

    def test_in_order_of_their_time(self) -> None:
        """Requests end when they are due, whatever order they came in."""
        for msg_id, latency in ((1, 30), (2, 10), (3, 20), (4, 0)):
            self.house.requests.receive(message("tcp_request", msg_id, latency_ms=latency), self.sink)
        for _ in range(3):
            self.house.clock.advance(0.01)
        self.assertEqual([body["in_reply_to"] for body in bodies(self.sink.take())], [4, 2, 3, 1])

    def test_wrong_fields(self) -> None:
        """A latency that is none is malformed, and the error names it."""
        values: list[Any] = [-1, -0.5, 3_600_001, 1e300, 10**30, "5", None, True, [5], {}]
        for wrong in values:
            (body,) = bodies(self.ask("tcp_request", latency_ms=wrong))
            self.assertEqual((body["type"], body["code"]), ("error", 12), wrong)
            self.assertTrue(body["text"].startswith("latency_ms: "), body)
        self.assertEqual((self.house.drain.in_flight, self.house.drain.counts.finished), (0, 0))

    def test_any_data(self) -> None:
        """What a request is about may be anything, or nothing."""
        for data in (None, 5, {"a": [1]}, "ü"):
            self.assertIn(b"tcp_request_ok", self.ask("tcp_request", data=data, more=1))
