"""A release that does not come up: the process before it goes on as if nothing had been, and says why."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.handover import NODE, HandoverTestCase
from tests.support.lines import message
from tests.support.patience import wait_until
from tests.support.processes import RUNNERS, Process
from tests.support.sockets import connect, read_to_end

#: A node with options of its own, which waits for a successor as many seconds as the test likes.
PROGRAM = """
import os, signal, sys, time
{first}
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted_node import DrainingService, run


replace = DrainingService.replace
DrainingService.replace = lambda service: replace(service, patience={patience})
run(arguments={arguments})
"""


class Release:
    """A program, which may be replaced on the disk while it runs."""

    def __init__(self, path: Path, port: int = 0, patience: float = 60) -> None:
        self.path = path
        self.patience = patience
        self.arguments = ["--listen", f"tcp:{port}:interface=127.0.0.1"]
        self.write()

    def write(self, first: str = "", *more: str) -> None:
        """Write a release with a first statement and more options."""
        self.path.write_text(PROGRAM.format(first=first, patience=self.patience, arguments=[*self.arguments, *more]))


class FailureTestCase(HandoverTestCase):
    """One process, and programs to take its place."""

    def start(self, release: Release) -> Process:
        return self.own(Process(sys.executable, str(release.path), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))

    def path(self) -> Path:
        path = Path(self.mktemp())
        path.mkdir()
        return path.absolute() / "program.py"

    def ask(self, port: int) -> None:
        """Have one request answered."""
        with connect(port) as connection:
            connection.sendall(NODE[0])
            self.assertIn(NODE[1], connection.recv(4096))


class BadReleaseTests(FailureTestCase):
    """Releases that do not come up."""

    def refusal(self, process: Process) -> str:
        """Ask for a replacement; return the line that says why there is none."""
        before = len(process.log)
        process.signal(signal.SIGUSR2)
        wait_until(lambda: re.search(r"not replaced: .*\n", process.log[before:]), 100)
        (line,) = re.findall(r"not replaced: (.*)", process.log[before:])
        return str(line)

    def test_kinds(self) -> None:
        """Each kind leaves the old one serving, and a good release that comes after them takes over."""
        release = Release(self.path())
        process = self.start(release)
        port = process.port()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            in_use = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            for first, options, why in (
                ("import there_is_no_such_module", (), "it ended with status 1 before it was ready"),
                ("", ("--no-such-option",), "it ended with status 1 before it was ready"),
                ("", ("--listen", in_use), f"--listen {in_use}: Address already in use"),
                ("os._exit(3)", (), "it ended with status 3 before it was ready"),
                ("os.kill(os.getpid(), signal.SIGKILL)", (), "it was ended by SIGKILL before it was ready"),
            ):
                release.write(first, *options)
                self.assertIn(why, self.refusal(process))
                self.ask(port)
        release.write()
        pid = self.replace(process.popen.pid, lambda: process.log)
        self.ask(port)
        self.assertEqual(process.popen.wait(60), 0, process.log)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.wait_for_end(pid), 0)

    def test_hangs(self) -> None:
        """One that does not get ready in time is killed."""
        release = Release(self.path(), patience=1.5)
        process = self.start(release)
        port = process.port()
        release.write("time.sleep(1000)")
        self.assertIn("it was not ready after 1.5 s, and was killed", self.refusal(process))
        pid = int(process.wait_for_log(r"process (\d+) is to take the place")[1])
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        self.ask(port)
        process.signal()
        self.assertEqual(process.popen.wait(60), 0, process.log)

    def test_killed(self) -> None:
        """Somebody kills it before it is ready; a second request for a handover meanwhile is refused."""
        release = Release(self.path())
        process = self.start(release)
        port = process.port()
        release.write("print('it hangs', file=sys.stderr, flush=True); time.sleep(1000)")
        process.signal(signal.SIGUSR2)
        pid = int(process.wait_for_log(r"process (\d+) is to take the place")[1])
        self.assertEqual(self.refusal(process), f"process {pid} is to take its place already")
        # A signal that comes between fork and exec would be lost.
        process.wait_for_log("it hangs")
        os.kill(pid, signal.SIGTERM)
        process.wait_for_log("it was ended by SIGTERM before it was ready")
        self.ask(port)

    def test_stopped_meanwhile(self) -> None:
        """SIGTERM before the successor is ready: that is killed, and the old one stops as ever."""
        release = Release(self.path())
        process = self.start(release)
        process.port()
        release.write("time.sleep(1000)")
        process.signal(signal.SIGUSR2)
        pid = int(process.wait_for_log(r"process (\d+) is to take the place")[1])
        process.signal()
        self.assertEqual(process.popen.wait(60), 0, process.log)
        wait_until(lambda: self.wait_for_end(pid) == -signal.SIGKILL if Path(f"/proc/{pid}").exists() else True)

    def test_predecessor_killed(self) -> None:
        """A successor whose predecessor is killed before it is ready ends too: it takes nobody's place."""
        release = Release(self.path())
        process = self.start(release)
        process.port()
        # It is told to go by nobody, for it says that it is ready only when this has fired.
        release.write()
        release.path.write_text(
            release.path.read_text().replace(
                "run(",
                "start = DrainingService.startService\n"
                "def start_late(service):\n    service.ready_after(Deferred())\n    start(service)\n"
                "DrainingService.startService = start_late\nrun(",
            )
        )
        process.signal(signal.SIGUSR2)
        pid = int(process.wait_for_log(r"process (\d+) is to take the place")[1])
        wait_until(lambda: process.log.count("listening on") == 2, 60)
        process.popen.kill()
        self.assertEqual(self.wait_for_end(pid), 1)
        self.assertIn(f"not taking over: process {process.popen.pid} does not wait for this one any more", process.log)


class RefusalTests(HandoverTestCase):
    """Processes that nobody can take the place of."""

    def refusal(self, *command: str, ready: str = "listening on", **options: object) -> str:
        process = Process(*["/bin/sh", "-c", 'exec "$@" >&2', "sh"], *command, **options)
        self.addCleanup(process.end)
        process.wait_for_log(ready)
        process.signal(signal.SIGUSR2)
        line = process.wait_for_log("not replaced: (.*)")[1]
        process.signal()
        self.assertEqual(process.popen.wait(60), 0, process.log)
        return line

    def test_standard_input(self) -> None:
        """A node on standard input."""
        self.assertIn("standard input cannot be handed on", self.refusal(*RUNNERS["python"]))

    def test_pidfile(self) -> None:
        """A pidfile would go on naming the old process."""
        command = [RUNNERS["twistd"][0], "-n", "--pidfile", self.mktemp(), "node", "--listen=tcp:0"]
        self.assertRegex(self.refusal(*command), r"the pidfile \S+ would go on naming this process; .*--pidfile=")

    def test_systemd(self) -> None:
        """A unit that is not told which process is the main one."""
        command = ["/bin/sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh", *RUNNERS["python"], "--listen=tcp:0"]
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        self.assertIn("Type=notify", self.refusal(*command, env=environment))


class TogetherTests(FailureTestCase):
    """Two processes at once, until the older one has ended."""

    def test_stopped_sooner(self) -> None:
        """A successor that is stopped has its predecessor drain at once, ends after it, and with the worse status."""
        release = Release(self.path())
        release.arguments += ["--drain-timeout=60"]
        release.write()
        process = self.start(release)
        with connect(process.port()) as connection:
            connection.sendall(message("tcp_request", 1, latency_ms=600_000) + message("tcp_drain_status", 2))
            self.assertIn(b'"remaining": 1', connection.recv(4096))
            release.arguments[-1] = "--drain-timeout=2"
            release.write()
            pid = self.replace(process.popen.pid, lambda: process.log)
            os.kill(pid, signal.SIGTERM)
            self.assertIn(b"drain_timeout", read_to_end(connection))
        self.assertEqual(process.popen.wait(60), 1, process.log)
        self.assertEqual(self.wait_for_end(pid), 1, process.log)
        self.assertIn(f"process {process.popen.pid} has ended, with status 1", process.log)

    def test_other_ports(self) -> None:
        """A port more is opened, a port less is closed, and the one in common has one queue all the time."""
        release = Release(self.path())
        with socket.create_server(("127.0.0.1", 0)) as free:
            new = free.getsockname()[1]
        release.write("", "--control", "tcp:0:interface=127.0.0.1")
        process = self.start(release)
        common, old = process.ports(2)
        release.write("", "--control", f"tcp:{new}:interface=127.0.0.1")
        pid = self.replace(process.popen.pid, lambda: process.log)
        self.ask(common)
        self.ask(new)
        with self.assertRaises(ConnectionRefusedError):
            connect(old)
        self.assertEqual(process.popen.wait(60), 0, process.log)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.wait_for_end(pid), 0, process.log)

    def test_children(self) -> None:
        """A child of the new process has none of the sockets, and does not know of them."""
        release = Release(self.path())
        release.write()
        process = self.start(release)
        port = process.port()
        release.path.write_text(
            release.path.read_text().replace(
                "run(",
                "import subprocess\n"
                "reactor.callWhenRunning(reactor.callLater, 0.5, lambda: print('child',"
                " subprocess.Popen(['sleep', '100'], close_fds=False).pid, file=sys.stderr))\nrun(",
            )
        )
        pid = self.replace(process.popen.pid, lambda: process.log)
        child = int(process.wait_for_log(r"child (\d+)")[1])
        self.pids.append(child)
        wait_until(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes())
        opened = [os.readlink(entry) for entry in Path(f"/proc/{child}/fd").iterdir()]
        self.assertEqual([name for name in opened if name.startswith("socket:")], [])
        self.assertNotIn(b"TWISTED_NODE_HANDOVER", Path(f"/proc/{child}/environ").read_bytes())
        self.assertEqual(process.popen.wait(60), 0)
        self.ask(port)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.wait_for_end(pid), 0)
