"""The work in flight: each piece with a Deferred of our own, which always ends when it is cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sized
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node.drain._phases import Counts
from twisted_node.errors import DrainTimeout

__all__ = ["InFlight"]

_T = TypeVar("_T")
_log = Logger()


class InFlight:
    """The pieces of work that have begun and not ended, the oldest first.

    Args:
        counts: where work is counted that ends.
        monotonic: tells the time in seconds.
    """

    def __init__(self, counts: Counts, monotonic: Callable[[], float]) -> None:
        self._counts = counts
        self._monotonic = monotonic
        self._work: dict[Deferred[Any], tuple[object, float, Deferred[Any]]] = {}
        # One for all that is cut: making a Failure for each of 100,000 takes a third of a second.
        self._time_out = Failure(DrainTimeout(""))

    def __len__(self) -> int:
        return len(self._work)

    @property
    def held(self) -> Sized:
        """What is held; to take its ``len`` calls no Python function."""
        return self._work

    def hold(self, name: object, work: Deferred[_T]) -> Deferred[_T]:
        """Hold a piece of work until it ends or is cut.

        Args:
            name: what to call it.
            work: fires when the work has ended.

        Returns:
            Our own Deferred, with the outcome of ``work``. To cancel it is to cut the work.
        """
        ours: Deferred[_T] = Deferred(self._cut)
        self._work[ours] = (name, self._monotonic(), work)
        work.addBoth(self._finished, ours)
        return ours

    def refuse(self, ours: Deferred[Any]) -> None:
        """Hold a piece of work no longer: it counts as refused, and its Deferred fires with None."""
        if self._work.pop(ours, None) is not None:
            self._counts.refused += 1
            ours.callback(None)

    def all(self) -> list[Deferred[Any]]:
        """List our own Deferreds of the work that is held."""
        return list(self._work)

    def named(self, accepts: Callable[[object], bool]) -> list[Deferred[Any]]:
        """List our own Deferreds of the work whose name a function accepts."""
        return [ours for ours, (name, _, _) in self._work.items() if accepts(name)]

    def cut_for(self, reason: str) -> None:
        """Have work that is cut from now on fail with this reason."""
        self._time_out = Failure(DrainTimeout(reason))

    def cut_all(self) -> None:
        """Cut what is held now; each piece of work fails with ``DrainTimeout``."""
        for ours in list(self._work):
            ours.cancel()

    def oldest(self, count: int) -> tuple[tuple[object, float], ...]:
        """Name the oldest pieces of work, each with its age in seconds."""
        now = self._monotonic()
        return tuple((name, now - since) for name, since, _ in itertools.islice(self._work.values(), count))

    def _finished(self, outcome: Any, ours: Deferred[Any]) -> None:
        """End a piece of work with its own outcome, unless it was cut before."""
        if self._work.pop(ours, None) is not None:
            self._counts.finished += 1
            ours.callback(outcome)

    def _cut(self, ours: Deferred[Any]) -> None:
        """Give up a piece of work: first fail our own Deferred, then cancel the work's, which may ignore that."""
        name, _, work = self._work.pop(ours)
        self._counts.cut += 1
        ours.errback(self._time_out)
        try:
            work.cancel()
        except BaseException:
            _log.failure("while cancelling {name}", name=name)
