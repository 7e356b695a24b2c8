"""What becomes of a program's objects when Python's teardown begins."""

from __future__ import annotations

import gzip
import io
import os
import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_node import _exit
from twisted_node._exit import Last, finalise, with_finalisers


class Witness:
    """Notes that its finaliser ran."""

    def __init__(self, name: str, gone: list[str]) -> None:
        self.name = name
        self.gone = gone

    def __del__(self) -> None:
        self.gone.append(self.name)


class LastTests(SynchronousTestCase):
    """The program's own objects are let go of."""

    def let_go(self, namespace: dict[str, Any], *signals: signal.Signals) -> list[str]:
        """Begin the teardown; return what was done after that."""
        then: list[str] = []
        Last([namespace], signals, lambda: then.append("then"))
        return then

    def test_newest_first(self) -> None:
        """Objects go in the order opposite to the one they came in, so that each still has what it was made with."""
        gone: list[str] = []
        namespace: dict[str, Any] = {"first": Witness("first", gone), "second": Witness("second", gone)}
        self.assertEqual(self.let_go(namespace), ["then"])
        self.assertEqual(gone, ["second", "first"])
        self.assertEqual(namespace, {"first": None, "second": None})

    def test_code(self) -> None:
        """Modules, classes, functions and constants stay: the objects' finalisers need them."""
        namespace = {"sys": sys, "Any": LastTests, "function": lambda: None, "NAME": "a", "__builtins__": {}}
        self.let_go(before := dict(namespace))
        self.assertEqual(before, namespace)

    def test_signals(self) -> None:
        """The signals are ignored from then on."""
        handler = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, handler)
        self.let_go({}, signal.SIGHUP)
        self.assertIs(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)


class FinaliserTests(SynchronousTestCase):
    """What is left is finalised."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_order(self) -> None:
        """Those that may write to files come before these, and a file before the one that it writes to."""
        path = self.folder / "text.gz"
        text: Any = gzip.open(path, "wt")  # noqa: SIM115 # its finaliser closes it
        archive = text.buffer
        buffered = archive.fileobj
        witness = Witness("witness", [])
        objects: list[object] = [buffered.raw, buffered, archive, text, witness, "a text", io.StringIO()]
        self.assertEqual(with_finalisers(objects), [witness, text, archive, buffered, buffered.raw])
        text.write("all")
        for each in with_finalisers(objects):
            finalise(each)
        self.assertEqual(gzip.decompress(path.read_bytes()), b"all")

    def test_standard_streams(self) -> None:
        """The standard streams and what is beneath them are left alone; so is what has begun its end already."""
        standard: Any = io.TextIOWrapper(io.BufferedWriter(raw := io.FileIO(os.devnull, "w")))
        self.patch(_exit, "sys", SimpleNamespace(__stdin__=None, __stdout__=standard, __stderr__=None))
        last = Last([], [], lambda: None)
        self.assertEqual(with_finalisers([standard, standard.buffer, raw, last]), [])
        standard.close()

    def test_once(self) -> None:
        """A finaliser runs once, though it is not the collector that calls it; an error of it is not raised."""
        gone: list[str] = []
        witness = Witness("witness", gone)
        finalise(witness)
        del witness
        self.assertEqual(gone, ["witness"])

    def test_all(self) -> None:
        """What refers to itself is finalised, then nothing is searched and no module emptied any more."""
        gone: list[str] = []
        alone: Any = Witness("alone", gone)
        alone.itself = alone
        steps: list[str] = []
        collector = SimpleNamespace(
            unfreeze=lambda: steps.append("unfreeze"),
            get_objects=lambda: [alone, self],
            freeze=lambda: steps.append("freeze"),
        )
        system = SimpleNamespace(
            modules={"one": sys}, __stdin__=None, __stdout__=sys.__stdout__, __stderr__=sys.__stderr__
        )
        self.patch(_exit, "gc", collector)
        self.patch(_exit, "sys", system)
        _exit._finalise_all()
        self.assertEqual((gone, steps, system.modules), (["alone"], ["unfreeze", "freeze"], {"one": None}))
        del alone.itself

    def test_own_modules(self) -> None:
        """The program's own modules are those of no library; the last imported comes first."""
        ours, later, installed = map(ModuleType, ("ours", "later", "installed"))
        ours.__file__, later.__file__ = "/srv/app/ours.py", "/srv/app/later.py"
        installed.__file__ = "/srv/venv/lib/python3/site-packages/installed.py"
        others = {"io": io, "sys": sys, "twisted_node._exit": _exit, "installed": installed, "none": object()}
        modules = {"ours": ours, **others, "later": later}
        self.patch(_exit, "sys", SimpleNamespace(modules=modules))
        self.assertEqual(_exit._own_namespaces(), [vars(later), vars(ours)])
