"""What twistd was told, by its own command line."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from twisted.scripts import twistd
from twisted.trial.unittest import SynchronousTestCase

from tests.support.handover_reactor import START
from twisted_node.handover import _twistd
from twisted_node.handover._twistd import append_to_log, own_pidfile


class TwistdTests(SynchronousTestCase):
    """This process, as if it were twistd's."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.patch(_twistd, "START", replace(START, folder=str(self.folder)))
        # It may not be: only twistd imports it.
        self.patch(sys, "modules", {**sys.modules, "twisted.scripts.twistd": twistd})
        self.arguments()

    def arguments(self, *arguments: str) -> None:
        self.patch(sys, "argv", ["twistd", *arguments])

    def test_pidfile(self) -> None:
        """It is found however it is written, as long as it names this process."""
        path = self.folder / "pid"
        for written in (["--pidfile", str(path)], [f"--pidfile={path}"], ["-n", f"--pid={path}", "node"]):
            self.arguments(*written)
            path.write_text("not a number")
            self.assertIsNone(own_pidfile())
            path.write_text("1")
            self.assertIsNone(own_pidfile())
            path.write_text(str(os.getpid()))
            self.assertEqual(own_pidfile(), str(path))

    def test_no_pidfile(self) -> None:
        """There is none: it was not wanted, or not written, or these are not twistd's words."""
        for arguments in (["--pidfile="], [], ["--no-such-option"], ["node", "--pidfile=x"]):
            self.arguments(*arguments)
            self.assertIsNone(own_pidfile())

    def test_not_twistd(self) -> None:
        """Another program's options are not looked at."""
        del sys.modules["twisted.scripts.twistd"]
        path = self.folder / "pid"
        path.write_text(str(os.getpid()))
        self.arguments("--pidfile", str(path))
        self.assertIsNone(own_pidfile())

    def test_log(self) -> None:
        """What is written to the log goes behind what another process has written there."""
        for name, arguments in (("mine.log", ["-l", "mine.log"]), ("twistd.log", [])):
            self.arguments(*arguments)
            with open(self.folder / name, "wb", buffering=0) as log, open(self.folder / name, "ab") as other:
                log.write(b"one\n")
                append_to_log()
                other.write(b"another's\n")
                other.flush()
                log.write(b"two\n")
            self.assertEqual((self.folder / name).read_bytes(), b"one\nanother's\ntwo\n")

    def test_no_log(self) -> None:
        """There may be none, and descriptors may close while they are looked at."""
        append_to_log()
        (self.folder / "twistd.log").touch()
        self.patch(os, "listdir", lambda _: ["10000"])
        append_to_log()
