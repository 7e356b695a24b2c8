"""The process around a draining service: signals, exit status, the watchdog, and the prompt end.

The first signal begins the drain. The second, at least half a second later, cuts what is left, and the third kills the
process. The exit status is 0 if nothing was cut, otherwise 1. The process ends within two seconds of its deadline,
whatever a handler or a thread does. SIGUSR2 has a new process take the place of this one.

A child that is forked has nothing of this: it is not to drain, and not to hold our ports.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from contextlib import suppress
from inspect import currentframe
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger

from twisted_node._exit import exit_promptly, prepare_teardown
from twisted_node._watchdog import Watchdog
from twisted_node.drain import Phase, Statistics
from twisted_node.errors import HandoverError, MisuseError
from twisted_node.handover._line import close_lines
from twisted_node.server import DrainingService
from twisted_node.server._listening import close_copies
from twisted_node.server._shutdown import MAX_GRACE

__all__ = ["REPLACE_SIGNAL", "SIGNALS", "own_process", "own_process_promptly"]

_log = Logger()

#: The signals that begin the drain. One that is ignored at the start (nohup does that, and so does a shell for what it
#: runs in the background) stays ignored.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: The signal that has another process take the place of this one.
REPLACE_SIGNAL = signal.SIGUSR2

#: A signal this soon after the last one counts as the same: supervisors and terminals send several at once.
_ESCALATION_SECONDS = 0.5

#: The watchdog ends the process this long after the deadline. It is half a second less than the two seconds that are
#: promised, for a busy machine.
_WATCHDOG_SECONDS = MAX_GRACE + 0.5

#: The one that owns this process, once there is one.
_owners: list[_Owner] = []


def own_process(service: DrainingService, reactor: Any) -> None:
    """End this process when the service ends, with a status that tells whether something was cut.

    Call it once, before the reactor runs, in the main thread. It takes over SIGTERM, SIGINT and SIGHUP; and SIGUSR2,
    which has a new process take the place of this one, unless the program has a handler for it. When the
    service has ended, it stops the reactor, and lets whatever runs the reactor tidy up (twistd removes its pidfile).
    Python's own teardown follows: exit hooks run, and what the program's modules hold, such as open files, is closed.

    Args:
        service: the service.
        reactor: is stopped when the service has ended.

    Raises:
        MisuseError: an argument is not what it should be; or this is not the main thread, or not the first call.
    """
    frame = currentframe()
    caller = frame.f_back if frame is not None else None
    # The globals of a .tac belong to no module.
    _own(service, reactor, caller.f_globals if caller is not None else {})


def own_process_promptly(service: DrainingService, reactor: Any) -> None:
    """Do the same for a program of which no code or object is the user's: it ends without Python's teardown.

    Args:
        service: the service.
        reactor: is stopped when the service has ended.
    """
    _own(service, reactor, None)


def _own(service: DrainingService, reactor: Any, namespace: dict[str, Any] | None) -> None:
    if not isinstance(service, DrainingService):
        raise MisuseError(f"service: expected a DrainingService, got {service!r}")
    if not IReactorCore.providedBy(reactor):
        raise MisuseError(f"reactor: expected a reactor, got {reactor!r}")
    if threading.current_thread() is not threading.main_thread():
        raise MisuseError("own_process: expected to be called in the main thread, which alone handles signals")
    if _owners:
        raise MisuseError("own_process: expected to be called once; this process ends with another service already")
    _owners.append(_Owner(service, reactor, namespace))


class _Owner:
    """Handles the signals of the process, and ends it."""

    def __init__(self, service: DrainingService, reactor: Any, namespace: dict[str, Any] | None) -> None:
        self._service = service
        self._reactor = reactor
        # The globals of the program; None if it has nothing of its own.
        self._namespace = namespace
        self._handlers_before = {number: signal.getsignal(number) for number in SIGNALS}
        self._reason = "the reactor was stopped"
        self._signals = 0
        self._last_signal = 0.0
        self._cut = False
        # Whether another process has taken the place of this one.
        self._replaced = False
        self._watchdog = Watchdog(lambda: service.drain.statistics().oldest)
        service.watch_handover(self._handed_over)
        service.watch_end(self._end_moved)
        service.when_ended().addCallback(self._ended)
        self._handle_signals()
        # Twisted installs handlers of its own when it starts.
        reactor.callWhenRunning(self._handle_signals)
        # twistd forks to become a daemon, and a thread that was started before would stay in the parent.
        reactor.callWhenRunning(self._watchdog.start)
        # The same fork: the daemon is no child that knows nothing of us.
        reactor.callWhenRunning(os.register_at_fork, after_in_child=self._disown)
        # In the next turn: what the program itself does when the reactor runs may start the service.
        reactor.callWhenRunning(reactor.callLater, 0, self._look_at_service)
        # Registered before the trigger of twistd and twist, which stops the service without a reason.
        reactor.addSystemEventTrigger("before", "shutdown", self._shut_down)
        reactor.addSystemEventTrigger("after", "shutdown", self._prepare_end)

    def _handle_signals(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signalled)
        if signal.getsignal(REPLACE_SIGNAL) is signal.SIG_DFL:
            signal.signal(REPLACE_SIGNAL, self._replace_signalled)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal.

        Python may call this between any two bytecodes, so it neither logs nor takes a lock, and leaves the rest to
        ``callFromThread``.
        """
        now = time.monotonic()
        if self._signals and now - self._last_signal < _ESCALATION_SECONDS:
            return
        self._signals += 1
        self._last_signal = now
        name = signal.Signals(number).name
        service = self._service
        # The watchdog is set here, in case the reactor is too busy to do it.
        if service.drain.phase is Phase.LAME_DUCK and (self._replaced or self._signals > 1):
            self._end_moved(service.would_end_by())
            self._reactor.callFromThread(service.end, name)
        elif self._signals == 1:
            self._end_moved(service.would_end_by(lame_duck=service.lame_duck))
            self._reactor.callFromThread(self._stop, name)
        elif not self._cut:
            self._cut = True
            self._end_moved(min(now, service.would_end_by()))
            self._reactor.callFromThread(service.cut, f"a second {name}")
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            # Still here: process 1, as in a container, is not killed by a signal that it sends to itself.
            os._exit(128 + number)

    def _replace_signalled(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal, with the same care."""
        self._reactor.callFromThread(self._replace)

    def _replace(self) -> None:
        # The log says why it was not replaced.
        self._service.replace().addErrback(lambda failure: failure.trap(HandoverError) and None)

    def _handed_over(self, _: int) -> None:
        """Have the next signal end the lame duck, as a second SIGTERM does."""
        self._replaced = True

    def _end_moved(self, ends_by: float) -> None:
        """Learn by when, on the monotonic clock, the service is to have ended; it takes no lock."""
        self._watchdog.bite_at(ends_by + _WATCHDOG_SECONDS)

    def _stop(self, reason: str) -> None:
        self._reason = reason
        with suppress(ReactorNotRunning):
            self._reactor.stop()
        # A reactor that was stopping already has called this before the signal.
        self._shut_down()

    def _shut_down(self) -> Deferred[Statistics]:
        return self._service.end(self._reason, lame_duck=self._service.lame_duck)

    def _ended(self, _: Statistics) -> None:
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _look_at_service(self) -> None:
        """Warn of what is likely to be forgotten."""
        if self._service.drain.refusing:
            return
        if signal.getsignal(REPLACE_SIGNAL) not in (self._replace_signalled, signal.SIG_IGN):
            _log.warn("SIGUSR2 is left to the program, so it does not have another process take the place of this one")
        if not self._service.running:
            _log.warn("the service has not been started: call its startService, or add it to the application")
        elif not self._service.listens:
            _log.warn("the service listens nowhere: give it an endpoint and a factory, by its listen")

    def _disown(self) -> None:
        """Be a child that was forked: it handles signals as before, and holds none of our ports."""
        for number, handler in self._handlers_before.items():
            if signal.getsignal(number) == self._signalled:
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if signal.getsignal(REPLACE_SIGNAL) == self._replace_signalled:
            signal.signal(REPLACE_SIGNAL, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        atexit.unregister(self._exit)
        close_copies()
        close_lines()

    def _prepare_end(self) -> None:
        # Twisted remembers a signal that came while the reactor was starting, and twistd would end the process by it
        # again, with the status of a killed process. There is no public way to make it forget.
        self._reactor._exitSignal = None
        # The exit hook that is registered last runs first.
        atexit.register(self._exit)

    def _exit(self) -> None:
        atexit.unregister(self._exit)
        status = self._service.exit_status
        if self._namespace is None:
            exit_promptly(status)
        else:
            now = time.monotonic()
            bites_at = (self._service.ends_by or now) + _WATCHDOG_SECONDS
            # A little later than the watchdog, which does not live as long.
            seconds = max(0.0, bites_at - now) + 0.1
            prepare_teardown(status, self._namespace, (*SIGNALS, REPLACE_SIGNAL), seconds)
