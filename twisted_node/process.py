"""The process around a draining service: signals, exit status, the watchdog, and the prompt end.

A first signal drains; one half a second or more later cuts what is left; a third kills. The exit status is 0 if and
only if nothing was cut. The process has ended within two seconds of its deadline, whatever a handler or a thread does.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning

from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.names import name_oldest
from twisted_node.server._service import MAX_GRACE, DrainingService

__all__ = ["SIGNALS", "own_process"]

#: The signals that drain. One that was ignored at the start (by nohup, or by a shell's background) stays so.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: A signal within so many seconds of the last one counts as the same: supervisors and terminals send several at once.
_ESCALATION_SECONDS = 0.5

#: The watchdog ends the process so long after the service should have ended. Half a second of the 2 s is left to a busy
#: machine.
_WATCHDOG_SECONDS = MAX_GRACE + 0.5


def own_process(service: DrainingService, reactor: Any) -> None:
    """Make this process end as the service ends: well, promptly, and with a status that tells.

    Call it once, before the reactor runs, in the main thread. It takes over SIGTERM, SIGINT and SIGHUP, stops the
    reactor when the service has ended, and ends the process without Python's own teardown (50 to 100 ms), once whatever
    runs the reactor has tidied up.

    Args:
        service: decides when it is over.
        reactor: to be stopped then.
    """
    _Owner(service, reactor)


class _Owner:
    """What holds the process, from its first signal to its last."""

    def __init__(self, service: DrainingService, reactor: Any) -> None:
        self._service = service
        self._reactor = reactor
        self._reason = "the reactor was stopped"
        self._signals = 0
        self._last_signal = 0.0
        self._cut = False
        self._watchdog = _Watchdog(service.drain)
        service.watch_end(self._watchdog.end_moved)
        service.when_ended().addCallback(self._ended)
        self._handle_signals()
        # Twisted installs handlers of its own when it starts.
        reactor.callWhenRunning(self._handle_signals)
        # Not before: a daemon forks, and no thread comes with it.
        reactor.callWhenRunning(self._watchdog.start)
        # This one comes before that of twistd and twist, so that the service hears the reason.
        reactor.addSystemEventTrigger("before", "shutdown", self._shut_down)
        reactor.addSystemEventTrigger("after", "shutdown", self._end_promptly)

    def _handle_signals(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signalled)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal. This runs between any two bytecodes: no log, no lock, and for the rest ``callFromThread``."""
        now = time.monotonic()
        if self._signals and now - self._last_signal < _ESCALATION_SECONDS:
            return
        self._signals += 1
        self._last_signal = now
        name = signal.Signals(number).name
        service = self._service
        if self._signals == 1:
            self._end_within(service.lame_duck + service.drain_timeout)
            self._reactor.callFromThread(self._stop, name)
        elif service.drain.phase is Phase.LAME_DUCK:
            self._end_within(service.drain_timeout)
            self._reactor.callFromThread(service.end, name)
        elif not self._cut:
            self._cut = True
            self._watchdog.end_moved(min(now, service.ends_by or now))
            self._reactor.callFromThread(service.cut, f"a second {name}")
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            # The kernel spares process 1 from its own signals.
            os._exit(128 + number)

    def _end_within(self, seconds: float) -> None:
        """Have it end even if the reactor is too busy to hear of it; if it does, the service says better."""
        if self._service.ends_by is None:
            self._watchdog.end_moved(time.monotonic() + seconds)

    def _stop(self, reason: str) -> None:
        self._reason = reason
        with suppress(ReactorNotRunning):
            self._reactor.stop()
        # A reactor that was stopping before the signal has called us already.
        self._shut_down()

    def _shut_down(self) -> Deferred[Statistics]:
        return self._service.end(self._reason, lame_duck=self._service.lame_duck)

    def _ended(self, _: Statistics) -> None:
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _end_promptly(self) -> None:
        # A signal that Twisted caught while it started would be raised again by twistd.
        self._reactor._exitSignal = None
        # Registered last, it runs first.
        atexit.register(_exit, 1 if self._service.drain.counts.cut else 0)


def _exit(status: int) -> None:
    """End the process without Python's teardown; other exit hooks run as always."""
    with ExitStack() as last:
        last.callback(os._exit, status)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            last.callback(stream.flush)
        atexit.unregister(_exit)
        atexit._run_exitfuncs()


#: Seconds; a lock cannot wait for just any number of them.
_LONGEST_WAIT = 86_400.0


class _Watchdog:
    """Ends the process if it has not ended by itself: a thread, for the reactor may be what is stuck."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        # Its put() may interrupt itself, which no lock would survive.
        self._ends: SimpleQueue[float] = SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def end_moved(self, ends_by: float) -> None:
        """Learn by when the service has ended, on the monotonic clock; the last word counts."""
        self._ends.put(ends_by)

    def _watch(self) -> None:
        bites_at = self._ends.get() + _WATCHDOG_SECONDS
        while (left := bites_at - time.monotonic()) > 0:
            with suppress(Empty):
                bites_at = self._ends.get(timeout=min(left, _LONGEST_WAIT)) + _WATCHDOG_SECONDS
        threads = ", ".join(t.name for t in threading.enumerate() if t is not self._thread)
        with suppress(Exception):
            oldest = name_oldest(self._drain.statistics().oldest)
            last_words = f"not ended in time; in flight: {oldest or 'nothing'}; threads: {threads}\n"
            # Not by way of the log, nor of Python's buffers: they may be what is stuck.
            os.write(2, last_words.encode())
        os._exit(1)
