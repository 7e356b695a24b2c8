"""Figures for Prometheus, read as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.admin import figures
from tests.support.lines import message
from tests.support.memory import Sink
from twisted_node import Drain, DrainingService, Node
from twisted_node._version import VERSION
from twisted_node.node._about import answer_about_drain
from twisted_node.node._node import requests_of
from twisted_node.node._workload import answer_requests
from twisted_node.watch._metrics import Metrics


class MetricsTests(SynchronousTestCase):
    """A node that is counted."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(self.drain)
        self.metrics = Metrics(self.service)
        self.node = Node("n1")
        answer_requests(self.node)
        answer_about_drain(self.node, self.service)
        self.node.bind(self.drain)
        self.metrics.watch(self.node)
        self.client = Sink()

    def send(self, line: bytes) -> None:
        requests_of(self.node).receive(line, self.client)

    def read(self) -> dict[str, float]:
        return figures(generate_latest(self.metrics.registry).decode())

    def test_outcomes(self) -> None:
        """Each request is counted once, by its type and how it ended."""
        self.send(message("tcp_request", 1))
        self.send(message("tcp_request", 2, latency_ms=-1))
        self.send(message("tcp_request", 3, latency_ms=60_000))
        self.send(message("tcp_shutdown", 4, drain_timeout_ms=2000))
        self.send(message("tcp_request", 5))
        self.clock.advance(2)
        found = self.read()
        for outcome in ("ok", "error", "refused", "cut"):
            self.assertEqual(found[f"twisted_node_requests_total{{outcome={outcome},type=tcp_request}}"], 1, outcome)
        self.assertEqual(found["twisted_node_refused_total"], 1)
        self.assertEqual(found["twisted_node_cut_total"], 1)
        self.assertEqual(found["twisted_node_drain_duration_seconds"], 2)

    def test_unknown_types_make_no_series(self) -> None:
        """What clients make up costs nothing: only types with a handler are counted by name."""
        for number in range(50):
            self.send(message(f"made-up-{number}"))
        self.send(b"junk")
        found = self.read()
        self.assertEqual([name for name in found if "made-up" in name], [])
        self.assertEqual(found["twisted_node_unreadable_lines_total"], 1)

    def test_latency(self) -> None:
        """The histogram holds what took its time, and leaves out what was refused."""
        self.send(message("tcp_request", 1, latency_ms=300))
        self.clock.advance(0.3)
        self.drain.begin(10)
        self.send(message("tcp_request", 2))
        found = self.read()
        name = "twisted_node_request_duration_seconds"
        self.assertEqual(found[f"{name}_count{{type=tcp_request}}"], 1)
        self.assertAlmostEqual(found[f"{name}_sum{{type=tcp_request}}"], 0.3)
        self.assertEqual(found[f"{name}_bucket{{le=0.25,type=tcp_request}}"], 0)
        self.assertEqual(found[f"{name}_bucket{{le=0.5,type=tcp_request}}"], 1)

    def test_observer_of_their_own(self) -> None:
        """A node that is watched by somebody else too tells both."""
        seen: list[tuple[str, str, float]] = []
        self.node.observer = lambda *event: seen.append(event)
        self.metrics.watch(self.node)
        self.send(message("tcp_request", 1))
        self.assertEqual(seen, [("tcp_request", "ok", 0.0)])
        self.assertEqual(self.read()["twisted_node_requests_total{outcome=ok,type=tcp_request}"], 1)

    def test_phase(self) -> None:
        """Exactly one phase is 1, and the deadline counts down."""
        self.drain.track("slow one", Deferred())
        self.drain.begin(10)
        self.clock.advance(4)
        found = self.read()
        phases = {name: value for name, value in found.items() if name.startswith("twisted_node_phase")}
        self.assertEqual(phases.pop("twisted_node_phase{phase=draining}"), 1)
        self.assertEqual(set(phases.values()), {0.0})
        self.assertEqual(found["twisted_node_drain_left_seconds"], 6)
        self.assertEqual(found["twisted_node_requests_in_flight"], 1)

    def info(self, metrics: Metrics) -> list[str]:
        found = figures(generate_latest(metrics.registry).decode())
        return [name for name, value in found.items() if name.startswith("twisted_node_info") and value == 1]

    def test_name(self) -> None:
        """The version is always there, the node's name once it has one: init may come late."""
        self.assertEqual(self.info(self.metrics), [f"twisted_node_info{{node_id=n1,version={VERSION}}}"])
        metrics = Metrics(DrainingService(Drain(Clock())))
        nameless = f"twisted_node_info{{version={VERSION}}}"
        self.assertEqual((metrics.node_id, self.info(metrics)), (None, [nameless]))
        node = Node()
        metrics.watch(node)
        metrics.watch(Node("another"))
        node.node_id = 'n"2'
        self.assertEqual(metrics.node_id, 'n"2')
        self.assertEqual(self.info(metrics), [f'twisted_node_info{{node_id=n"2,version={VERSION}}}'])

    def test_start_time(self) -> None:
        """When the process began is told once, by the name that Prometheus gives it."""
        lines = generate_latest(self.metrics.registry).decode().splitlines()
        self.assertEqual(
            [line.split()[0] for line in lines if "start_time" in line and line[0] != "#"],
            ["process_start_time_seconds"],
        )

    def test_own_registry(self) -> None:
        """A program that has a registry has the figures in it, and nothing else is added."""
        registry = CollectorRegistry()
        Metrics(DrainingService(Drain(Clock())), registry).observe("GET", "ok", 0.1)
        found = figures(generate_latest(registry).decode())
        self.assertEqual(found["twisted_node_requests_total{outcome=ok,type=GET}"], 1)
        self.assertEqual([name for name in found if not name.startswith("twisted_node_")], [])
