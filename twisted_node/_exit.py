"""The last moments of the process: its exit status, and what becomes of the program's own objects.

Python's teardown searches all objects, more than once, for those that only refer to each other, and empties all
modules: 50 to 100 ms. Hardly any of these objects does anything when it goes. So we do three things instead: empty the
program's own modules; run the finalisers of what is left, of open files above all; and hide everything from Python's
garbage collector, so that it searches nothing.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from io import BufferedIOBase, BufferedRandom, BufferedWriter, BytesIO, IOBase, RawIOBase, StringIO
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["Last", "exit_promptly", "finalise", "prepare_teardown", "with_finalisers"]

_STANDARD_ERROR = 2

#: The base class of all files, in C. ``IOBase`` itself is an abstract class, which is slow to ask about every class.
_FILE: type = IOBase.__mro__[1]

#: Files in memory: nothing is lost with them.
_IN_MEMORY = (BytesIO, StringIO)

#: What stays in the program's modules, since finalisers may need it.
_STAY = (ModuleType, type, FunctionType, str, bytes, int, float)


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


def prepare_teardown(status: int, namespace: dict[str, Any], signals: Iterable[signal.Signals], seconds: float) -> None:
    """Let Python's teardown be quick and complete; call it when all is done.

    Args:
        status: what the process shall end with; 0 leaves it to Python.
        namespace: the globals of the code that owns the process; those of a ``.tac`` belong to no module.
        signals: are ignored from the teardown on, when nobody can handle them any more.
        seconds: after this time the process ends with status 1, wherever the teardown is stuck, and says where.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STANDARD_ERROR)
    if status:
        _set_status(status)
    # Otherwise Python would search once before it comes to us.
    gc.disable()
    # Exit hooks run while threads do, so they come too early. The first thing that Python does after that is to set a
    # few attributes of sys to None, and thereby calls Last.__del__. Nobody misses this one of them, the second prompt
    # of an interactive Python.
    sys.ps2 = Last([vars(sys.modules["__main__"]), namespace, *_own_namespaces()], signals, _finalise_all)


def _own_namespaces() -> list[dict[str, Any]]:
    """List the globals of the modules that are part of no library, the last imported one first."""
    standard_library = os.path.dirname(os.__file__)
    own = []
    for name, module in list(sys.modules.items()):
        file = str(getattr(module, "__file__", None) or standard_library)
        installed = file.startswith(standard_library) or "-packages/" in file or name.partition(".")[0] == __package__
        if isinstance(module, ModuleType) and not installed:
            own.append(vars(module))
    return own[::-1]


def _set_status(status: int) -> None:
    """Have the process end with a status after Python's teardown, which has no way to set one."""
    c_library = ctypes.CDLL(None)
    # These two are called by C's exit(), after Python's teardown; the one that is registered last comes first.
    for function, argument in ((c_library._exit, status), (c_library.fflush, None)):
        c_library.__cxa_atexit(ctypes.cast(function, ctypes.c_void_p), ctypes.c_void_p(argument), None)


class Last:
    """Lets go of the program's own objects when the teardown begins: no thread runs then, and all modules still work.

    Python's own order is another: it may empty a library before the module whose objects need it to end properly.

    Args:
        namespaces: the globals of modules, those that depend on others first.
        signals: are ignored from then on.
        then: is called in the end.
    """

    def __init__(
        self, namespaces: Iterable[dict[str, Any]], signals: Iterable[signal.Signals], then: Callable[[], object]
    ) -> None:
        self._namespaces = tuple(namespaces)
        self._signals = tuple(signals)
        self._then = then

    def __del__(self) -> None:
        """Ignore the signals, and let go of all objects but code and constants, the newest first."""
        for number in self._signals:
            signal.signal(number, signal.SIG_IGN)
        for namespace in self._namespaces:
            for name in reversed(list(namespace)):
                if not isinstance(namespace[name], _STAY) and name != "__builtins__":
                    namespace[name] = None
        self._then()


def _finalise_all() -> None:
    """Run all finalisers that are left, and leave nothing for Python to do."""
    # Objects that were frozen earlier would not be listed.
    gc.unfreeze()
    objects = gc.get_objects()
    # The newest of a kind first: it may need the older ones.
    objects.reverse()
    for each in with_finalisers(objects):
        finalise(each)
    # Nothing is freed from now on: the list holds everything, modules too, and nobody but the collector could free a
    # list that holds itself.
    objects.append(objects)
    objects.extend(sys.modules.values())
    # To Python, a module that is None has been emptied.
    sys.modules.update(dict.fromkeys(sys.modules))  # type: ignore[arg-type] # not what it should be, on purpose
    # The collector searches nothing that is frozen.
    gc.freeze()


def with_finalisers(objects: list[object]) -> list[object]:
    """Find those that have something to do in the end: files, and objects whose class has a ``__del__``.

    Args:
        objects: any.

    Returns:
        Those with a ``__del__`` first, since they may write to files; then files, each before the one that it writes
        to. The standard streams are left out.
    """
    kinds = {kind for kind in set(map(type, objects)) if _has_finaliser(kind)}
    standard = {id(layer) for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__) for layer in _layers(stream)}
    found = [each for each in objects if type(each) in kinds and id(each) not in standard]
    return sorted(found, key=lambda each: _turn(type(each)))


def _has_finaliser(kind: type) -> bool:
    if issubclass(kind, _FILE):
        return kind not in _IN_MEMORY
    # Last's own is running already.
    return isinstance(getattr(kind, "__del__", None), FunctionType) and kind is not Last


def _turn(kind: type) -> int:
    """Say when objects of a class have their turn, by a number: whatever writes to others comes before these."""
    if not issubclass(kind, _FILE):
        return 0
    if issubclass(kind, RawIOBase):
        # A file of the operating system's: all others end there.
        return 4
    if issubclass(kind, (BufferedWriter, BufferedRandom)):
        return 3
    # Other bytes are those of a compressed file, say; what is left is text.
    return 2 if issubclass(kind, BufferedIOBase) else 1


def _layers(stream: Any) -> Iterable[object]:
    """List a file and those that it writes to: a text's buffer, and the file of the operating system's below."""
    while stream is not None:
        yield stream
        stream = getattr(stream, "buffer", None) or getattr(stream, "raw", None)


def finalise(each: object) -> None:
    """Run an object's finaliser as Python's collector does: it does not run again, and an error is only printed.

    To call ``__del__`` or ``close`` would do neither.
    """
    ctypes.pythonapi.PyObject_CallFinalizer(ctypes.py_object(each))
