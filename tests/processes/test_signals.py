"""Signals, the exit status, and the end of the process within two seconds of its deadline, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.support.lines import bodies, by_request, message
from tests.support.paths import BIN
from tests.support.processes import AWKWARDLY, RUNNERS, Process, awkward_environment
from tests.support.signals import ANOTHER, SignalsTestCase, pause
from tests.support.sockets import connect, read_to_end
from twisted_node.process import SIGNALS


class FirstSignalTests(SignalsTestCase):
    """The first signal drains."""

    def test_drains(self) -> None:
        """Each of the signals has what is in flight answered, and ends with status 0, whatever runs the node."""
        processes = [(self.start(*runner), number) for runner in RUNNERS.values() for number in SIGNALS]
        for process, number in processes:
            process.send(message("tcp_request", 2, latency_ms=150) + message("tcp_drain_status", 3))
            self.assertEqual(bodies(process.read_line())[0]["remaining"], 1)
            process.signal(number)
        for process, number in processes:
            self.assertEqual([body["type"] for body in bodies(process.read_rest())], ["tcp_request_ok"])
            self.assertEqual(process.wait(), 0, process.log)
            self.assertIn(number.name, process.log)
            self.assertNotIn("Traceback", process.log)

    def test_input_is_refused(self) -> None:
        """During a signal's drain standard input is read on, and requests are refused."""
        process = self.start_with_work(latency_ms=500)
        process.signal()
        process.wait_for_log("draining")
        process.send(message("tcp_request", 4) + message("tcp_drain_status", 5))
        refused, status = bodies(process.read_line() + process.read_line())
        self.assertEqual(refused["error"], "server_shutting_down")
        self.assertEqual((status["status"], status["remaining"]), ("draining", 1))
        self.assertEqual(bodies(process.read_rest())[0]["type"], "tcp_request_ok")
        self.assertEqual(process.wait(), 0)

    def test_repeat_is_the_same(self) -> None:
        """Several signals at once, of one kind or several, are one."""
        process = self.start_with_work(latency_ms=300)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.signal(number)
        self.assertEqual(bodies(process.read_rest())[0]["type"], "tcp_request_ok")
        self.assertEqual(process.wait(), 0)

    def test_deadline(self) -> None:
        """What the deadline cuts is answered, and shows in the exit status, whatever runs the node."""
        for name, runner in RUNNERS.items():
            process = self.start(*runner, "--drain-timeout", "0.2")
            process.send(message("tcp_request", 2, latency_ms=60_000) + message("tcp_drain_status", 3))
            process.read_line()
            process.signal()
            self.assertEqual(bodies(process.read_rest())[0]["error"], "drain_timeout")
            self.assertEqual(process.wait(), 1, name)

    def test_ignored_signals(self) -> None:
        """A signal that was ignored at the start stays so: nohup, and a shell's background."""
        ignore = "trap '' HUP INT; exec \"$@\""
        process = self.start("sh", "-c", ignore, "sh", *RUNNERS["python"])
        process.signal(signal.SIGHUP)
        process.signal(signal.SIGINT)
        process.send(message("tcp_request", 2))
        self.assertEqual(bodies(process.read_line())[0]["type"], "tcp_request_ok")
        process.signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 0)
        self.assertIn("SIGTERM", process.log)

    def test_while_starting(self) -> None:
        """A signal before the reactor runs, or while it starts, drains like any other."""
        starts = ("signal before the reactor", "signal to Twisted's handlers", "signal once running")
        for runner in RUNNERS.values():
            processes = [Process(*runner, *AWKWARDLY, env=awkward_environment(start)) for start in starts]
            for process in processes:
                self.addCleanup(process.end)
                self.assertEqual(process.wait(), 0, process.log)
                self.assertIn("clean: 0 finished", process.log)
                self.assertNotIn("Traceback", process.log)

    def test_after_message(self) -> None:
        """A signal after a drain begun by a message ends the node."""
        process = self.start(*RUNNERS["python"])
        process.send(message("tcp_shutdown", 2) + message("tcp_drain_status", 3))
        process.read_line()
        self.assertEqual(bodies(process.read_line())[0]["status"], "drained")
        process.signal()
        self.assertEqual(process.wait(), 0)

    def test_during_end_of_input(self) -> None:
        """A signal after the end of input joins the drain that goes on."""
        process = self.start_with_work(latency_ms=400)
        process.close_input()
        process.wait_for_log("standard input ended")
        process.signal()
        self.assertEqual(bodies(process.read_rest())[0]["type"], "tcp_request_ok")
        self.assertEqual(process.wait(), 0)

    def test_stopped_reactor(self) -> None:
        """A program that stops the reactor itself drains too."""
        process = Process(*RUNNERS["python"], *AWKWARDLY, env=awkward_environment("stop once running"))
        self.addCleanup(process.end)
        self.assertEqual(process.wait(), 0)
        self.assertIn("the reactor was stopped", process.log)
        self.assertIn("clean: 0 finished", process.log)

    def test_tidies_up(self) -> None:
        """Twistd's pidfile is removed, and other exit hooks run."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        command = [str(BIN / "twistd"), "-n", "--pidfile=node.pid", "node"]
        process = self.start(*command, *AWKWARDLY, env=awkward_environment(), cwd=folder)
        self.assertEqual((folder / "node.pid").read_text(), str(process.popen.pid))
        process.signal()
        self.assertEqual(process.wait(), 0)
        self.assertFalse((folder / "node.pid").exists())
        self.assertIn("an exit hook ran", process.log)


class MoreSignalsTests(SignalsTestCase):
    """The second signal cuts, the third kills."""

    def test_second_cuts(self) -> None:
        """A second signal half a second later has what is left answered as cut; status 1, whatever runs the node."""
        for name, runner in RUNNERS.items():
            process = self.start(*runner)
            process.send(message("tcp_request", 2, latency_ms=60_000) + message("tcp_drain_status", 3))
            process.read_line()
            process.signal()
            pause(ANOTHER)
            process.signal(signal.SIGINT)
            self.assertEqual(bodies(process.read_rest())[0]["error"], "drain_timeout")
            self.assertEqual(process.wait(), 1, name)
            self.assertNotIn("Traceback", process.log)

    def test_third_kills(self) -> None:
        """A third signal kills by itself, when a thread holds up the end."""
        processes = {number: self.start_awkwardly() for number in SIGNALS}
        for process in processes.values():
            process.send(message("thread", 2))
            process.wait_for_log("thread began")
        for _ in range(3):
            pause(ANOTHER)
            for number, process in processes.items():
                process.signal(number)
        for number, process in processes.items():
            self.assertEqual(process.wait(), -number)

    def test_lame_duck(self) -> None:
        """With a lame duck: one signal goes on serving, the next drains, the next cuts, the next kills."""
        process = self.start_with_work("--lame-duck", "30")
        process.signal()
        process.wait_for_log("lame duck for 30.0 s: SIGTERM")
        process.send(message("tcp_request", 4) + message("tcp_drain_status", 5))
        answers = by_request(bodies(process.read_line() + process.read_line()))
        self.assertEqual(answers[4]["type"], "tcp_request_ok")
        self.assertEqual(answers[5]["status"], "serving")
        pause(ANOTHER)
        process.signal()
        process.wait_for_log("draining")
        process.send(message("tcp_request", 6) + message("tcp_drain_status", 7))
        answers = by_request(bodies(process.read_line() + process.read_line()))
        self.assertEqual(answers[6]["error"], "server_shutting_down")
        self.assertEqual(answers[7]["status"], "draining")
        pause(ANOTHER)
        process.signal()
        self.assertEqual(by_request(bodies(process.read_rest()))[2]["error"], "drain_timeout")
        self.assertEqual(process.wait(), 1)

    def test_lame_duck_fourth_kills(self) -> None:
        """The fourth signal of a lame duck kills."""
        process = self.start_awkwardly(options=("--lame-duck", "30"))
        process.send(message("thread", 2))
        process.wait_for_log("thread began")
        for _ in range(4):
            process.signal()
            pause(ANOTHER)
        self.assertEqual(process.wait(), -signal.SIGTERM)

    def test_lame_duck_ends(self) -> None:
        """A lame duck drains by itself when its time is over."""
        process = self.start_with_work("--lame-duck", "0.3", latency_ms=500)
        process.signal()
        process.wait_for_log("draining")
        self.assertEqual(bodies(process.read_rest())[0]["type"], "tcp_request_ok")
        self.assertEqual(process.wait(), 0)

    def test_end_of_input_in_lame_duck(self) -> None:
        """A lame duck whose input ends need not wait for anybody."""
        process = self.start_with_work("--lame-duck", "30", latency_ms=300)
        process.signal()
        process.wait_for_log("lame duck")
        process.close_input()
        self.assertEqual(bodies(process.read_rest())[0]["type"], "tcp_request_ok")
        self.assertEqual(process.wait(), 0)


class SignalOnSocketsTests(SignalsTestCase):
    """The same on a socket."""

    def test_drains(self) -> None:
        """A signal has a client's request answered, and its connection closed cleanly, whatever runs the node."""
        for name, runner in RUNNERS.items():
            process = Process(*runner, "--listen", "tcp:0:interface=127.0.0.1")
            self.addCleanup(process.end)
            with connect(process.port()) as client:
                client.sendall(message("tcp_request", 2, latency_ms=150) + message("tcp_drain_status", 3))
                self.assertIn(b'"remaining": 1', client.recv(1000))
                process.signal()
                self.assertEqual(bodies(read_to_end(client))[0]["type"], "tcp_request_ok", name)
            self.assertEqual(process.wait(), 0, name)
            assert process.popen.stdout is not None
            self.assertEqual(process.popen.stdout.read(), b"")


class FirstProcessTests(SignalsTestCase):
    """Process 1 of a container, which the kernel spares from signals that it does not handle."""

    def start_first(self) -> Process:
        """Start a node as process 1 of a namespace."""
        isolate = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        if os.getuid():
            isolate[1:1] = ["--user", "--map-root-user"]
        tried = subprocess.run([*isolate, "true"], capture_output=True, check=False)
        if tried.returncode:
            raise SkipTest(f"no process namespace here: {tried.stderr.decode().strip()}")
        return self.start(*isolate, *RUNNERS["python"], *AWKWARDLY, env=awkward_environment())

    def signal_first(self, process: Process) -> None:
        """Signal the one child of unshare."""
        parent = process.popen.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)

    def test_drains(self) -> None:
        """It drains like any other."""
        process = self.start_first()
        process.send(message("tcp_request", 2, latency_ms=200) + message("tcp_drain_status", 3))
        process.read_line()
        self.signal_first(process)
        self.assertEqual(bodies(process.read_rest())[0]["type"], "tcp_request_ok")
        self.assertEqual(process.wait(), 0)

    def test_third_kills(self) -> None:
        """A third signal ends it with the status that a shell would show."""
        process = self.start_first()
        process.send(message("busy", 2))
        process.wait_for_log("busy began")
        for _ in range(3):
            pause(ANOTHER)
            self.signal_first(process)
        self.assertEqual(process.wait(), 128 + signal.SIGTERM)
