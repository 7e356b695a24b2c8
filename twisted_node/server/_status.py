"""What a server tells of itself and its drain: one picture, whoever asks for it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from twisted_node._version import VERSION
from twisted_node.drain import Phase, Statistics
from twisted_node.server._service import DrainingService
from twisted_node.server._shutdown import MAX_GRACE

__all__ = ["Named", "Picture", "describe"]


@dataclass(frozen=True)
class Named:
    """One request, and its age in milliseconds."""

    name: str
    age_ms: int


@dataclass(frozen=True)
class Picture:
    """A server at one moment: :class:`~twisted_node.drain.Statistics` as plain data, with the open connections.

    Times are in whole milliseconds, but for the uptime.
    """

    #: Of the process: tells a server from its successor at the same address.
    pid: int
    #: Of this package.
    version: str
    #: The name of the node; None if there is no node, or it has no name yet.
    node_id: str | None
    #: Seconds since the service began to serve; None before it has started.
    uptime_s: float | None
    phase: str
    #: Why the drain or the lame duck began; empty while serving.
    reason: str
    in_flight: int
    #: In flight, or once the drain has ended, the number that its deadline cut.
    remaining: int
    #: Open connections; control endpoints included, admin not.
    connections: int
    finished: int
    refused: int
    cut: int
    undelivered: int
    #: From the drain's beginning to its end, or so far.
    took_ms: int
    #: Until the deadline; None if none is set (serving, or ended and every client has its answers).
    left_ms: int | None
    #: What happens then, in words.
    at_deadline: str
    #: The oldest requests in flight, or once the drain has ended the oldest that were cut.
    oldest: tuple[Named, ...]


def describe(service: DrainingService, *, node_id: str | None = None, oldest: int = 10) -> Picture:
    """Take a picture of a server.

    Args:
        service: the server.
        node_id: the name of the node that it serves, if it serves one.
        oldest: how many of the oldest requests to name.

    Returns:
        The picture; ``dataclasses.asdict`` makes plain data of it.
    """
    statistics = service.drain.statistics(oldest)
    left = _left(service, statistics)
    return Picture(
        pid=os.getpid(),
        version=VERSION,
        node_id=node_id,
        uptime_s=None if service.uptime is None else round(service.uptime, 3),
        phase=statistics.phase.value,
        reason=statistics.reason,
        in_flight=statistics.in_flight,
        remaining=statistics.remaining,
        connections=len(service.connections),
        finished=statistics.finished,
        refused=statistics.refused,
        cut=statistics.cut,
        undelivered=statistics.undelivered,
        took_ms=round(statistics.took * 1000),
        left_ms=None if left is None else round(left * 1000),
        at_deadline=_at_deadline(service, statistics, left),
        oldest=tuple(Named(str(name), round(age * 1000)) for name, age in statistics.oldest),
    )


def _left(service: DrainingService, statistics: Statistics) -> float | None:
    """Say how many seconds are left until something is cut: work, or what clients have not read yet."""
    if statistics.phase is Phase.DRAINED and service.ends_by is not None and service.connections.unsent():
        return max(0.0, service.ends_by - service.drain.monotonic())
    return statistics.left


def _at_deadline(service: DrainingService, statistics: Statistics, left: float | None) -> str:
    if statistics.phase is Phase.DRAINING:
        return (
            f"what is still in flight ({statistics.in_flight} now) is cut and answered so;"
            f" connections close within {min(service.connections.linger, MAX_GRACE):g} s"
        )
    if service.drain.ended and left is not None:
        return "connections are closed whose clients have not read their answers, and count as cut"
    if service.drain.ended:
        return "the drain has ended"
    return f"none is set; a drain cuts what is left after {service.drain_timeout:g} s"
