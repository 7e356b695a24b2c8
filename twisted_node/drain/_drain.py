"""The work in flight, the phases of a drain, and its deadline.

Two rules for this file: it takes a clock, and knows no transport or message (only ``_timers`` knows what a reactor is);
a piece of work has an opaque name, shown by ``str``. It stands alone: any Twisted program can import it.

The shape: beginning the drain races the work in flight against a deadline (``_race``). What it waits for are Deferreds
of our own (``_in_flight``), never those of the work itself, so cancelling one always ends it; what the work says later
is dropped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sized
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, succeed

from twisted_node._seconds import check_seconds
from twisted_node._typing import AnyClock
from twisted_node.drain._deadline import Deadline
from twisted_node.drain._in_flight import InFlight
from twisted_node.drain._phases import ENDED, NEXT, TAKES_WORK, Counts, Event, Phase, Statistics
from twisted_node.drain._race import Race
from twisted_node.drain._timers import monotonic_timers
from twisted_node.drain._waiters import Waiters
from twisted_node.errors import Draining

__all__ = ["Drain"]

_T = TypeVar("_T")


class Drain:
    """Keeps the work in flight, and lets it end.

    Args:
        clock: sets the timers of the drain: the reactor, or ``twisted.internet.task.Clock`` in a test. On Linux a
            reactor's own timers are replaced by timers of the kernel that follow the monotonic clock.
        monotonic: tells the time in seconds for all that is measured. Twisted's own clock is the wall clock, which
            somebody may set.
    """

    def __init__(self, clock: AnyClock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        #: Sets every timer that a deadline depends on. They keep their time even if somebody sets the wall clock.
        self.timers = monotonic_timers(clock)
        self.monotonic = monotonic
        self.counts = Counts()
        #: Why the drain, or the lame duck, began; empty while serving.
        self.reason = ""
        #: Where the drain is; only the drain itself moves it.
        self.phase = Phase.SERVING
        self._work = InFlight(self.counts, monotonic)
        #: The work in flight, now and later, for those who count it very often: its ``len`` is :attr:`in_flight`.
        self.work: Sized = self._work.held
        self._began = self._ended = 0.0
        self._race = Race(self._work, self.counts)
        self._lame_duck = Deadline(self.timers, monotonic, self._end_lame_duck)
        self._deadline = Deadline(self.timers, monotonic, self._race.time_is_up)
        self._before_draining: Waiters[None] = Waiters()
        self._for_draining: Waiters[None] = Waiters()
        self._for_drained: Waiters[Statistics] = Waiters()

    @property
    def refusing(self) -> bool:
        """Whether new work is to be refused: the drain has begun."""
        return self.phase not in TAKES_WORK

    @property
    def in_flight(self) -> int:
        """How many pieces of work are in flight."""
        return len(self._work)

    @property
    def ended(self) -> bool:
        """Whether the drain has come to its end."""
        return self.phase in ENDED

    @property
    def deadline(self) -> float | None:
        """When what is left is cut, on ``monotonic``; None until a drain, or a lame duck before it, is asked for."""
        return self._deadline.at

    @property
    def lame_duck_ends(self) -> float | None:
        """When the lame duck ends and the drain begins, on ``monotonic``; None unless there is a lame duck."""
        return self._lame_duck.at if self.phase is Phase.LAME_DUCK else None

    def track(self, name: object, work: Deferred[_T], *, while_draining: bool = False) -> Deferred[_T]:
        """Hold a piece of work as in flight until it ends.

        Args:
            name: what to call it in logs and statistics; shown by ``str``, never compared.
            work: fires when the work has ended. It is cancelled if the drain's deadline cuts it; whether it heeds that
                or not, what it says afterwards is dropped.
            while_draining: take it even now; the drain then waits for it too.

        Returns:
            A Deferred of the drain's own, with the outcome of ``work``, or a failure ``DrainTimeout`` if the work was
            cut. If a callback that was added before the drain began returns a Deferred, the drain waits for that too.

        Raises:
            Draining: the drain takes no more work.
        """
        if self.refusing and not while_draining:
            self.count_refused()
            raise Draining(self.reason)
        return self._work.hold(name, work)

    def refuse(self, ours: Deferred[Any]) -> None:
        """Refuse a piece of work after all: it is held no longer, and counts as refused, not as finished.

        Args:
            ours: what :meth:`track` returned; it fires with None. Nothing happens if it has ended.
        """
        self._work.refuse(ours)

    # Counts of what the drain cannot see itself: work that was not tracked, and answers that were not delivered.

    def count_finished(self, count: int = 1) -> None:
        """Count work that ended as soon as it had begun.

        Args:
            count: how many pieces of work.
        """
        self.counts.finished += count

    def count_refused(self) -> None:
        """Count a piece of work that was refused, and so never started."""
        self.counts.refused += 1

    def count_undelivered(self, count: int = 1) -> None:
        """Count answers whose client had gone.

        Args:
            count: how many answers.
        """
        self.counts.undelivered += count

    def count_cut(self, count: int = 1) -> None:
        """Count answers that could not be written: lost, though their work had finished.

        Args:
            count: how many answers, or connections whose answers were lost.
        """
        self.counts.cut += count

    def begin(self, timeout: float, reason: str = "asked to") -> Deferred[Statistics]:
        """Begin the drain. Further calls join it; they may bring its deadline nearer, never push it away.

        During a lame duck, which has promised a deadline already, the same holds for the first call.

        From 10,000 pieces of work in flight on, the garbage collector ignores what exists now, for the rest of the
        process (``gc.freeze``).

        Args:
            timeout: seconds until what is left is cut; 0 cuts at once.
            reason: for the log.

        Returns:
            Fires with the final statistics when nothing is in flight any more, by the deadline at the latest. Return it
            from a "before shutdown" trigger or from ``stopService``.

        Raises:
            MisuseError: ``timeout`` is no number of seconds from 0.
        """
        check_seconds("timeout", timeout)
        self._begin(reason, self.monotonic() + timeout)
        return self.when_drained()

    def cut_in_flight(self) -> None:
        """Cut what is in flight now, whatever the phase; each piece of work fails with ``DrainTimeout``."""
        self._work.cut_all()

    def lame_duck(self, delay: float, timeout: float, reason: str = "asked to") -> Deferred[Statistics]:
        """Go on serving for a while, as a lame duck, before the drain begins by itself.

        The deadline of that drain is promised from now on. Further calls join; they may bring the end of the lame duck
        or the deadline nearer, never push them away.

        Args:
            delay: seconds until then.
            timeout: seconds for the drain that follows, as in :meth:`begin`.
            reason: for the log.

        Returns:
            As :meth:`begin`, and raises what it does.
        """
        check_seconds("delay", delay)
        check_seconds("timeout", timeout)
        begun, self.phase = self.phase, NEXT[self.phase][Event.LAME_DUCK]
        if begun is not self.phase:
            self.reason = reason
        if self.phase is Phase.LAME_DUCK:
            drain_at = self.monotonic() + delay
            self._deadline.bring_near(drain_at + timeout)
            self._lame_duck.bring_near(drain_at)
        return self.when_drained()

    def before_draining(self) -> Deferred[None]:
        """Wait for the last moment before the drain begins, in which work is still taken.

        Returns:
            Fires in the same turn as the drain begins; at once if it has begun.
        """
        return succeed(None) if self.refusing else self._before_draining.add()

    def when_draining(self) -> Deferred[None]:
        """Wait for the drain to begin.

        Returns:
            Fires in the same turn; at once if it has begun.
        """
        return succeed(None) if self.refusing else self._for_draining.add()

    def when_drained(self) -> Deferred[Statistics]:
        """Wait for the drain to end.

        Returns:
            Fires with the final statistics; at once if it has ended.
        """
        return succeed(self.statistics()) if self.ended else self._for_drained.add()

    async def _until_over(self, accepts: Callable[[object], bool]) -> None:
        while work := self._work.named(accepts):
            await DeferredList(work)

    def when_over(self, accepts: Callable[[object], bool]) -> Deferred[None]:
        """Wait until no work is in flight whose name ``accepts`` returns True for; fires at once if there is none."""
        return Deferred.fromCoroutine(self._until_over(accepts))

    def watch_deadline(self, watcher: Callable[[float], object]) -> None:
        """Have a function told of the deadline.

        Args:
            watcher: called with the time on ``monotonic``, in seconds, when a drain or a lame duck is first asked for,
                and whenever a later call brings the deadline nearer.
        """
        self._deadline.watch(watcher)

    def statistics(self, oldest: int = 3) -> Statistics:
        """Take a picture.

        Args:
            oldest: how many of the oldest pieces of work to name.

        Returns:
            The picture; it does not change afterwards.
        """
        now = self.monotonic()
        draining = self.phase is Phase.DRAINING
        return Statistics(
            phase=self.phase,
            reason=self.reason,
            in_flight=len(self._work),
            remaining=self._race.cut if self.ended else len(self._work),
            **vars(self.counts),
            took=self._ended - self._began if self.ended else now - self._began if draining else 0.0,
            left=self._deadline.left if draining else None,
            oldest=self._race.oldest_cut[:oldest] if self.phase is Phase.TIMED_OUT else self._work.oldest(oldest),
        )

    def _begin(self, reason: str, cut_at: float) -> None:
        # What is taken in this moment may begin the drain itself.
        self._before_draining.fire(None)
        begun, self.phase = self.phase, NEXT[self.phase][Event.BEGIN]
        if begun is not self.phase:
            self._work.cut_for(reason)
            self._lame_duck.stop()
            self.reason, self._began = reason, self.monotonic()
            # The watchers of the deadline are told before the drain is announced: whoever waits for the drain to begin
            # may ask at once when it will be over.
            self._deadline.bring_near(cut_at)
            self._for_draining.fire(None)
            Deferred.fromCoroutine(self._race.run()).addCallback(self._over)
        elif self.phase is Phase.DRAINING:
            self._deadline.bring_near(cut_at)

    def _end_lame_duck(self) -> None:
        # The deadline is set already.
        self._begin(self.reason, math.inf)

    def _over(self, event: Event) -> None:
        self._deadline.stop()
        # A drain with nothing to wait for takes no time, however long its listeners took to close.
        self._ended = self.monotonic() if self._race.waited else self._began
        self.phase = NEXT[self.phase][event]
        self._for_drained.fire(self.statistics())
