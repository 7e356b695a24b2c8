"""The order of a shutdown, step by step.

The drain begins; in the same turn every listener lets no new connection begin, and closes as soon as it has accepted
those that had begun; what is in flight ends or is cut; every connection is flushed, half-closed and read until its
client closes; then what the requests needed is stopped. Only the host decides what follows: nothing here stops a
reactor or ends a process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.drain._waiters import Waiters
from twisted_node.server._connections import Connections
from twisted_node.server._listening import Listener
from twisted_node.server._reports import Reports
from twisted_node.server._states import SERVICE, ServiceEvent, ServiceState

__all__ = ["MAX_GRACE", "Shutdown"]

_log = Logger()

#: At the deadline a connection has at most so many seconds more, whatever its linger.
MAX_GRACE = 1.0


class Shutdown:
    """Takes a service from serving to its end.

    Args:
        drain: the work in flight.
        connections: those that are open.
        drain_timeout: seconds from the beginning of a drain until what is left is cut.
        ends_with_drain: whether a drain that somebody else began ends the service too.
    """

    def __init__(self, drain: Drain, connections: Connections, *, drain_timeout: float, ends_with_drain: bool) -> None:
        #: Where the service is; only this object moves it.
        self.state = ServiceState.SERVING
        #: By when it is over, but for a short grace, on the drain's monotonic clock; None until the end was asked for.
        self.ends_by: float | None = None
        #: Closed when the drain begins.
        self.listeners: list[Listener] = []
        #: Called one after the other, the last one first, when no connection is left.
        self.stop_after_drain: list[Callable[[], object]] = []
        #: Told whenever ``ends_by`` is set, or brought nearer.
        self.end_watchers: list[Callable[[float], object]] = []
        #: Seconds from the beginning of a drain until what is left is cut.
        self.drain_timeout = drain_timeout
        self._drain = drain
        self._connections = connections
        self._ends_with_drain = ends_with_drain
        # If a lame duck comes before the drain: when the drain must be over. Set by the first stop.
        self._stop_ends_by: float | None = None
        # What cut what was left, for the log.
        self._cut_by = "the deadline"
        self._listeners_closed: Deferred[Any] = succeed(None)
        self._last_call: IDelayedCall | None = None
        self._waiters: Waiters[Statistics] = Waiters()
        self._reports = Reports(drain, connections, lambda: self.ends_by)
        drain.watch_deadline(self._deadline_moved)
        drain.when_draining().addCallback(self._drain_began)

    def end(self, reason: str, *, lame_duck: float = 0.0) -> Deferred[Statistics]:
        """Drain and end, as ``DrainingService.end`` explains."""
        self._ends_with_drain = True
        self._connections.release()
        if self._drain.ended:
            self._set_end(self._drain.monotonic() + self.drain_timeout)
            if self.state is ServiceState.GOING_ON:
                self._close_connections()
        elif self._drain.refusing:
            self._set_end(self._drain.deadline)
            self._drain.begin(self.drain_timeout, reason)
        elif lame_duck:
            if self._stop_ends_by is None:
                self._stop_ends_by = self._drain.monotonic() + lame_duck + self.drain_timeout
                self._reports.lame_duck(lame_duck, reason)
            self._move(ServiceEvent.LAME_DUCK)
            self._drain.lame_duck(lame_duck, self.drain_timeout, reason)
        else:
            self._drain.begin(self.drain_timeout, reason)
        return self.when_ended()

    def cut(self, reason: str) -> None:
        """Wait no longer, as ``DrainingService.cut`` explains."""
        self._cut_by = reason
        self.end(reason)
        self._drain.begin(0, reason)
        self._set_end(self._drain.monotonic())

    def when_ended(self) -> Deferred[Statistics]:
        """Wait for the end."""
        return succeed(self._drain.statistics()) if self.state is ServiceState.ENDED else self._waiters.add()

    # The order, step by step.

    def _move(self, event: ServiceEvent) -> None:
        self.state = SERVICE[self.state][event]

    def _drain_began(self, _: None) -> None:
        self._move(ServiceEvent.DRAIN)
        if self._stop_ends_by is not None:
            # Somebody may have begun this drain during the lame duck, with a longer timeout. The stop was asked for
            # earlier, so its deadline holds.
            self._drain.begin(max(0.0, self._stop_ends_by - self._drain.monotonic()), self._drain.reason)
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
        if self._ends_with_drain:
            self._close_connections()
        else:
            self._move(ServiceEvent.GO_ON)
            self._reports.going_on(statistics)

    def _close_connections(self) -> None:
        self._move(ServiceEvent.CLOSE)
        self._reports.closing()
        self._set_last_call()
        self._connections.finish()
        if self._drain.phase is Phase.TIMED_OUT:
            self._connections.lose_patience()
        # While a listener waits for handshakes, connections still come.
        self._listeners_closed.addCallback(lambda _: self._connections.when_empty())
        self._listeners_closed.addCallback(self._all_gone)

    def _deadline_moved(self, deadline: float) -> None:
        if self._ends_with_drain:
            self._set_end(deadline)

    def _set_end(self, ends_by: float | None) -> None:
        if ends_by is None or (self.ends_by is not None and ends_by >= self.ends_by):
            return
        self.ends_by = ends_by
        if self.state is ServiceState.CLOSING:
            self._set_last_call()
        for watcher in self.end_watchers:
            watcher(ends_by)

    def _set_last_call(self) -> None:
        """Set the time when connections are closed, whether their clients have taken their answers or not."""
        _cancel(self._last_call)
        left = max(0.0, (self.ends_by or 0.0) - self._drain.monotonic())
        self._last_call = self._drain.timers.callLater(left, self._time_is_up)

    def _time_is_up(self) -> None:
        self._move(ServiceEvent.TIME_IS_UP)
        self._last_call = self._drain.timers.callLater(min(self._connections.linger, MAX_GRACE), self._end_connections)
        for listener in self.listeners:
            listener.lose_patience()
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
        _cancel(self._last_call)
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


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
