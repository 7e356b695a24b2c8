"""The picture of a drain that a node gives."""

from __future__ import annotations

from twisted_node.server._status import Picture


def picture(took_ms: int, remaining: int) -> Picture:
    """A drain of 20 s after so many milliseconds."""
    return Picture(
        pid=4711,
        version="0.1.0",
        node_id="n1",
        uptime_s=60.0,
        phase="draining",
        reason="",
        in_flight=remaining,
        remaining=remaining,
        connections=1,
        finished=0,
        refused=0,
        cut=0,
        undelivered=0,
        took_ms=took_ms,
        left_ms=20_000 - took_ms,
        at_deadline="",
        oldest=(),
    )
