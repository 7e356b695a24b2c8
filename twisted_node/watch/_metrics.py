"""Figures for Prometheus. Needs the ``admin`` extra."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from twisted_node._version import VERSION
from twisted_node.drain import Phase
from twisted_node.server import DrainingService

__all__ = ["Metrics"]

#: Upper bounds in seconds; from a look-up in memory to more than a drain waits for by default.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)


class _Node(Protocol):
    """What is needed of a node to name it, and to count its requests."""

    #: Called with the type, the outcome and the seconds of each request that ends.
    observer: Callable[[str, str, float], object] | None

    @property
    def node_id(self) -> str | None: ...

    @property
    def unreadable_lines(self) -> int: ...


class Metrics:
    """The figures of one server.

    Args:
        service: the server.
        registry: where to register them; by default one of their own.
    """

    def __init__(self, service: DrainingService, registry: CollectorRegistry | None = None) -> None:
        #: Holds the figures, for whatever exports them.
        self.registry = CollectorRegistry() if registry is None else registry
        if registry is None:
            ProcessCollector(registry=self.registry)
        self._state = _State(service)
        self.registry.register(self._state)

    @property
    def node_id(self) -> str | None:
        """The name of the node that is watched; None if there is none, or it has no name yet. Of several, the first."""
        return self._state.node_id

    def watch(self, node: _Node) -> None:
        """Name a node, and count its requests and the lines that it could not read.

        Args:
            node: its ``observer`` is replaced by one that also calls the observer that it had.
        """
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
            type_: what kind of request; each makes a time series of its own, so that there must not be many.
            outcome: ``ok``, ``error``, ``refused`` or ``cut``.
            seconds: how long the request took.
        """
        requests = self._state.requests
        requests[type_, outcome] = requests.get((type_, outcome), 0) + 1
        if outcome != "refused":
            latency = self._state.latencies.get(type_)
            if latency is None:
                latency = self._state.latencies[type_] = _Latency()
            latency.counts[bisect_left(_BUCKETS, seconds)] += 1
            latency.sum += seconds


class _Latency:
    """How long the requests of one type took."""

    def __init__(self) -> None:
        #: How many requests are in each bucket and in no lower one; the last bucket has no upper bound.
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.sum = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """Return the bounds and counts as Prometheus wants them: a bucket includes all lower ones."""
        bounds = [*map(floatToGoString, _BUCKETS), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class _State(Collector):
    """Collects the figures when they are read.

    Requests are counted here and not in the library's own counters. Each of those takes a lock, and all of them
    together take longer than most requests.
    """

    def __init__(self, service: DrainingService) -> None:
        self._service = service
        self.nodes: list[_Node] = []
        self.requests: dict[tuple[str, str], int] = {}
        self.latencies: dict[str, _Latency] = {}

    @property
    def node_id(self) -> str | None:
        return next((node.node_id for node in self.nodes if node.node_id is not None), None)

    def collect(self) -> Iterator[Metric]:
        """Read the figures."""
        about = {"version": VERSION, "node_id": self.node_id}
        yield InfoMetricFamily(
            "twisted_node",
            "The version of the package, and the name of the node once it has one.",
            {name: value for name, value in about.items() if value is not None},
        )
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
        requests = CounterMetricFamily(
            "twisted_node_requests",
            "Requests that have ended, by type and outcome (ok, error, refused, cut).",
            labels=["type", "outcome"],
        )
        for labels, count in self.requests.items():
            requests.add_metric(labels, count)
        yield requests
        seconds = HistogramMetricFamily(
            "twisted_node_request_duration_seconds",
            "From a request's arrival to its answer; refused ones are not in it.",
            labels=["type"],
        )
        for type_, latency in self.latencies.items():
            seconds.add_metric([type_], latency.buckets(), latency.sum)
        yield seconds
        for name, text, value in (
            ("finished", "Work that came to its own end, well or ill.", statistics.finished),
            ("refused", "Work that the drain refused: it was never started.", statistics.refused),
            ("cut", "Work given up, by the deadline or because its answer could not be written.", statistics.cut),
            ("undelivered", "Work that finished after its client had gone.", statistics.undelivered),
            (
                "unreadable_lines",
                "Lines that named nobody to answer.",
                sum(node.unreadable_lines for node in self.nodes),
            ),
        ):
            yield CounterMetricFamily(f"twisted_node_{name}", text, value)
