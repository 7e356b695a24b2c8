"""By when a stop is over, and what its log says."""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.request

from tests.support.lines import INIT, INIT_OK, bodies, message
from tests.support.processes import RUNNERS, Process
from tests.support.servers import ANY_PORT, ServerTestCase

#: A request that is in flight when a test is over.
ENDLESS = message("tcp_request", 1, latency_ms=60_000)


class LameDuckStopTests(ServerTestCase):
    """A stop with a lame duck has its deadline from its first signal, whoever begins the drain."""

    def stop(self) -> tuple[Process, float, int, int]:
        """Begin a stop of 1 s each of lame duck and drain, with a request of a minute in flight.

        Returns:
            The process, when it was told to end, and its ports: admin and control.
        """
        process, admin = self.start_node(
            "--lame-duck", "1", "--drain-timeout", "1", "--control", ANY_PORT, "--admin", ANY_PORT, "--admin-drain"
        )
        control = process.ports(2)[1]
        client = self.connect(control)
        client.sendall(ENDLESS + message("tcp_request", 2))
        self.assertEqual(bodies(client.recv(1000))[0]["in_reply_to"], 2)
        told = time.monotonic()
        process.signal()
        process.wait_for_log("lame duck for 1")
        return process, told, admin, control

    def assert_ends_in_time(self, process: Process, told: float) -> None:
        """The process is gone when it should be, and cut what was left."""
        self.assertEqual(process.wait(), 1, process.log)
        took = time.monotonic() - told
        # The 12 s that were asked for later would take longer.
        self.assertTrue(2 <= took < 12, took)

    def test_message(self) -> None:
        """A tcp_shutdown with a longer timeout does not push it away."""
        process, told, _, port = self.stop()
        control = self.connect(port)
        control.sendall(message("tcp_shutdown", 3, drain_timeout_ms=12_000))
        self.assertEqual(bodies(control.recv(1000))[0]["type"], "tcp_shutdown_ok")
        self.assert_ends_in_time(process, told)

    def test_admin(self) -> None:
        """Nor does a drain that is asked for over HTTP."""
        process, told, port, _ = self.stop()
        asking = urllib.request.Request(f"http://127.0.0.1:{port}/drain?timeout=12", method="POST")
        with urllib.request.urlopen(asking) as answer:
            self.assertEqual(answer.status, 202)
        self.assert_ends_in_time(process, told)


class StopLogTests(ServerTestCase):
    """What an operator reads."""

    def test_second_signal(self) -> None:
        """A second signal is named as what cut, and all that tells of the loss is a warning."""
        process, port = self.node()
        client = self.connect(port)
        client.sendall(ENDLESS + message("tcp_request", 2))
        self.assertEqual(bodies(client.recv(1000))[0]["in_reply_to"], 2)
        process.signal()
        process.wait_for_log("1 in flight")
        with self.assertRaises(subprocess.TimeoutExpired):
            # One that comes sooner counts as the same.
            process.popen.wait(0.6)
        process.signal(signal.SIGINT)
        self.assertEqual(process.wait(), 1)
        self.assertRegex(process.log, r"#warn\] 1 cut by a second SIGINT; the oldest: tcp_request 1 from c1")
        self.assertRegex(process.log, r"#warn\] cut: 1 finished, 0 refused, 1 cut, 0 undelivered, in ")
        self.assertIn(f"listening on 127.0.0.1:{port}\n", process.log)

    def test_standard_input(self) -> None:
        """On standard input nothing is said of a queue."""
        process = Process(*RUNNERS["python"])
        self.addCleanup(process.end)
        # While the reactor starts, its own handler takes the signal, and the reason is another.
        process.send(INIT)
        self.assertEqual(process.read_line(), INIT_OK)
        process.signal()
        self.assertEqual(process.wait(), 0)
        self.assertRegex(process.log, r"draining, at most 2[45]\.\d s: SIGTERM; 0 in flight\n")
