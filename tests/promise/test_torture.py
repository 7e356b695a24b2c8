"""The promise, under a storm: no request lost, none answered twice, exit status 0, and gone at once.

``storm`` says what counts as lost.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Certificates
from tests.support.lines import message
from tests.support.paths import short_folder
from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process
from tests.support.sockets import connect, connect_unix
from tests.support.storm import (
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
    StormClient,
)

EVERYBODY: dict[type[StormClient], int] = {
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
FEWER: dict[type[StormClient], int] = {
    Idle: 3,
    InFlight: 5,
    Pipelined: 2,
    HalfLine: 3,
    HalfClosed: 3,
    SlowReader: 2,
    KeptAlive: 5,
    Reconnecting: 5,
    Late: 2,
}
NOTHING_IN_FLIGHT: dict[type[StormClient], int] = {
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
        process = Process(*RUNNERS[runner], *options, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.addCleanup(process.end)
        return process

    def storm(self, process: Process, connect: Connect, kinds: dict[type[StormClient], int], stop: object) -> None:
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
        process.wait_for_log("draining, at most")
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
        self.assertLessEqual(set(late), {"refused"})
        self.assertEqual(status, 0, process.log)
        self.assertRegex(process.log, r"clean: .* 0 cut")

    def tcp(self, *options: str, runner: str = "python") -> tuple[Process, Connect, int]:
        """Start a node on TCP; return it, the way to its listen endpoint, and its control port."""
        local = "interface=127.0.0.1:backlog=1024"
        process = self.start("--listen", f"tcp:0:{local}", "--control", f"tcp:0:{local}", *options, runner=runner)
        port, control = process.ports(2)
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

    def test_twistd(self) -> None:
        """The same under twistd."""
        process, connect_to_it, _ = self.tcp(runner="twistd")
        self.storm(process, connect_to_it, EVERYBODY, process.signal)

    def test_unix(self) -> None:
        """The same on a unix socket, with fewer clients."""
        path = str(short_folder(self) / "socket")
        process = self.start("--listen", f"unix:{path}:backlog=1024")
        process.wait_for_log("listening on /")
        self.storm(process, lambda: connect_unix(path), FEWER, process.signal)
        self.assertFalse(Path(path).exists())

    def test_tls(self) -> None:
        """The same over TLS, with fewer clients; none half-closes, for TLS cannot."""
        certificates = Certificates(Path(self.mktemp()))
        process = self.start("--listen", f"ssl:0:interface=127.0.0.1:backlog=1024:privateKey={certificates.server}")
        port, context = process.port(), certificates.client_context()

        def connect_tls() -> socket.socket:
            return context.wrap_socket(connect(port), server_hostname="127.0.0.1", suppress_ragged_eofs=False)

        kinds = {kind: count for kind, count in FEWER.items() if kind is not HalfClosed}
        self.storm(process, connect_tls, kinds, process.signal)

    def test_haproxy(self) -> None:
        """The same behind a balancer that speaks HAProxy's protocol, with fewer clients."""
        process = self.start("--listen", "haproxy:tcp:0:interface=127.0.0.1:backlog=1024")
        port = process.port()

        def connect_by_proxy() -> socket.socket:
            connection = connect(port)
            connection.sendall(b"PROXY TCP4 127.0.0.2 127.0.0.1 1234 80\r\n")
            return connection

        self.storm(process, connect_by_proxy, FEWER, process.signal)
