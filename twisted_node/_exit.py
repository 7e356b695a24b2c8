"""The last moments of the process: its exit status, and what becomes of the program's own objects.

Python's teardown searches all objects, more than once, for those that only refer to each other, and empties all
modules: 50 to 100 ms. Few of them have anything to do. So the program's own modules are emptied first; then we look
once for what is left and has something to do: open files, and objects with a finaliser. The rest is frozen.
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
from itertools import compress
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["Last", "exit_promptly", "finalise", "prepare_teardown", "with_finalisers"]

_STANDARD_ERROR = 2

#: What all files are made of, in C: whether a class is one is quick to tell, unlike with ``IOBase``.
_FILE: type = IOBase.__mro__[1]

#: The lowest first: text is written to bytes, those of a compressed file to a buffered one, and that to the system's.
_LAYERS: tuple[tuple[type, ...], ...] = ((RawIOBase,), (BufferedWriter, BufferedRandom), (BufferedIOBase,))

#: What finalisers may need of their modules.
_STAY = (ModuleType, type, FunctionType, str, bytes, int, float)

#: Nothing is lost with these.
_IN_MEMORY = (BytesIO, StringIO)


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
        namespace: globals of the program that may belong to no module.
        signals: are ignored from the teardown on, when nobody can handle them any more.
        seconds: after this time the process ends with status 1, wherever the teardown is stuck, and says where.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STANDARD_ERROR)
    if status:
        _set_status(status)
    # Python's first search comes before our turn.
    gc.disable()
    # Of all that Python lets go of when its teardown begins, this name is the first that nobody uses. An interactive
    # Python would prompt with it.
    sys.ps2 = Last([vars(sys.modules["__main__"]), namespace, *_own_namespaces()], signals, _finalise_all)


def _own_namespaces() -> list[dict[str, Any]]:
    """List the globals of the program's own modules: those that are part of no library; the last imported one first."""
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
    # C's exit hooks; the one that is registered last is called first.
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
    """Finalise what is still there, and freeze it: Python finds nothing more to do."""
    # What was frozen earlier is not listed otherwise.
    gc.unfreeze()
    objects = gc.get_objects()
    # The newest of a kind first: what was put on top of another came later.
    objects.reverse()
    for each in with_finalisers(objects):
        finalise(each)
    # Python would empty the modules one by one, and free what they hold. Only the collector could free this list.
    objects.append(objects)
    objects.extend(sys.modules.values())
    sys.modules.update(dict.fromkeys(sys.modules))  # type: ignore[arg-type] # as Python does it, one after the other
    gc.freeze()


def with_finalisers(objects: list[object]) -> list[object]:
    """Find those that have something to do in the end: files, and objects whose class has a ``__del__``.

    Args:
        objects: any.

    Returns:
        Those with a ``__del__`` first, since they may write to files; then files, each before the one that it writes
        to. The standard streams are left out.
    """
    types = list(map(type, objects))
    kinds = {kind: _order(kind) for kind in set(types) if _has_finaliser(kind)}
    streams = {id(part) for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__) for part in _layers(stream)}
    found = [each for each in compress(objects, map(set(kinds).__contains__, types)) if id(each) not in streams]
    return sorted(found, key=lambda each: kinds[type(each)])


def _has_finaliser(kind: type) -> bool:
    if issubclass(kind, _FILE):
        return kind not in _IN_MEMORY
    # Our own runs already.
    return isinstance(getattr(kind, "__del__", None), FunctionType) and kind is not Last


def _order(kind: type) -> int:
    """Say when objects of a class have their turn."""
    if not issubclass(kind, _FILE):
        return 0
    for order, beneath in enumerate(_LAYERS):
        if issubclass(kind, beneath):
            return len(_LAYERS) + 1 - order
    return 1


def _layers(stream: Any) -> Iterable[object]:
    """List a file and those beneath it."""
    while stream is not None:
        yield stream
        stream = getattr(stream, "buffer", None) or getattr(stream, "raw", None)


def finalise(each: object) -> None:
    """Run the finaliser of an object, as the collector does: once, and its error, if any, is only told."""
    ctypes.pythonapi.PyObject_CallFinalizer(ctypes.py_object(each))
