"""The phases of a drain, what leads from one to the next, and the figures of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["ENDED", "NEXT", "TAKES_WORK", "Counts", "Event", "Phase", "Statistics"]


class Phase(Enum):
    """Where a drain is."""

    #: Taking work.
    SERVING = "serving"
    #: Still taking work, while telling load balancers to send no more.
    LAME_DUCK = "lame_duck"
    #: Taking no new work; waiting for what is in flight.
    DRAINING = "draining"
    #: Everything in flight came to its own end.
    DRAINED = "drained"
    #: What was left at the deadline has been cut.
    TIMED_OUT = "timed_out"


class Event(Enum):
    """What moves a drain on."""

    LAME_DUCK = "a lame duck was asked for"
    BEGIN = "a drain was asked for"
    EMPTY = "the last work in flight ended"
    DEADLINE = "the deadline passed"


#: From each phase, where each event leads; what is missing cannot happen there.
NEXT = {
    Phase.SERVING: {Event.LAME_DUCK: Phase.LAME_DUCK, Event.BEGIN: Phase.DRAINING},
    Phase.LAME_DUCK: {Event.LAME_DUCK: Phase.LAME_DUCK, Event.BEGIN: Phase.DRAINING},
    Phase.DRAINING: {
        Event.LAME_DUCK: Phase.DRAINING,
        Event.BEGIN: Phase.DRAINING,
        Event.EMPTY: Phase.DRAINED,
        Event.DEADLINE: Phase.TIMED_OUT,
    },
    Phase.DRAINED: {Event.LAME_DUCK: Phase.DRAINED, Event.BEGIN: Phase.DRAINED},
    Phase.TIMED_OUT: {Event.LAME_DUCK: Phase.TIMED_OUT, Event.BEGIN: Phase.TIMED_OUT},
}


#: The phases in which new work is taken.
TAKES_WORK = (Phase.SERVING, Phase.LAME_DUCK)

#: The phases in which a drain has come to its end.
ENDED = (Phase.DRAINED, Phase.TIMED_OUT)


@dataclass
class Counts:
    """What has become of the work so far. Only the drain changes it."""

    #: Came to its own end, well or ill.
    finished: int = 0
    #: Refused, and so never started.
    refused: int = 0
    #: Given up, by the deadline or because its answer could not be written.
    cut: int = 0
    #: Finished after its client had gone.
    undelivered: int = 0


@dataclass(frozen=True)
class Statistics:
    """A picture of a drain at one moment; it never changes. Times are in seconds."""

    phase: Phase
    #: Why the drain (or the lame duck) began; empty while serving.
    reason: str
    in_flight: int
    #: What the drain has not seen to its end: in flight, or once it has ended, the number that its deadline cut.
    remaining: int
    finished: int
    refused: int
    cut: int
    undelivered: int
    #: From the drain's beginning to its end, or so far.
    took: float
    #: Until the deadline; None if none is set (serving, or ended).
    left: float | None
    #: The oldest work in flight, or once the drain has ended the oldest that was cut: its name and its age.
    oldest: tuple[tuple[object, float], ...]
