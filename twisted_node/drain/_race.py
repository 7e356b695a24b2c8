"""The race of the work in flight against the deadline: a ``DeferredList`` of the work against a Deferred of time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList, race

from twisted_node.drain._collector import collector_paused
from twisted_node.drain._in_flight import InFlight
from twisted_node.drain._phases import Counts, Event

__all__ = ["Race"]

#: With so many pieces of work in flight, a run of the garbage collector takes long enough to be worth avoiding.
_FREEZE_FROM = 10_000


class Race:
    """One race, which is run once, and what it found.

    Args:
        work: what is in flight.
        counts: where work is counted that ends.
    """

    def __init__(self, work: InFlight, counts: Counts) -> None:
        #: Whether there was anything to wait for.
        self.waited = False
        #: How many pieces of work the deadline cut; known once the race is over.
        self.cut = 0
        #: The oldest work in flight when time was up, each with its age in seconds.
        self.oldest_cut: tuple[tuple[object, float], ...] = ()
        self._work = work
        self._counts = counts
        self._cut_before = 0
        self._awaited: list[Deferred[Any]] = []
        self._time: Deferred[None] = Deferred()

    async def run(self) -> Event:
        """Wait until nothing is in flight or time is up, and cut what is left then.

        Returns:
            ``Event.DEADLINE`` if something was cut because time was up, else ``Event.EMPTY``.
        """
        while (work_first := await self._is_work_first()) and self._work:
            # Work that was taken meanwhile is not in the list yet. What lost a race has been cancelled.
            self._time = Deferred()
        self._awaited = []
        if not work_first:
            self._work.cut_all()
            self.cut = self._counts.cut - self._cut_before
        return Event.DEADLINE if self.cut else Event.EMPTY

    def time_is_up(self) -> None:
        """Learn that the deadline has passed."""
        self.oldest_cut = self._work.oldest(3)
        self._cut_before = self._counts.cut
        # A piece of work may have ended while its callbacks still wait for something: that counts as cut too.
        self._counts.cut += sum(1 for ours in self._awaited if ours.paused)
        self._time.callback(None)

    async def _is_work_first(self) -> bool:
        """Race what is in flight now against the time, once."""
        self._awaited = self._work.all()
        self.waited = bool(self._awaited)
        # To make this list over 100,000 takes 0.04 s. With the collector on it takes ten times that, and the
        # collector's run right after it takes as long again.
        with collector_paused(freeze=len(self._awaited) >= _FREEZE_FROM):
            in_flight: Deferred[Any] = DeferredList(self._awaited)
        time: Deferred[Any] = self._time
        winner, _ = await race([in_flight, time])
        return winner == 0
