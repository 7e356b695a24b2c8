"""A thread that ends the process if it has not ended by itself: the reactor, or the main thread, may be stuck."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue

from twisted_node._seconds import LONGEST_SECONDS
from twisted_node.names import name_oldest

__all__ = ["Watchdog"]

#: A watchdog that wakes this late was not let run: the whole process was stopped. The reactor then has as long as
#: `_REACTOR_SECONDS` to do what was due meanwhile.
_FROZEN_SECONDS = 0.1
_REACTOR_SECONDS = 0.5


class Watchdog:
    """Ends the process with status 1 at a time that can be moved, and says what is left.

    Args:
        oldest: names what is in flight, each with its age in seconds.
    """

    def __init__(self, oldest: Callable[[], Iterable[tuple[object, float]]]) -> None:
        self._oldest = oldest
        # A signal handler may call put() in the middle of another put(): SimpleQueue allows that, Queue would deadlock.
        self._times: SimpleQueue[float] = SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread. It waits until it is told a time."""
        self._thread.start()

    def bite_at(self, moment: float) -> None:
        """Say when to end the process; the last call counts. It takes no lock: a signal handler may call it.

        Args:
            moment: in seconds, on the monotonic clock.
        """
        self._times.put(moment)

    def _wait_until(self, moment: float) -> None:
        """Wait until a time, or until the one that replaces it."""
        while (left := moment - time.monotonic()) > 0:
            with suppress(Empty):
                moment = self._times.get(timeout=min(left, LONGEST_SECONDS))
        if left < -_FROZEN_SECONDS:
            time.sleep(_REACTOR_SECONDS)

    def _watch(self) -> None:
        self._wait_until(self._times.get())
        threads = ", ".join(t.name for t in threading.enumerate() if t is not self._thread)
        with suppress(Exception):
            oldest = name_oldest(self._oldest())
            last_words = f"not ended in time; in flight: {oldest or 'nothing'}; threads: {threads}\n"
            # Neither the log nor sys.stderr: one of their locks may be what is stuck.
            os.write(2, last_words.encode())
        os._exit(1)
