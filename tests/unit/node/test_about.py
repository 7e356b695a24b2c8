"""What every node answers about its drain, and the table of all messages in all phases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, bodies, message
from tests.support.memory import House, Sink
from tests.support.workload import WorkloadTestCase, reply
from twisted_node.drain import Phase


class ShutdownTests(WorkloadTestCase):
    """tcp_shutdown."""

    def test_in_flight(self) -> None:
        """It says how many requests are in flight, and they are answered when they are due."""
        for msg_id in (1, 2):
            self.ask("tcp_request", msg_id, latency_ms=500)
        self.assertEqual(
            self.ask("tcp_shutdown", 3, drain_timeout_ms=5000),
            reply('"type": "tcp_shutdown_ok", "in_reply_to": 3, "status": "draining", "in_flight": 2, "msg_id": 0'),
        )
        self.assertEqual(
            self.ask("tcp_request", 4, data="new_request", latency_ms=100),
            reply('"type": "tcp_request_error", "in_reply_to": 4, "error": "server_shutting_down", "msg_id": 1'),
        )
        self.assertEqual([body["type"] for body in bodies(self.wait(0.5))], ["tcp_request_ok"] * 2)
        self.assertEqual(
            self.ask("tcp_drain_status", 5),
            reply(
                '"type": "tcp_drain_status_ok", "in_reply_to": 5, "status": "drained", "remaining": 0, "took_ms": 500,'
                ' "msg_id": 4'
            ),
        )

    def test_reason(self) -> None:
        """The log can say who asked for it, whatever they call themselves."""
        self.house.requests.receive(message("tcp_shutdown", src="c1\n\x1b[2J"), self.sink)
        self.assertEqual(self.house.drain.reason, "tcp_shutdown from c1��[2J")

    def test_again(self) -> None:
        """Again while draining it says the same, with the number left."""
        for msg_id in (1, 2):
            self.ask("tcp_request", msg_id, latency_ms=msg_id * 100)
        self.ask("tcp_shutdown", 3)
        self.wait(0.1)
        self.assertIn(b'"status": "draining", "in_flight": 1', self.ask("tcp_shutdown", 4))

    def test_nearer(self) -> None:
        """A second one may bring the deadline nearer."""
        self.ask("tcp_request", 1, latency_ms=10_000)
        self.ask("tcp_shutdown", 2, drain_timeout_ms=5000)
        self.ask("tcp_shutdown", 3, drain_timeout_ms=100)
        self.assertEqual(
            self.wait(0.1),
            reply('"type": "tcp_request_error", "in_reply_to": 1, "error": "drain_timeout", "msg_id": 2'),
        )

    def test_not_further(self) -> None:
        """A second one never pushes it away."""
        self.ask("tcp_request", 1, latency_ms=10_000)
        self.ask("tcp_shutdown", 2, drain_timeout_ms=100)
        self.ask("tcp_shutdown", 3, drain_timeout_ms=5000)
        self.assertIn(b"drain_timeout", self.wait(0.1))

    def test_zero(self) -> None:
        """A timeout of 0 cuts at once, and still says what was in flight."""
        self.ask("tcp_request", 1, latency_ms=10_000)
        cut, shutdown = bodies(self.ask("tcp_shutdown", 2, drain_timeout_ms=0))
        self.assertEqual((cut["in_reply_to"], cut["error"]), (1, "drain_timeout"))
        self.assertEqual((shutdown["in_reply_to"], shutdown["status"], shutdown["in_flight"]), (2, "draining", 1))
        self.assertEqual(self.wait(60), b"")

    def test_default(self) -> None:
        """Without a timeout, the node's own holds."""
        self.ask("tcp_request", 1, latency_ms=100_000)
        self.ask("tcp_shutdown")
        self.assertEqual(self.wait(24.999), b"")
        self.assertIn(b"drain_timeout", self.wait(0.001))

    def test_default_that_is_set_later(self) -> None:
        """What is set on the service while it runs holds for the message too."""
        self.house.drain_timeout = 3
        self.ask("tcp_shutdown")
        self.assertEqual(self.house.drain.deadline, 3)

    def test_fraction(self) -> None:
        """A timeout may have a fraction."""
        self.ask("tcp_shutdown", drain_timeout_ms=2.5)
        self.assertEqual(self.house.drain.deadline, 0.0025)

    def test_after_the_end(self) -> None:
        """After the end it says how that was."""
        self.ask("tcp_shutdown")
        self.assertIn(b'"status": "drained", "in_flight": 0', self.ask("tcp_shutdown"))
        self.house, self.sink = House(), Sink()
        self.ask("tcp_request", 1, latency_ms=100)
        self.ask("tcp_shutdown", drain_timeout_ms=0)
        self.assertIn(b'"status": "timed_out", "in_flight": 0', self.ask("tcp_shutdown"))

    def test_wrong_fields(self) -> None:
        """A timeout that is none is malformed, and begins nothing."""
        for wrong in (-1, 3_600_001, "5", None, True, 1e300):
            (body,) = bodies(self.ask("tcp_shutdown", drain_timeout_ms=wrong))
            self.assertEqual((body["type"], body["code"]), ("error", 12), wrong)
            self.assertTrue(body["text"].startswith("drain_timeout_ms: "), body)
        self.assertIs(self.house.drain.phase, Phase.SERVING)

    def test_without_control(self) -> None:
        """From a client without control it is not supported, and nothing happens."""
        self.sink.control = False
        self.assertEqual(
            self.ask("tcp_shutdown"),
            reply(
                '"type": "error", "in_reply_to": 2, "code": 10, "text": "type \'tcp_shutdown\' is not supported here:'
                ' a --control endpoint takes it", "msg_id": 0'
            ),
        )
        self.assertEqual((self.house.drain.phase, self.sink.kept), (Phase.SERVING, False))

    def test_keeps_its_connection(self) -> None:
        """Who sent it may stay to see the end."""
        self.ask("tcp_shutdown")
        self.assertTrue(self.sink.kept)


class DrainStatusTests(WorkloadTestCase):
    """tcp_drain_status."""

    def status(self) -> tuple[Any, ...]:
        (body,) = bodies(self.ask("tcp_drain_status"))
        return body["status"], body["remaining"], body["took_ms"]

    def test_serving(self) -> None:
        """While serving it tells what is in flight; a lame duck serves."""
        self.assertEqual(self.status(), ("serving", 0, 0))
        self.ask("tcp_request", 1, latency_ms=500)
        self.assertEqual(self.status(), ("serving", 1, 0))
        self.house.drain.lame_duck(5, 5)
        self.wait(0.1)
        self.assertEqual(self.status(), ("serving", 1, 0))

    def test_draining(self) -> None:
        """While draining it tells what is left, and how long it has taken so far."""
        self.ask("tcp_request", 1, latency_ms=500)
        self.ask("tcp_request", 2, latency_ms=100)
        self.wait(0.05)
        self.ask("tcp_shutdown")
        self.wait(0.0504)
        self.assertEqual(self.status(), ("draining", 1, 50))
        self.wait(0.1)
        self.assertEqual(self.status(), ("draining", 1, 150))

    def test_drained(self) -> None:
        """At the end it is frozen: from the beginning to the last answer, in whole milliseconds."""
        self.ask("tcp_request", 1, latency_ms=500.6)
        self.ask("tcp_shutdown")
        self.wait(0.5006)
        self.wait(10)
        self.assertEqual(self.status(), ("drained", 0, 501))
        self.assertIn(b'"took_ms": 501,', self.ask("tcp_drain_status"))

    def test_timed_out(self) -> None:
        """At the deadline it is the number that was cut, frozen too."""
        for msg_id in (1, 2, 3):
            self.ask("tcp_request", msg_id, latency_ms=msg_id * 100)
        self.ask("tcp_shutdown", drain_timeout_ms=150)
        self.wait(0.1)
        self.wait(0.05)
        self.wait(10)
        self.assertEqual(self.status(), ("timed_out", 2, 150))


#: What each message is answered in each phase, with one request in flight until something ends it: the type of the
#: reply, and what says more. Of errors it is the code.
EXPECTED: dict[str, dict[Phase, tuple[Any, ...]]] = {
    "init": dict.fromkeys(Phase, ("init_ok",)),
    "tcp_request": {
        Phase.SERVING: ("tcp_request_ok", "processed"),
        Phase.LAME_DUCK: ("tcp_request_ok", "processed"),
        Phase.DRAINING: ("tcp_request_error", "server_shutting_down"),
        Phase.DRAINED: ("tcp_request_error", "server_shutting_down"),
        Phase.TIMED_OUT: ("tcp_request_error", "server_shutting_down"),
    },
    "tcp_shutdown": {
        Phase.SERVING: ("tcp_shutdown_ok", "draining", 1),
        Phase.LAME_DUCK: ("tcp_shutdown_ok", "draining", 1),
        Phase.DRAINING: ("tcp_shutdown_ok", "draining", 1),
        Phase.DRAINED: ("tcp_shutdown_ok", "drained", 0),
        Phase.TIMED_OUT: ("tcp_shutdown_ok", "timed_out", 0),
    },
    "tcp_drain_status": {
        Phase.SERVING: ("tcp_drain_status_ok", "serving", 1),
        Phase.LAME_DUCK: ("tcp_drain_status_ok", "serving", 1),
        Phase.DRAINING: ("tcp_drain_status_ok", "draining", 1),
        Phase.DRAINED: ("tcp_drain_status_ok", "drained", 0),
        Phase.TIMED_OUT: ("tcp_drain_status_ok", "timed_out", 1),
    },
    "nothing": dict.fromkeys(Phase, ("error", 10)),
    "malformed": dict.fromkeys(Phase, ("error", 12)),
    "junk": dict.fromkeys(Phase, ("error", 12)),
    "reply": dict.fromkeys(Phase, ()),
}

LINES = {
    "init": INIT,
    "tcp_request": message("tcp_request"),
    "tcp_shutdown": message("tcp_shutdown"),
    "tcp_drain_status": message("tcp_drain_status"),
    "nothing": message("nothing"),
    "malformed": b'{"src":"c1","dest":5,"body":{"type":"tcp_request","msg_id":2}}',
    "junk": b"junk",
    "reply": b'{"src":"c1","dest":"n1","body":{"type":"tcp_request","msg_id":2,"in_reply_to":1}}',
}

#: What may be found in a reply besides its type, in the order of the table above.
DETAILS = ("code", "result", "error", "status", "in_flight", "remaining")


class MessageTableTests(SynchronousTestCase):
    """Every phase and every message."""

    def house_in(self, phase: Phase) -> tuple[House, Sink]:
        """A node in a phase, with one request in flight or ended with it."""
        house, sink = House(), Sink()
        house.requests.receive(message("tcp_request", 1, latency_ms=1000), sink)
        ways: dict[Phase, Callable[[], object]] = {
            Phase.SERVING: lambda: None,
            Phase.LAME_DUCK: lambda: house.drain.lame_duck(5, 5),
            Phase.DRAINING: lambda: house.drain.begin(5),
            Phase.DRAINED: lambda: house.drain.begin(5),
            Phase.TIMED_OUT: lambda: house.drain.begin(0),
        }
        ways[phase]()
        if phase is Phase.DRAINED:
            house.clock.advance(1)
        self.assertIs(house.drain.phase, phase)
        sink.take()
        return house, sink

    def test_every_phase_and_message(self) -> None:
        """Each message is answered as it should in each phase; and the request in flight once, whatever came."""
        for name, line in LINES.items():
            for phase in Phase:
                house, sink = self.house_in(phase)
                house.requests.receive(line, sink)
                answers = bodies(sink.take())
                found = [(body["type"], *(body[key] for key in DETAILS if key in body)) for body in answers]
                expected = EXPECTED[name][phase]
                self.assertEqual(found, [expected] if expected else [], (name, phase))
                house.clock.advance(60)
                late = [body["in_reply_to"] for body in bodies(sink.take())]
                self.assertEqual(late, [] if house.drain.counts.cut or phase is Phase.DRAINED else [1], (name, phase))

    def test_every_phase_and_message_before_init(self) -> None:
        """Before init, in each phase, all that needs a name is told to wait for one."""
        for name, line in LINES.items():
            for phase in Phase:
                house, sink = self.house_in(phase)
                house.node.node_id = None
                house.requests.receive(line, sink)
                found = [(body["type"], body.get("code")) for body in bodies(sink.take())]
                needs_name = name.startswith("tcp_")
                expected = EXPECTED[name][phase]
                wanted = ("error", 11) if needs_name else (*expected, None)[:2]
                self.assertEqual(found, [wanted] if expected else [], (name, phase))
