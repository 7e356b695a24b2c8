"""The order of a shutdown, step by step.

The drain begins; in the same turn every listener lets no new connection begin, and closes as soon as it has accepted
those that had begun; what is in flight ends or is cut; every connection is flushed, half-closed and read until its
client closes; then what the requests needed is stopped. Only the host decides what follows: nothing here stops a
reactor or ends a process.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.drain._deadline import Deadline
from twisted_node.drain._waiters import Waiters
from twisted_node.server._connections import Connections
from twisted_node.server._listening import Listener
from twisted_node.server._reports import Reports
from twisted_node.server._shedding import Shedding
from twisted_node.server._states import SERVICE, ServiceEvent, ServiceState

__all__ = ["MAX_GRACE", "Shutdown"]

_log = Logger()

#: The grace after the deadline, whatever the linger: a connection has at most so many seconds more.
MAX_GRACE = 1.0


class Shutdown:
    """Takes a service from serving to its end.

    Args:
        drain: the work in flight.
        connections: those that are open.
        drain_timeout: seconds from the beginning of a drain until what is left is cut.
        ends_with_drain: whether a drain that somebody else began ends the service too.
        random_number: draws numbers, for ``Shedding``.
    """

    def __init__(
        self,
        drain: Drain,
        connections: Connections,
        *,
        drain_timeout: float,
        ends_with_drain: bool,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        #: Where the service is; only this object moves it.
        self.state = ServiceState.SERVING
        #: Closed when the drain begins.
        self.listeners: list[Listener] = []
        #: Called one after the other, the last one first, when no connection is left.
        self.stop_after_drain: list[Callable[[], object]] = []
        #: By when it is over, but for the grace; set when the end is asked for.
        self.end_deadline = Deadline(drain.timers, drain.monotonic, self._end_is_due)
        #: Seconds from the beginning of a drain until what is left is cut.
        self.drain_timeout = drain_timeout
        self._drain = drain
        self._connections = connections
        self._random_number = random_number
        # Whether the service ends with its drain. Once somebody has asked for the end, it does.
        self._end_wanted = ends_with_drain
        # What cut what was left, for the log.
        self._cut_by = "the deadline"
        self._listeners_closed: Deferred[Any] = succeed(None)
        self._grace: IDelayedCall | None = None
        self._waiters: Waiters[Statistics] = Waiters()
        self._reports = Reports(drain, connections, lambda: self.end_deadline.at)
        drain.watch_deadline(self._deadline_moved)
        self._deadline_moved(drain.deadline)
        drain.before_draining().addCallback(lambda _: connections.end_lame_duck())
        drain.when_draining().addCallback(self._drain_began)

    def would_end_by(self, lame_duck: float) -> float:
        """Say by when it is over if the end is asked for now, as ``DrainingService.would_end_by`` explains."""
        drain = self._drain
        asked_for = drain.monotonic() + (0.0 if drain.refusing else lame_duck) + self.drain_timeout
        promised = self.end_deadline.at if drain.ended else drain.deadline
        return asked_for if promised is None else min(asked_for, promised)

    def end(self, reason: str, *, lame_duck: float = 0.0, replaced: bool = False) -> Deferred[Statistics]:
        """Drain and end, as ``DrainingService.end`` explains.

        Args:
            reason: for the log.
            lame_duck: seconds to go on serving before the drain begins.
            replaced: whether another process has taken over already: then every client is sent away at its next answer.
        """
        self._end_wanted = True
        self._connections.release()
        if self._drain.ended:
            self.end_deadline.bring_near(self.would_end_by(lame_duck))
            if self.state is ServiceState.GOING_ON:
                self._close_connections()
        elif lame_duck and not self._drain.refusing:
            if self.state is ServiceState.SERVING:
                self._reports.lame_duck(lame_duck, reason)
            self._drain.lame_duck(lame_duck, self.drain_timeout, reason)
            if self._drain.phase is Phase.LAME_DUCK:
                self._connections.begin_lame_duck(Shedding(self._drain, self._random_number, at_once=replaced))
        else:
            self._deadline_moved(self._drain.deadline)
            self._drain.begin(self.drain_timeout, reason)
        return self.when_ended()

    def cut(self, reason: str) -> None:
        """Wait no longer, as ``DrainingService.cut`` explains."""
        self._cut_by = reason
        self.end(reason)
        self._drain.begin(0, reason)
        self.end_deadline.bring_near(self._drain.monotonic())

    def when_ended(self) -> Deferred[Statistics]:
        """Wait for the end."""
        return succeed(self._drain.statistics()) if self.state is ServiceState.ENDED else self._waiters.add()

    # The order, step by step.

    def _move(self, event: ServiceEvent) -> None:
        self.state = SERVICE[self.state][event]

    def _drain_began(self, _: None) -> None:
        self._move(ServiceEvent.DRAIN)
        self._connections.begin_drain()
        before = len(self._connections)
        self.close_listeners()
        self._reports.draining(len(self._connections) - before)
        self._drain.when_drained().addCallback(self._drained)

    def close_listeners(self) -> None:
        """Close every listener, as soon as it has accepted those that have begun to connect."""
        expects_clients = len(self._connections) > 0
        self._listeners_closed = DeferredList(
            [listener.close(expects_clients=expects_clients) for listener in self.listeners]
        )

    def _drained(self, statistics: Statistics) -> None:
        if statistics.phase is Phase.TIMED_OUT:
            self._reports.cut(statistics.remaining, statistics.oldest, self._cut_by)
        if self._end_wanted:
            self._close_connections()
        else:
            self._move(ServiceEvent.GO_ON)
            self._reports.going_on(statistics)

    def _close_connections(self) -> None:
        self._move(ServiceEvent.CLOSE)
        self._reports.closing()
        self._connections.finish()
        if self._drain.phase is Phase.TIMED_OUT:
            self._connections.lose_patience()
        if not self.end_deadline.left:
            self._begin_grace()
        # While a listener waits for handshakes, connections still come.
        self._listeners_closed.addCallback(lambda _: self._connections.when_empty())
        self._listeners_closed.addCallback(self._all_gone)

    def _deadline_moved(self, deadline: float | None) -> None:
        """Follow the drain: its lame duck and its deadline are the service's too, whoever asked for them."""
        if self._drain.phase is Phase.LAME_DUCK:
            self._move(ServiceEvent.LAME_DUCK)
        if self._end_wanted and deadline is not None:
            self.end_deadline.bring_near(deadline)

    def _end_is_due(self) -> None:
        # While work is in flight, the drain's own deadline comes first, and the connections follow.
        if self.state is ServiceState.CLOSING:
            self._begin_grace()

    def _begin_grace(self) -> None:
        """Wait for no client any more, and end the connections soon, whether their clients have taken their answers."""
        self._move(ServiceEvent.END_IS_DUE)
        grace = min(self._connections.linger, MAX_GRACE)
        self._grace = self._drain.timers.callLater(grace, self._end_connections)
        for listener in self.listeners:
            listener.lose_patience()
        self._connections.begin_grace()
        # Work taken after the drain had ended, by handlers that serve while draining, is cut here.
        self._cut_in_flight()

    def _end_connections(self) -> None:
        # A connection that was kept open may have sent more requests since. They are cut too, so that they are answered
        # before the connection closes.
        self._cut_in_flight()
        # Count before closing any: when the last connection closes, the final statistics are taken at once.
        if unsent := self._connections.unsent():
            self._drain.count_cut(len(unsent))
            self._reports.lost(unsent, self._cut_by)
        self._connections.close_now()

    def _cut_in_flight(self) -> None:
        if self._drain.in_flight:
            self._reports.cut(self._drain.in_flight, (), self._cut_by)
        self._drain.cut_in_flight()

    def _all_gone(self, _: None) -> Any:
        self._move(ServiceEvent.EMPTY)
        self.end_deadline.stop()
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        return self._stop_the_rest(None)

    def _stop_the_rest(self, _: object) -> Any:
        if not self.stop_after_drain:
            self._end()
            return None
        stopping: Deferred[Any] = maybeDeferred(self.stop_after_drain.pop())
        stopping.addErrback(lambda failure: _log.failure("while stopping what the requests needed", failure))
        return stopping.addCallback(self._stop_the_rest)

    def _end(self) -> None:
        self._move(ServiceEvent.STOPPED)
        # What the factories hold, such as open files, is let go of.
        self.listeners.clear()
        statistics = self._drain.statistics()
        self._reports.ended(statistics)
        self._waiters.fire(statistics)
