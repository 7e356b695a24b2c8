"""How long a test waits for what should happen, and how soon something must have happened."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from typing_extensions import Self

#: Seconds after which something that should have happened has not. Less than the 25 s that a drain takes at most by
#: default: a test that waits for an end sees whether only the deadline has brought it about.
PATIENCE = 20.0

#: The same for whole programs that start others, and for starts: nothing is told apart by how long they take.
LONG_PATIENCE = 10 * PATIENCE


def wait_until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for what no file descriptor tells of, such as a number in /proc."""
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen in time")
        pause.wait(0.005)


class Stopwatch:
    """Measures a block of a test, and how much other work on the machine slows a process down meanwhile.

    ::

        with Stopwatch() as watch:
            ...
        self.assertLess(watch.seconds, watch.allow(1))
    """

    def __enter__(self) -> Self:
        self._slowdown = _slowdown()
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began

    def allow(self, seconds: float) -> float:
        """Return what so many seconds of an idle machine are on this one."""
        self._slowdown = max(self._slowdown, _slowdown())
        return seconds * self._slowdown


def _slowdown() -> float:
    """Start a process that computes; return how many times its own seconds it took, at least 1."""
    began = time.monotonic()
    # Without coverage, and without what else the environment has Python do when it starts.
    process = subprocess.Popen([sys.executable, "-I", "-c", "sum(range(5_000_000))"], env={})
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return max(1.0, (time.monotonic() - began) / (usage.ru_utime + usage.ru_stime))
