"""Figures for Prometheus. Needs the ``admin`` extra."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twisted_node.drain import Phase
from twisted_node.node import Node
from twisted_node.service import DrainingService

__all__ = ["Metrics"]

#: Seconds; from a look-up in memory to what a drain of the default length can wait for.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)


class Metrics:
    """The figures of one server.

    Args:
        service: the server.
        registry: where to register them; by default one of their own.
    """

    def __init__(self, service: DrainingService, registry: CollectorRegistry | None = None) -> None:
        #: What to export.
        self.registry = CollectorRegistry() if registry is None else registry
        if registry is None:
            ProcessCollector(registry=self.registry)
        self._state = _State(service)
        self.registry.register(self._state)
        requests = Counter(
            "twisted_node_requests",
            "Requests that have ended, by type and outcome (ok, error, refused, cut).",
            ["type", "outcome"],
            registry=self.registry,
        )
        seconds = Histogram(
            "twisted_node_request_duration_seconds",
            "From a request's arrival to its answer; refused ones are not in it.",
            ["type"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # Finding a series by its labels takes the library longer than counting.
        self._counter, self._histogram = cache(requests.labels), cache(seconds.labels)

    def watch(self, node: Node) -> None:
        """Count the requests of a node, and the lines that it could not read; its own observer is told too."""
        before = node.observer

        def observe(type_: str, outcome: str, seconds: float) -> None:
            self.observe(type_, outcome, seconds)
            if before is not None:
                before(type_, outcome, seconds)

        self._state.nodes.append(node)
        node.observer = observe

    def observe(self, type_: str, outcome: str, seconds: float) -> None:
        """Count one request that has ended.

        Args:
            type_: one of few: each makes a time series.
            outcome: ``ok``, ``error``, ``refused`` or ``cut``.
            seconds: how long it took.
        """
        self._counter(type_, outcome).inc()
        if outcome != "refused":
            self._histogram(type_).observe(seconds)


class _State(Collector):
    """What is read from the server when somebody asks; nothing is counted twice for it."""

    def __init__(self, service: DrainingService) -> None:
        self._service = service
        self.nodes: list[Node] = []

    def collect(self) -> Iterator[Metric]:
        """Read the figures."""
        statistics = self._service.drain.statistics(oldest=0)
        phase = GaugeMetricFamily("twisted_node_phase", "1 for the phase that the server is in.", labels=["phase"])
        for each in Phase:
            phase.add_metric([each.value], float(each is statistics.phase))
        yield phase
        for name, text, value in (
            ("requests_in_flight", "Requests that have begun and not ended.", statistics.in_flight),
            ("connections", "Open connections, control included, admin not.", len(self._service.connections)),
            ("drain_duration_seconds", "From the drain's beginning to its end, or so far.", statistics.took),
            ("drain_left_seconds", "Until the drain's deadline; 0 when none is set.", statistics.left or 0.0),
        ):
            yield GaugeMetricFamily(f"twisted_node_{name}", text, value)
        for name, text, value in (
            ("finished", "Work that came to its own end, well or ill.", statistics.finished),
            ("refused", "Work turned away by the drain without being started.", statistics.refused),
            ("cut", "Work given up, by the deadline or because its answer could not be written.", statistics.cut),
            ("undelivered", "Work that finished after its client had gone.", statistics.undelivered),
            ("refused_lines", "Lines that named nobody to answer.", sum(node.unreadable_lines for node in self.nodes)),
        ):
            yield CounterMetricFamily(f"twisted_node_{name}", text, value)
