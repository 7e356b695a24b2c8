"""The handover: another process takes the place of this one, and no client notices.

The listening sockets are handed on, so that nothing is ever closed. ``twisted_node.handover`` has the parts; here is
what a service does with them, on either side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IReactorProcess, IReactorSocket
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.errors import ErrorCode, HandoverError
from twisted_node.handover import _inheritance
from twisted_node.handover._predecessor import Predecessor, PredecessorState
from twisted_node.handover._start import START
from twisted_node.handover._successor import Ready, Successor, SuccessorState
from twisted_node.handover._supervisors import why_not_replaceable
from twisted_node.handover._twistd import append_to_log
from twisted_node.names import peer_name
from twisted_node.server._listening import Listener, open_listeners
from twisted_node.server._shutdown import Shutdown

__all__ = ["PATIENCE", "SHORTEST_LAME_DUCK", "Handover"]

_log = Logger()

#: Seconds that a successor may take to be ready.
PATIENCE = 60.0

#: What a successor is in until it serves, or has failed.
_UNDER_WAY = (SuccessorState.STARTING, SuccessorState.FAILING)

#: Seconds that clients have at least, after a handover, to come to the successor by themselves.
SHORTEST_LAME_DUCK = 1.0


class Handover:
    """The handover of one service, to a successor or from a predecessor.

    Args:
        drain: the work in flight.
        shutdown: ends the service.
        lame_duck: tells how many seconds a lame duck takes.
    """

    def __init__(self, drain: Drain, shutdown: Shutdown, lame_duck: Callable[[], float]) -> None:
        #: Called with the pid of the successor, right before it is told to go.
        self.watchers: list[Callable[[int], object]] = []
        self._tells_systemd = False
        self._drain = drain
        self._shutdown = shutdown
        self._lame_duck = lame_duck
        self._inheritance = _inheritance.inherited
        self._successor: Successor | None = None
        # The status of a predecessor that we had to wait for.
        self._outlived = 0
        drain.when_draining().addCallback(lambda _: self.abandon(drain.reason))
        shutdown.when_ended().addCallback(self._ended)

    @property
    def status(self) -> int:
        """With which status the process is to end: 0 if nothing was cut, here and in a predecessor that it outlived."""
        return 1 if self._drain.counts.cut or self._outlived else 0

    def when_accepting(self) -> Deferred[None]:
        """Wait until connections are accepted."""
        return self._inheritance.when_our_turn()

    # To a successor.

    def watch(self, watcher: Callable[[int], object], *, tells_systemd: bool) -> None:
        """Have a function told of a handover, as ``DrainingService.watch_handover`` explains."""
        self.watchers.append(watcher)
        self._tells_systemd |= tells_systemd

    def replace(self, patience: float) -> Deferred[int]:
        """Have another process take the place of this one, as ``DrainingService.replace`` explains."""
        if (refusal := self._refusal()) is not None:
            return fail(refusal).addErrback(_not_replaced)
        append_to_log()
        listeners = open_listeners()
        handed = [listener for listener in listeners if listener.asked is not None]
        self._successor = successor = Successor(
            self._drain.clock, self._drain.timers, patience=patience, stopped=self._successor_stopped
        )
        starting = maybeDeferred(
            successor.start,
            START,
            [(str(listener.asked), listener.fileno()) for listener in handed],
            _adopted(listeners),
        )
        if successor.pid:
            _log.info("process {pid} is to take the place of this one", pid=successor.pid)
        return starting.addCallbacks(self._ready, _not_replaced, callbackArgs=(successor, handed))

    def abandon(self, why: str) -> None:
        """Kill a successor that does not serve yet.

        Args:
            why: for the log.
        """
        if self._successor is not None:
            self._successor.abandon(f"this process is to end: {why}")

    def _refusal(self) -> HandoverError | None:
        if (why := self._why_not_now()) is not None:
            return HandoverError(why, ErrorCode.TEMPORARILY_UNAVAILABLE)
        reactor = self._drain.clock
        if not (IReactorProcess.providedBy(reactor) and IReactorSocket.providedBy(reactor)):
            why = f"its reactor cannot start a process and hand it sockets: {reactor}"
            return HandoverError(why, ErrorCode.PRECONDITION_FAILED)
        if any(listener.fileno() < 0 for listener in open_listeners()):
            why = "standard input cannot be handed on; stop this process and start the new one instead"
            return HandoverError(why, ErrorCode.NOT_SUPPORTED)
        why = _unknown_socket() or why_not_replaceable(START, tells_systemd=self._tells_systemd)
        return None if why is None else HandoverError(why, ErrorCode.PRECONDITION_FAILED)

    def _why_not_now(self) -> str | None:
        if self._drain.phase is not Phase.SERVING:
            return "it is ending already"
        if self._inheritance.waits:
            return "it does not serve yet"
        if self._successor is not None and self._successor.state in _UNDER_WAY:
            return f"process {self._successor.pid} is to take its place already"
        return None

    def _ready(self, ready: Ready, successor: Successor, handed: list[Listener]) -> int:
        # Whoever tells systemd which process is the main one has to do so before that says anything itself.
        for watcher in self.watchers:
            watcher(ready.pid)
        successor.go()
        _log.info("process {pid} (version {version}) serves now", pid=ready.pid, version=ready.version)
        for place, listener in enumerate(handed):
            if place not in ready.places:
                host = peer_name(listener.host)
                _log.warn("{host} is closed: process {pid} does not listen there", host=host, pid=ready.pid)
                listener.close()
        for listener in open_listeners():
            listener.leave_to_successor()
        lame_duck = max(self._lame_duck(), SHORTEST_LAME_DUCK)
        self._shutdown.end(f"process {ready.pid} has taken over", lame_duck=lame_duck, replaced=True)
        return ready.pid

    def _successor_stopped(self, seconds: float) -> None:
        reason = "its successor is to end"
        self._shutdown.end(reason)
        self._drain.begin(seconds, reason)

    def _ended(self, _: Statistics) -> None:
        if self._successor is not None:
            self._successor.tell_end(self.status)

    # From a predecessor.

    def started(self) -> None:
        """Speak to the predecessor, if there is one: all that this service listens on has been asked for."""
        line = self._inheritance.claim_line()
        if line is None:
            return
        append_to_log()
        predecessor = Predecessor(
            self._inheritance,
            line,
            self._drain.clock,
            give_up=self._give_up,
            may_be_ready=lambda: self._drain.phase is Phase.SERVING,
        )
        self._inheritance.when_our_turn().addCallback(self._take_over, predecessor)

    def need(self, deferred: Deferred[Any]) -> None:
        """Be ready only when a Deferred has fired."""
        self._inheritance.need(deferred)

    def _give_up(self, why: str) -> None:
        _log.warn("not taking over: {why}", why=why)
        self._outlived = 1
        self._shutdown.end(why)

    def _take_over(self, _: None, predecessor: Predecessor) -> None:
        self._shutdown.end_deadline.watch(lambda ends_by: self._end_sooner(predecessor, ends_by))
        self._shutdown.stop_after_drain.append(lambda: self._outlive(predecessor))

    def _end_sooner(self, predecessor: Predecessor, ends_by: float) -> None:
        """Have the predecessor end with us, if we are stopped. If we are only replaced, it has its own time."""
        replaced = self._successor is not None and self._successor.state is SuccessorState.GONE
        if not replaced or self._drain.phase is not Phase.LAME_DUCK:
            predecessor.tell_stop(ends_by - self._drain.monotonic())

    def _outlive(self, predecessor: Predecessor) -> Deferred[None] | None:
        """End after the predecessor, with the worse status of both."""
        if predecessor.state is PredecessorState.GONE:
            return None
        return predecessor.when_gone().addCallback(self._outlived_it, predecessor)

    def _outlived_it(self, _: None, predecessor: Predecessor) -> None:
        self._outlived = predecessor.status


def _unknown_socket() -> str | None:
    """Say which of our endpoints a successor could not listen with; None if it can with all."""
    for listener in open_listeners():
        if listener.asked is None and listener.descriptor is None:
            return f"an endpoint does not ask the reactor to listen, so its socket is not known: {listener.endpoint}"
    return None


def _not_replaced(failure: Failure) -> Failure:
    _log.warn("not replaced: {why}", why=str(failure.value))
    failure.trap(HandoverError)
    return failure


def _adopted(listeners: list[Listener]) -> dict[int, int]:
    """Find the sockets that somebody else has opened: for each number that they came with, our descriptor."""
    adopted = {descriptor: descriptor for descriptor in START.systemd_descriptors}
    for listener in listeners:
        if listener.descriptor is not None:
            adopted[listener.descriptor] = listener.fileno()
    return adopted
