"""The promise, under a storm: no request lost, none answered twice, exit status 0, and gone at once.

``storm`` says what counts as lost.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import threading
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.storm import (
    Client,
    Connect,
    HalfClosed,
    HalfLine,
    Idle,
    InFlight,
    KeptAlive,
    Late,
    Pipelined,
    PipelinedQuick,
    Reconnecting,
    SlowReader,
    Storm,
)
from tests.support import PATIENCE, RUNNERS, Process, connect, message, read_to_end

EVERYBODY: dict[type[Client], int] = {
    Idle: 10,
    InFlight: 25,
    Pipelined: 10,
    HalfLine: 10,
    HalfClosed: 10,
    SlowReader: 5,
    KeptAlive: 15,
    Reconnecting: 25,
    Late: 5,
}
NOTHING_IN_FLIGHT: dict[type[Client], int] = {
    Idle: 10,
    PipelinedQuick: 10,
    HalfLine: 10,
    KeptAlive: 30,
    Reconnecting: 40,
    Late: 5,
}


class TortureTests(SynchronousTestCase):
    """A real process, at least 100 clients, stopped at a random moment."""

    def start(self, *options: str, runner: str = "python") -> Process:
        """Start a node."""
        process = Process(*RUNNERS[runner], *options, stdin=None, stdout=None)
        self.addCleanup(process.end)
        return process

    def storm(self, process: Process, connect: Connect, kinds: dict[type[Client], int], stop: object) -> None:
        """Let the storm loose on the process, stop it, and hold it to the promise."""
        storm = Storm(connect, kinds)
        ended: list[float] = []

        def watch() -> None:
            os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOWAIT)
            ended.append(time.monotonic())

        watcher = threading.Thread(target=watch)
        watcher.start()
        storm.begin()
        threading.Event().wait(random.uniform(0, 0.15))
        assert callable(stop)
        stop()
        storm.stop.set()
        storm.finish()
        watcher.join(PATIENCE)
        status = process.wait()
        lag = (ended[0] - storm.last_answer) * 1000
        crossed = sum(client.crossed for client in storm.clients)
        answers = sum(len(client.answers) for client in storm.clients)
        print(f"{len(storm.clients)} clients, {answers} answers, {crossed} crossed, gone {lag:.1f} ms after the last")
        self.assertEqual(storm.lost(), [], process.log)
        self.assertEqual([c for c in storm.clients if c.end not in ("closed", "refused")], [], process.log)
        late = [client.end for client in storm.clients if isinstance(client, Late)]
        self.assertEqual(set(late), {"refused"})
        self.assertEqual(status, 0, process.log)
        self.assertRegex(process.log.splitlines()[-2 if "Main loop" in process.log else -1], "clean: .* 0 cut")

    def tcp(self, *options: str) -> tuple[Process, Connect, int]:
        """Start a node on TCP; return it, the way to its listen endpoint, and its control port."""
        local = "interface=127.0.0.1:backlog=1024"
        process = self.start("--listen", f"tcp:0:{local}", "--control", f"tcp:0:{local}", *options)
        process.wait_for_log("(?s)listening on IPv4.*listening on IPv4")
        first, second = [line for line in process.log.splitlines() if "listening on IPv4" in line][:2]
        port, control = (int(line.split("port=")[1].rstrip(")")) for line in (first, second))
        return process, lambda: connect(port), control

    def test_tcp_by_signal(self) -> None:
        """Stopped by SIGTERM, three times."""
        for _ in range(3):
            process, connect_to_it, _ = self.tcp()
            self.storm(process, connect_to_it, EVERYBODY, process.signal)

    def test_tcp_by_message(self) -> None:
        """Stopped by a message on the control endpoint, twice."""
        for _ in range(2):
            process, connect_to_it, control = self.tcp()

            def stop(control: int = control) -> None:
                with connect(control) as connection:
                    connection.sendall(message("tcp_shutdown"))
                    self.assertIn(b"tcp_shutdown_ok", connection.recv(65536))

            self.storm(process, connect_to_it, EVERYBODY, stop)

    def test_tcp_with_nothing_in_flight(self) -> None:
        """Stopped by SIGTERM while new connections storm in and nothing is in flight, twice."""
        for _ in range(2):
            process, connect_to_it, _ = self.tcp()
            self.storm(process, connect_to_it, NOTHING_IN_FLIGHT, process.signal)
