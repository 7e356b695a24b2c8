"""What becomes of a program's objects when Python's teardown begins."""

from __future__ import annotations

import io
import signal
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_node._exit import LastModule


class LastModuleTests(SynchronousTestCase):
    """The program's own objects are let go of."""

    def let_go(self, namespace: dict[str, Any], *signals: signal.Signals) -> None:
        LastModule([namespace], signals)

    def test_newest_first(self) -> None:
        """Objects go in the order opposite to the one they came in, so that each still has what it was made with."""
        gone: list[str] = []

        class Witness:
            def __init__(self, name: str) -> None:
                self.name = name

            def __del__(self) -> None:
                gone.append(self.name)

        namespace: dict[str, Any] = {"first": Witness("first"), "second": Witness("second")}
        self.let_go(namespace)
        self.assertEqual(gone, ["second", "first"])
        self.assertEqual(namespace, {"first": None, "second": None})

    def test_files(self) -> None:
        """Files are closed even if something else holds them; the standard streams are not, nor is an error raised."""

        class Failing(io.StringIO):
            def close(self) -> None:
                raise OSError("full")

        file = io.StringIO()
        self.let_go({"file": file, "failing": Failing(), "output": sys.__stdout__})
        self.assertTrue(file.closed)
        assert sys.__stdout__ is not None
        self.assertFalse(sys.__stdout__.closed)

    def test_code(self) -> None:
        """Modules, classes and functions stay: the objects' finalisers need them."""
        namespace = {"sys": sys, "Any": LastModuleTests, "function": lambda: None, "__builtins__": {}}
        self.let_go(before := dict(namespace))
        self.assertEqual(before, namespace)

    def test_signals(self) -> None:
        """The signals are ignored from then on."""
        handler = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, handler)
        self.let_go({}, signal.SIGHUP)
        self.assertIs(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
