"""The order of a shutdown.

The drain begins; in the same turn every listener closes, after accepting whoever waited in its queue; what is in flight
ends or is cut; every connection is flushed, half-closed and read until its client closes; then what the requests needed
is stopped. Nothing polls. Only the host decides what follows: nothing here stops a reactor or ends a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_node._seconds import check_seconds
from twisted_node._typing import AnyEndpoint, AnyFactory
from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.drain._waiters import Waiters
from twisted_node.server._checks import binds_tcp, check_drain, check_endpoint, check_factory, warn_of_plain_site
from twisted_node.server._connections import Connections
from twisted_node.server._listening import Listener
from twisted_node.server._reports import Reports
from twisted_node.server._states import SERVICE, ServiceEvent, ServiceState
from twisted_node.server._tracking import tracked

__all__ = ["MAX_GRACE", "DrainingService"]

_log = Logger()

#: At the deadline a connection has at most so many seconds more, whatever its linger.
MAX_GRACE = 1.0


class DrainingService(Service):
    """Listens, and drains when it is stopped.

    Give it endpoints and factories, and add it to an application or start it by hand. Its ``stopService`` returns a
    Deferred that fires when the last connection is gone, by the deadline and its grace at the latest.

    Resource handling: it closes its ports and connections. What the requests need until then (a database pool, a
    client) goes to :meth:`stop_after_drain`; a sibling service would be stopped at the same moment as this one.

    Error handling: a port that cannot be bound makes ``startService`` raise what the endpoint says, with nothing
    listening. A listener that does not close properly is logged.

    Args:
        drain: the work in flight, and the clock of all that is here.
        drain_timeout: seconds from the beginning of a drain until what is left is cut.
        lame_duck: seconds that readiness fails before a stop's drain begins.
        linger: seconds that a closing connection waits for its client.
        ends_with_drain: whether a drain that somebody else began (a message, say) ends the service too; otherwise it
            goes on refusing until :meth:`end` or ``stopService``.

    Raises:
        MisuseError: one of the times is no number of seconds from 0; or the drain is none, or another service's.
    """

    def __init__(
        self,
        drain: Drain,
        *,
        drain_timeout: float = 25.0,
        lame_duck: float = 0.0,
        linger: float = 1.0,
        ends_with_drain: bool = True,
    ) -> None:
        check_seconds("drain_timeout", drain_timeout)
        check_seconds("lame_duck", lame_duck)
        check_seconds("linger", linger)
        check_drain(drain)
        self.drain = drain
        self.clock = drain.clock
        self.drain_timeout = drain_timeout
        self.lame_duck = lame_duck
        self.connections = Connections(drain.clock, linger)
        #: By when it is over, but for a short grace, on the drain's monotonic clock; None until the end was asked for.
        self.ends_by: float | None = None
        self._ends_with_drain = ends_with_drain
        self._grace = min(linger, MAX_GRACE)
        self._listeners: list[Listener] = []
        self._listeners_closed: Deferred[Any] = succeed(None)
        self._stop_after_drain: list[Callable[[], object]] = []
        self._end_watchers: list[Callable[[float], object]] = []
        #: Where the service is; only the service itself moves it.
        self.state = ServiceState.SERVING
        self._last_call: IDelayedCall | None = None
        self._waiters: Waiters[Statistics] = Waiters()
        self._reports = Reports(drain, self.connections, lambda: self.ends_by)
        drain.watch_deadline(self._deadline_moved)
        drain.when_draining().addCallback(self._drain_began)

    def listen(self, endpoint: AnyEndpoint, factory: AnyFactory) -> Listener:
        """Have the service listen, from its start to its drain; at once if it has started.

        Args:
            endpoint: where; any Twisted server endpoint.
            factory: makes the protocols. Any will do; those that are ``IDrainable`` drain by request.

        Returns:
            The listener, which knows its address once the service has started.

        Raises:
            MisuseError: an argument is not what it should be; or the factory works with another drain.
            CannotListenError: the service has started, and the port cannot be bound.
        """
        check_endpoint(endpoint)
        check_factory(factory)
        ours = tracked(factory, self.connections, self.drain)
        if ours is not factory:
            warn_of_plain_site(factory)
        listener = Listener(endpoint, ours)
        if self.drain.refusing:
            _log.warn("not listening on {endpoint}: the drain has begun", endpoint=endpoint)
        elif self.running:
            listener.open()
        self._listeners.append(listener)
        return listener

    @property
    def listens(self) -> bool:
        """Whether the service has been told to listen anywhere."""
        return bool(self._listeners)

    def stop_after_drain(self, stop: Callable[[], object]) -> None:
        """Have something stopped that the requests need until the drain has ended.

        Args:
            stop: called after the last connection has gone; what it returns, perhaps a Deferred, is waited for. Several
                are called one after the other, the last one given first.
        """
        self._stop_after_drain.append(stop)

    def privilegedStartService(self) -> None:
        """Listen on the TCP ports: ``twistd`` calls this before it gives up the privilege to bind those below 1024.

        Raises:
            CannotListenError: a port cannot be bound; those bound before are closed again.
        """
        super().privilegedStartService()
        self._open([listener for listener in self._listeners if binds_tcp(listener.endpoint)])

    def startService(self) -> None:
        """Listen wherever the service does not listen yet.

        Raises:
            CannotListenError: a port cannot be bound; those bound before are closed again.
        """
        if self.drain.refusing:
            return
        super().startService()
        self._open(self._listeners)

    def _open(self, listeners: Iterable[Listener]) -> None:
        try:
            for listener in listeners:
                listener.open()
        except BaseException:
            self._close_listeners()
            raise

    def stopService(self) -> Deferred[Statistics]:
        """Drain and end.

        Returns:
            As :meth:`end`.
        """
        super().stopService()
        return self.end("the service was stopped", lame_duck=self.lame_duck)

    def end(self, reason: str, *, lame_duck: float = 0.0) -> Deferred[Statistics]:
        """Drain and end: no connection is kept beyond the drain any more. Further calls join.

        Args:
            reason: for the log.
            lame_duck: seconds to go on serving before the drain begins.

        Returns:
            Fires with the final statistics when the last connection has gone and all that was to be stopped after the
            drain has stopped.
        """
        self._ends_with_drain = True
        self.connections.release()
        if self.drain.ended:
            self._set_end(self.drain.monotonic() + self.drain_timeout)
            if self.state is ServiceState.GOING_ON:
                self._close_connections()
        elif self.drain.refusing:
            self._set_end(self.drain.deadline)
            self.drain.begin(self.drain_timeout, reason)
        elif lame_duck:
            if self.state is ServiceState.SERVING:
                self._reports.lame_duck(lame_duck, reason)
            self._move(ServiceEvent.LAME_DUCK)
            self.drain.lame_duck(lame_duck, self.drain_timeout, reason)
        else:
            self.drain.begin(self.drain_timeout, reason)
        return self.when_ended()

    def cut(self, reason: str) -> None:
        """Wait no longer: cut what is in flight, and leave the connections only the grace to get their answers out."""
        self.end(reason)
        self.drain.begin(0, reason)
        self._set_end(self.drain.monotonic())

    def when_ended(self) -> Deferred[Statistics]:
        """Wait for the end; fires with the final statistics, at once if it has come."""
        return succeed(self.drain.statistics()) if self.state is ServiceState.ENDED else self._waiters.add()

    def watch_end(self, watcher: Callable[[float], object]) -> None:
        """Have a function told by when it is over.

        Args:
            watcher: called with the time on the drain's monotonic clock, in seconds, when the end is asked for and
                whenever it is brought nearer. Connections have a grace of at most MAX_GRACE seconds more.
        """
        self._end_watchers.append(watcher)

    # The order, step by step.

    def _move(self, event: ServiceEvent) -> None:
        self.state = SERVICE[self.state][event]

    def _drain_began(self, _: None) -> None:
        self._move(ServiceEvent.DRAIN)
        self.connections.begin_drain()
        before = len(self.connections)
        self._close_listeners()
        self._reports.draining(len(self.connections) - before)
        self.drain.when_drained().addCallback(self._drained)

    def _close_listeners(self) -> None:
        self._listeners_closed = DeferredList([listener.close() for listener in self._listeners])

    def _drained(self, statistics: Statistics) -> None:
        self._reports.drained(statistics)
        if self._ends_with_drain:
            self._close_connections()
        else:
            self._move(ServiceEvent.GO_ON)
            self._reports.going_on(statistics)

    def _close_connections(self) -> None:
        self._move(ServiceEvent.CLOSE)
        self._reports.closing()
        self._set_last_call()
        self.connections.finish()
        if self.drain.phase is Phase.TIMED_OUT:
            self.connections.lose_patience()
        self.connections.when_empty().addCallback(self._all_gone)

    def _deadline_moved(self, deadline: float) -> None:
        if self._ends_with_drain:
            self._set_end(deadline)

    def _set_end(self, ends_by: float | None) -> None:
        if ends_by is None or (self.ends_by is not None and ends_by >= self.ends_by):
            return
        self.ends_by = ends_by
        if self.state is ServiceState.CLOSING:
            self._set_last_call()
        for watcher in self._end_watchers:
            watcher(ends_by)

    def _set_last_call(self) -> None:
        """Set the time when connections are closed, whether their clients have taken their answers or not."""
        _cancel(self._last_call)
        left = max(0.0, (self.ends_by or 0.0) - self.drain.monotonic())
        self._last_call = self.clock.callLater(left, self._time_is_up)

    def _time_is_up(self) -> None:
        self._move(ServiceEvent.TIME_IS_UP)
        self._last_call = self.clock.callLater(self._grace, self._end_connections)
        # Work taken after the drain had ended, by handlers that serve while draining, is cut here.
        self.drain.cut_in_flight()

    def _end_connections(self) -> None:
        # Also what a connection that was kept open has asked for since: it gets its answer before it is closed.
        self.drain.cut_in_flight()
        # Counted before any of them closes: with the last one, all is over.
        if lost := self.connections.count_unsent():
            self.drain.count_cut(lost)
            self._reports.lost(lost)
        self.connections.end()

    def _all_gone(self, _: None) -> None:
        self._move(ServiceEvent.EMPTY)
        _cancel(self._last_call)
        self._listeners_closed.addCallback(self._stop_the_rest)

    def _stop_the_rest(self, _: object) -> Any:
        if not self._stop_after_drain:
            self._end()
            return None
        stopping: Deferred[Any] = maybeDeferred(self._stop_after_drain.pop())
        stopping.addErrback(lambda failure: _log.failure("while stopping what the requests needed", failure))
        return stopping.addCallback(self._stop_the_rest)

    def _end(self) -> None:
        self._move(ServiceEvent.STOPPED)
        # What the factories hold, such as open files, is let go of.
        self._listeners.clear()
        statistics = self.drain.statistics()
        self._reports.ended(statistics)
        self._waiters.fire(statistics)


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
