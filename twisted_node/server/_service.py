"""``DrainingService``: what listens, and drains when it is stopped. ``_shutdown`` has the order in which that goes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_node._seconds import check_seconds
from twisted_node._typing import AnyEndpoint, AnyFactory
from twisted_node.drain import Drain, Statistics
from twisted_node.server._any_factory import tracked
from twisted_node.server._checks import binds_tcp, check_drain, check_endpoint_and_factory
from twisted_node.server._connections import Connections
from twisted_node.server._handover import PATIENCE, Handover
from twisted_node.server._listening import Listener
from twisted_node.server._shutdown import Shutdown
from twisted_node.server._states import ServiceState

__all__ = ["DrainingService"]

_log = Logger()


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
        random_number: draws numbers from 0 to 1, less than 1: which clients a lame duck sends away, and when.

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
        random_number: Callable[[], float] = random.random,
    ) -> None:
        check_seconds("drain_timeout", drain_timeout)
        check_seconds("lame_duck", lame_duck)
        check_seconds("linger", linger)
        check_drain(drain)
        #: The work in flight.
        self.drain = drain
        #: The reactor, or what takes its place in a test.
        self.clock = drain.clock
        #: Seconds that readiness fails before a stop's drain begins; what is set counts for the next stop.
        self.lame_duck = lame_duck
        #: Those that are open; its ``len`` is how many.
        self.connections = Connections(drain.timers, linger)
        # On the drain's monotonic clock, in seconds.
        self._started_at: float | None = None
        self._shutdown = Shutdown(
            drain,
            self.connections,
            drain_timeout=drain_timeout,
            ends_with_drain=ends_with_drain,
            random_number=random_number,
        )
        self._handover = Handover(drain, self._shutdown, lambda: self.lame_duck)

    @property
    def drain_timeout(self) -> float:
        """Seconds from the beginning of a drain until what is left is cut; what is set counts for the next drain."""
        return self._shutdown.drain_timeout

    @drain_timeout.setter
    def drain_timeout(self, seconds: float) -> None:
        check_seconds("drain_timeout", seconds)
        self._shutdown.drain_timeout = seconds

    @property
    def state(self) -> ServiceState:
        """Where the service is."""
        return self._shutdown.state

    @property
    def uptime(self) -> float | None:
        """Seconds since the service began to serve, on the drain's monotonic clock; None before it has started."""
        return None if self._started_at is None else self.drain.monotonic() - self._started_at

    @property
    def ends_by(self) -> float | None:
        """By when it is over, but for a grace of at most a second; on the drain's monotonic clock, in seconds.

        None until the end is asked for. From then on, in a lame duck too, it may come nearer, and never goes away.
        """
        return self._shutdown.end_deadline.at

    @property
    def exit_status(self) -> int:
        """With which status the process is to end: 0 if nothing was cut, 1 otherwise.

        It counts what was cut in a predecessor, too, if that had not ended when this service was stopped.
        """
        return self._handover.status

    def would_end_by(self, *, lame_duck: float = 0.0) -> float:
        """Say what :attr:`ends_by` is if the end is asked for now.

        It changes nothing and takes no lock, so that a signal handler may ask.

        Args:
            lame_duck: as for :meth:`end`, in seconds.
        """
        return self._shutdown.would_end_by(lame_duck)

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
        check_endpoint_and_factory(endpoint, factory)
        factory = tracked(factory, self.connections, self.drain)
        listener = Listener(endpoint, factory, self.drain.timers, self.connections.linger)
        if self.drain.refusing:
            _log.warn("not listening on {endpoint}: the drain has begun", endpoint=endpoint)
        elif self.running:
            listener.open()
        self._shutdown.listeners.append(listener)
        return listener

    @property
    def listens(self) -> bool:
        """Whether the service has been told to listen anywhere."""
        return bool(self._shutdown.listeners)

    def stop_after_drain(self, stop: Callable[[], object]) -> None:
        """Have something stopped that the requests need until the drain has ended.

        Args:
            stop: called after the last connection has gone; what it returns, perhaps a Deferred, is waited for. Several
                are called one after the other, the last one given first.
        """
        self._shutdown.stop_after_drain.append(stop)

    def privilegedStartService(self) -> None:
        """Listen on the TCP ports: ``twistd`` calls this before it gives up the privilege to bind those below 1024.

        Raises:
            CannotListenError: a port cannot be bound; those bound before are closed again.
        """
        super().privilegedStartService()
        self._open([listener for listener in self._shutdown.listeners if binds_tcp(listener.endpoint)])

    def startService(self) -> None:
        """Listen wherever the service does not listen yet.

        Raises:
            CannotListenError: a port cannot be bound; those bound before are closed again.
        """
        if self.drain.refusing:
            return
        super().startService()
        self._open(self._shutdown.listeners)
        if self._started_at is None:
            self._started_at = self.drain.monotonic()
        self._handover.started()

    def _open(self, listeners: Iterable[Listener]) -> None:
        try:
            for listener in listeners:
                listener.open()
        except BaseException:
            self._shutdown.close_listeners()
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
            lame_duck: seconds to go on serving before the drain begins. Meanwhile clients are sent away, each at an
                answer, with a chance that grows from 0 to 1.

        Returns:
            Fires with the final statistics when the last connection has gone and all that was to be stopped after the
            drain has stopped.
        """
        self._handover.abandon(reason)
        return self._shutdown.end(reason, lame_duck=lame_duck)

    def cut(self, reason: str) -> None:
        """Wait no longer: cut what is in flight, and leave the connections only the grace to get their answers out.

        Args:
            reason: for the log.
        """
        self._shutdown.cut(reason)

    def when_ended(self) -> Deferred[Statistics]:
        """Wait for the end; fires with the final statistics, at once if it has come."""
        return self._shutdown.when_ended()

    def watch_end(self, watcher: Callable[[float], object]) -> None:
        """Have a function told by when it is over.

        Args:
            watcher: called with :attr:`ends_by` when the end is asked for, and whenever it is brought nearer.
        """
        self._shutdown.end_deadline.watch(watcher)

    # The handover to another process.

    def replace(self, *, patience: float = PATIENCE) -> Deferred[int]:
        """Have another process take the place of this one, without a client noticing: a restart.

        The command that this process was started with is started again, with the same folder and environment, and is
        handed the listening sockets. When it is ready, it serves, and this service ends, as a lame duck of at least a
        second first. Until then, nothing changes here, whatever becomes of the other process.

        Args:
            patience: how many seconds the other process may take to be ready.

        Returns:
            Fires with the pid of the process that serves now; fails with ``HandoverError`` if none has taken over, once
            that has ended. The log has said so in either case.

        Raises:
            MisuseError: ``patience`` is no number of seconds from 0.
        """
        check_seconds("patience", patience)
        return self._handover.replace(patience)

    def ready_after(self, deferred: Deferred[Any]) -> None:
        """Take the place of a predecessor only after something has happened; call it before the reactor runs.

        Args:
            deferred: fires when it has. If it fails, this service ends, and the predecessor goes on. Its result is
                left as it is.
        """
        self._handover.need(deferred)

    def when_accepting(self) -> Deferred[None]:
        """Wait until connections may be accepted: at once, unless a predecessor serves still."""
        return self._handover.when_accepting()

    def watch_handover(self, watcher: Callable[[int], object], *, tells_systemd: bool = False) -> None:
        """Have a function told of a handover.

        Args:
            watcher: called with the pid of the process that takes over, right before that serves.
            tells_systemd: whether it tells systemd which process is the main one; under ``Type=notify`` there is no
                handover without one that does.
        """
        self._handover.watch(watcher, tells_systemd=tells_systemd)
