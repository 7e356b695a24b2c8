"""How a process was started, and how to start another like it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.handover_reactor import START
from twisted_node.handover import _start
from twisted_node.handover._inheritance import VARIABLE
from twisted_node.handover._start import _as_written, _executable, _first_environment, keep_from_children, look_at_start


class StartTests(SynchronousTestCase):
    """How another is started."""

    def test_again(self) -> None:
        """The command and the environment are the same; a name that was given to the program is not."""
        start = replace(START, executable="/usr/bin/python", environment={b"A": b"1", b"LISTEN_PID": b"7"})
        self.assertEqual(start.again(), ([b"/usr/bin/python", b"-m", b"program"], {b"A": b"1"}))

    def test_sockets_of_systemd(self) -> None:
        """With sockets of systemd's the variables stay, and the new process puts its number into one of them."""
        environment = {b"LISTEN_PID": b"100", b"LISTEN_FDS": b"2", b"LISTEN_FDNAMES": b"a:b"}
        start = replace(START, environment=environment)
        self.assertEqual(list(start.systemd_descriptors), [3, 4])
        command, again = start.again()
        self.assertEqual(
            command, [b"/bin/sh", b"-c", b'LISTEN_PID=$$ exec "$@"', b"sh", b"/bin/python", b"-m", b"program"]
        )
        self.assertEqual(again, environment)

    def test_ignored_signals(self) -> None:
        """What nohup has a process ignore, another like it ignores too."""
        command, _ = replace(START, ignored=(1, 2)).again()
        self.assertEqual(
            command, [b"/bin/sh", b"-c", b"trap '' 1 2; exec \"$@\"", b"sh", b"/bin/python", b"-m", b"program"]
        )

    def test_names_that_a_shell_drops(self) -> None:
        """Where a shell is needed, variables whose names it does not know as names come to the program all the same."""
        environment = {**os.environb, b"a.b": b"1 \xff", b"x-y": b"2=3", b"A": b"4"}
        command, again = replace(
            START, executable="/usr/bin/env", arguments=("env", "-0"), ignored=(1,), environment=environment
        ).again()
        self.assertEqual(command[0], b"/bin/sh")
        shown = subprocess.run(command, env=again, check=True, stdout=subprocess.PIPE).stdout.split(b"\0")
        for variable in (b"a.b=1 \xff", b"x-y=2=3", b"A=4"):
            self.assertIn(variable, shown)

    def test_sockets_of_others(self) -> None:
        """Variables that are meant for another process, or are none, tell of no sockets."""
        for environment in (
            {b"LISTEN_PID": b"1", b"LISTEN_FDS": b"2"},
            {b"LISTEN_PID": b"100"},
            {b"LISTEN_PID": b"100", b"LISTEN_FDS": b"-1"},
        ):
            self.assertEqual(list(replace(START, environment=environment).systemd_descriptors), [])


class LookTests(SynchronousTestCase):
    """How this process was started."""

    def test_this_process(self) -> None:
        """Its numbers, its command, its folder, and the environment that it was given."""
        start = look_at_start()
        self.assertEqual((start.pid, start.parent), (os.getpid(), os.getppid()))
        self.assertEqual(start.arguments, tuple(sys.orig_argv))
        self.assertTrue(os.path.samefile(start.folder, "."))
        self.assertNotIn(VARIABLE.encode(), start.environment)
        self.assertEqual(start.environment[b"PATH"], os.environb[b"PATH"])

    def test_signals(self) -> None:
        """Which signals it was started to ignore; not those that Python ignores by itself."""
        self.assertNotIn(signal.SIGUSR1, look_at_start().ignored)
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.signal(signal.SIGUSR1, signal.SIG_IGN))
        ignored = look_at_start().ignored
        self.assertIn(signal.SIGUSR1, ignored)
        self.assertNotIn(signal.SIGPIPE, ignored)

    def test_executable(self) -> None:
        """A program is found by its path, from the folder, or in PATH; a first word that is another's name is not."""
        folder, environment = str(Path(sys.executable).parent), {b"PATH": os.fsencode(Path(sys.executable).parent)}
        name = Path(sys.executable).name
        for first_word in (sys.executable, name, f"./{name}"):
            self.assertEqual(_executable(first_word, folder, environment), first_word)
        self.assertEqual(_executable("my server", folder, environment), sys.executable)
        self.assertEqual(_executable("my server", folder, {}), sys.executable)

    def test_folder_behind_a_link(self) -> None:
        """A folder is named as its shell did, as long as that is the same one."""
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        link = f"{folder}-link"
        os.symlink(folder, link)
        self.assertEqual(_as_written(folder, link), link)
        for written in ("", "relative", "/", f"{folder}-none"):
            self.assertEqual(_as_written(folder, written), folder)

    def test_sockets_are_kept_from_children(self) -> None:
        """A socket that systemd has handed to us is not handed on to children; it may have been closed already."""
        with socket.socket() as listening:
            os.set_inheritable(listening.fileno(), True)
            keep_from_children([10_000, listening.fileno()])
            self.assertFalse(listening.get_inheritable())

    def test_no_proc(self) -> None:
        """Where the system does not tell of the first environment, the present one is taken."""
        self.patch(_start, "Path", lambda _: Path("/there/is/none"))
        self.assertEqual(_first_environment(), dict(os.environb))
