"""Processes as the kernel lists them, and an end for all that this one has started. Linux.

A server that replaces itself leaves its new process to whoever takes in orphans. That is this process, once it has
called `adopt_orphans`, so that all that descends from it can be found, reaped, and ended by its id.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["PATIENCE", "adopt_orphans", "children", "command_line", "descendants", "end", "wait_until"]

#: Seconds after which something that should have happened has not.
PATIENCE = 30.0

#: From linux/prctl.h.
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Have descendants whose parent has ended become children of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def children(pid: int) -> set[int]:
    """Return the children of a process that have not ended."""
    return {child for child, parent in _parents().items() if parent == pid}


def descendants(pid: int) -> set[int]:
    """Return the children of a process, and theirs, that have not ended."""
    parents = _parents()
    found: set[int] = set()
    generation = {pid}
    while generation := {child for child, parent in parents.items() if parent in generation}:
        found |= generation
    return found


def command_line(pid: int) -> str:
    """Return what a process was started with; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def end() -> None:
    """Kill all that descends from this process, and reap it."""
    deadline = time.monotonic() + PATIENCE
    # What is killed may have started another one just before.
    while found := descendants(os.getpid()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"these processes do not end: {sorted(found)}")
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        _reap()
    _reap()


def wait_until(what: str, is_so: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it is not so after that many seconds.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def _reap() -> None:
    """Reap what has ended, orphans too."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _parents() -> dict[int, int]:
    """Return the parent of each process that has not ended."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError):
                # The name of the program, in parentheses, may hold anything.
                state, parent, *_ = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                if state not in {b"Z", b"X"}:
                    parents[int(name)] = int(parent)
    return parents
