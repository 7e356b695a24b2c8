"""The process that is to take the place of this one: it is started, waited for, and told to go; or killed.

Until it is told to go nothing has changed here, and nobody kills it afterwards.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node.errors import HandoverError
from twisted_node.handover._inheritance import tell_successor
from twisted_node.handover._line import Line, close_kept, keep_until_end, open_line, read_places
from twisted_node.handover._start import Start

__all__ = ["SUCCESSOR", "Ready", "Successor", "SuccessorEvent", "SuccessorState"]

_log = Logger()

#: A successor whose line has ended is ending by itself, usually: it gets so many seconds before it is killed.
_SECONDS_TO_END = 1.0


class SuccessorState(Enum):
    """Where a successor is."""

    #: It has been started, and has not said that it is ready.
    STARTING = "starting"
    #: It does not come, or is not wanted any more; it is waited for until it has ended.
    FAILING = "failing"
    #: It is over, and we go on.
    FAILED = "failed"
    #: It is ready, and serves as soon as it hears ``go``.
    GONE = "gone"


class SuccessorEvent(Enum):
    """What moves a successor on."""

    READY = "it says that it is ready"
    FAIL = "its line has ended, its time is up, or it is not wanted"
    EXIT = "its process has ended"


SUCCESSOR = {
    SuccessorState.STARTING: {
        SuccessorEvent.READY: SuccessorState.GONE,
        SuccessorEvent.FAIL: SuccessorState.FAILING,
        # The launcher of a daemon ends when that has started.
        SuccessorEvent.EXIT: SuccessorState.STARTING,
    },
    SuccessorState.FAILING: {SuccessorEvent.EXIT: SuccessorState.FAILED},
    SuccessorState.FAILED: {},
    SuccessorState.GONE: {SuccessorEvent.EXIT: SuccessorState.GONE},
}


@dataclass(frozen=True)
class Ready:
    """What a successor says when it is ready.

    Args:
        pid: its process.
        version: of this package, there.
        places: of the sockets that it listens with, among those that it was handed.
    """

    pid: int
    version: str
    places: frozenset[int]


class Successor:
    """One process that is to take our place.

    Args:
        reactor: starts it.
        timers: for the wait.
        patience: how many seconds it may take to be ready.
        stopped: is called when it is stopped itself, with the seconds that its own end takes at most.
    """

    def __init__(
        self, reactor: Any, timers: IReactorTime, *, patience: float, stopped: Callable[[float], object]
    ) -> None:
        self.state = SuccessorState.STARTING
        #: Its process: the one that we have started, or the one that it names when it is ready.
        self.pid = 0
        self._reactor = reactor
        self._timers = timers
        self._patience = patience
        self._stopped = stopped
        self._ready: Deferred[Ready] = Deferred()
        self._timer: IDelayedCall | None = None
        self._why = ""
        self._process: Any = None
        # How the process that we started has ended.
        self._exited: str | None = None
        # Our end of the line.
        self._ours = -1
        self._line = Line({"ready": self._said_ready, "failed": self._said_failed, "stop": self._said_stop}, self._lost)

    def start(self, start: Start, sockets: Sequence[tuple[str, int]], adopted: Mapping[int, int]) -> Deferred[Ready]:
        """Start it.

        Args:
            start: how this process was started.
            sockets: for each that it is handed, the address that was asked for and our descriptor.
            adopted: for each that somebody else has opened, its number, which stays, and our descriptor.

        Returns:
            Fires when it is ready; fails with ``HandoverError``, once it has ended.
        """
        with ExitStack() as ours:
            try:
                self._process = self._spawn(start, sockets, adopted, ours)
            except OSError as error:
                self._exited = "was not started"
                self._fail(f"it cannot be started: {error}")
                return self._ready
        self.pid = self._process.pid
        self._timer = self._timers.callLater(self._patience, self._time_is_up)
        return self._ready

    def _spawn(
        self, start: Start, sockets: Sequence[tuple[str, int]], adopted: Mapping[int, int], ours: ExitStack
    ) -> Any:
        """Start it; what is to be closed here afterwards goes to ``ours``."""
        our_end, theirs = socket.socketpair()
        ours.callback(theirs.close)
        self._ours = our_end.detach()
        keep_until_end(self._ours)
        open_line(self._reactor, self._ours, self._line)
        # In the child that is forked, our own descriptors are closed before the program is run: it gets copies.
        descriptors = {number: number for number in range(3) if _is_open(number)}
        for number, descriptor in adopted.items():
            descriptors[number] = _copy(descriptor, ours)
        first = max(descriptors, default=2) + 1
        told = []
        for number, (asked, descriptor) in enumerate(sockets, first):
            descriptors[number] = _copy(descriptor, ours)
            told.append((asked, number))
        line = first + len(sockets)
        descriptors[line] = _copy(theirs.fileno(), ours)
        arguments, environment = start.again()
        environment.update(tell_successor(line, os.fstat(theirs.fileno()).st_ino, told))
        return self._reactor.spawnProcess(
            _Process(self._process_exited),
            arguments[0],
            arguments,
            environment,
            os.fsencode(start.folder),
            childFDs=descriptors,
        )

    def go(self) -> None:
        """Let it accept connections, now that it is ready."""
        self._line.say("go")

    def tell_end(self, status: int) -> None:
        """Tell it with which status this process ends."""
        if self.state is SuccessorState.GONE:
            self._line.say("ended", status)

    def abandon(self, why: str) -> None:
        """Kill it, unless it serves.

        Args:
            why: for the log, and for whoever waits for it.
        """
        if self.state is SuccessorState.STARTING:
            self._stop_timer()
            self._kill()
            self._fail(why)

    # What it says.

    def _said_ready(self, text: str) -> None:
        pid, version, places = text.split()
        ready = Ready(int(pid), version, read_places(places))
        if self.state is SuccessorState.STARTING:
            self._move(SuccessorEvent.READY)
            self._stop_timer()
            self.pid = ready.pid
            self._ready.callback(ready)

    def _said_failed(self, text: str) -> None:
        self._why = text

    def _said_stop(self, text: str) -> None:
        seconds = float(text)
        if self.state is SuccessorState.GONE:
            self._stopped(seconds)

    # What becomes of it.

    def _lost(self) -> None:
        if self.state is SuccessorState.STARTING:
            self._stop_timer()
            self._timer = self._timers.callLater(_SECONDS_TO_END, self._kill)
            self._fail(self._why)

    def _time_is_up(self) -> None:
        self.abandon(f"it was not ready after {self._patience:g} s, and was killed")

    def _process_exited(self, how: str) -> None:
        self._exited = how
        before = self.state
        self._move(SuccessorEvent.EXIT)
        if before is SuccessorState.FAILING:
            self._finish()

    def _fail(self, why: str) -> None:
        self._move(SuccessorEvent.FAIL)
        self._why = why
        self._line.end()
        if self._exited is not None:
            self._process_exited(self._exited)

    def _kill(self) -> None:
        with suppress(ProcessExitedAlready):
            self._process.signalProcess("KILL")

    def _finish(self) -> None:
        self._stop_timer()
        if self._ours >= 0:
            close_kept(self._ours)
        why = self._why or f"it {self._exited} before it was ready; what it has logged says why"
        named = f"process {self.pid}: " if self.pid else ""
        self._ready.errback(HandoverError(f"{named}{why}"))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _move(self, event: SuccessorEvent) -> None:
        self.state = SUCCESSOR[self.state][event]


class _Process(ProcessProtocol):
    """Tells how a process has ended."""

    def __init__(self, exited: Callable[[str], object]) -> None:
        self._tell = exited

    def processExited(self, reason: Failure) -> None:
        signal_number = getattr(reason.value, "signal", None)
        if signal_number is not None:
            self._tell(f"was ended by {signal.Signals(signal_number).name}")
        else:
            self._tell(f"ended with status {getattr(reason.value, 'exitCode', 0) or 0}")


def _copy(descriptor: int, closed_with: ExitStack) -> int:
    copy = os.dup(descriptor)
    closed_with.callback(os.close, copy)
    return copy


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
