"""The last moments of the process: its exit status, and what becomes of the program's own objects.

Python's teardown searches all objects, more than once, for those that only refer to each other: 50 to 100 ms. They are
frozen, which ends the search. A file that a frozen module holds would then stay open, so all modules are kept for
Python to empty one by one, and the program's own are emptied first.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from io import IOBase
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["LastModule", "exit_promptly", "prepare_teardown"]

_STANDARD_ERROR = 2


def exit_promptly(status: int) -> None:
    """End the process without Python's teardown, after the other exit hooks; call it from an exit hook.

    What the program has written to open files, and not flushed, is lost.
    """
    with ExitStack() as last:
        last.callback(os._exit, status)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            last.callback(stream.flush)
        # os._exit, which is called next, would skip them. Python has no public way to run them.
        atexit._run_exitfuncs()


def prepare_teardown(
    status: int, namespaces: Iterable[dict[str, Any]], signals: Iterable[signal.Signals], seconds: float
) -> None:
    """Let Python's teardown be quick and complete; call it when all is done.

    Args:
        status: what the process shall end with; 0 leaves it to Python.
        namespaces: the globals of the program's own modules.
        signals: are ignored from the teardown on, when nobody can handle them any more.
        seconds: after this time the process ends with status 1, wherever the teardown is stuck, and says where.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STANDARD_ERROR)
    if status:
        _set_status(status)
    # Requests refer to themselves in many ways: those that have just ended are let go of here.
    gc.collect(1)
    last = LastModule(namespaces, signals)
    kept: list[object] = list(sys.modules.values())
    # Nothing but the collector could free this list, and what is frozen is not collected.
    kept.append(kept)
    sys.modules[last.__name__] = last
    del last
    gc.freeze()


def _set_status(status: int) -> None:
    """Have the process end with a status after Python's teardown, which has no way to set one."""
    c_library = ctypes.CDLL(None)
    # C's exit hooks; the one that is registered last is called first.
    for function, argument in ((c_library._exit, status), (c_library.fflush, None)):
        c_library.__cxa_atexit(ctypes.cast(function, ctypes.c_void_p), ctypes.c_void_p(argument), None)


class LastModule(ModuleType):
    """Lets go of the program's own objects when the teardown begins: no thread runs then, and all modules still work.

    Python's own order is another: it may empty a library before the module whose objects need it to end properly.

    Args:
        namespaces: the globals of modules, those that depend on others first.
        signals: are ignored from then on.
    """

    def __init__(self, namespaces: Iterable[dict[str, Any]], signals: Iterable[signal.Signals]) -> None:
        super().__init__(f"{__name__}.last")
        self._namespaces = tuple(namespaces)
        self._signals = tuple(signals)

    def __del__(self) -> None:
        """Ignore the signals, and let go of all objects but modules, classes and functions, the newest first."""
        for number in self._signals:
            signal.signal(number, signal.SIG_IGN)
        for namespace in self._namespaces:
            for name in reversed(list(namespace)):
                if not isinstance(namespace[name], (ModuleType, type, FunctionType)) and name != "__builtins__":
                    _let_go(namespace, name)


def _let_go(namespace: dict[str, Any], name: str) -> None:
    value = namespace[name]
    namespace[name] = None
    # A finaliser of files does the same. It would not run for those that refer to themselves: gzip's, in Python 3.12.
    if isinstance(value, IOBase) and value not in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
        with suppress(Exception):
            value.close()
