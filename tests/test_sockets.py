"""What a client of a socket sees, from a real process."""

from __future__ import annotations

import json
import resource
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Certificates
from tests.support import (
    PATIENCE,
    RUNNERS,
    Process,
    bodies,
    by_request,
    connect,
    connect_unix,
    fill,
    message,
    read_to_end,
    wait_until,
)

LOCAL = "interface=127.0.0.1:backlog=1024"


class SocketsTestCase(SynchronousTestCase):
    """Starts nodes on sockets."""

    def start(self, *options: str, **keywords: Any) -> Process:
        """Start a node."""
        process = Process(*RUNNERS["python"], *options, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **keywords)
        self.addCleanup(process.end)
        return process

    def listen(self, *options: str) -> tuple[Process, int]:
        """Start a node with a listen endpoint; return it and its port."""
        process = self.start("--listen", f"tcp:0:{LOCAL}", *options)
        return process, process.port()

    def control(self, *options: str) -> tuple[Process, int]:
        """Start a node with a control endpoint; return it and its port."""
        process = self.start("--control", f"tcp:0:{LOCAL}", *options)
        return process, process.port()

    def connect(self, port: int) -> socket.socket:
        """Connect to a node."""
        connection = connect(port)
        self.addCleanup(connection.close)
        return connection

    def ask(self, connection: socket.socket, line: bytes) -> dict[str, Any]:
        """Send a line and read the one that answers it."""
        connection.sendall(line)
        return self.read(connection)

    def read(self, connection: socket.socket) -> dict[str, Any]:
        """Read one line."""
        data = b""
        while not data.endswith(b"\n"):
            byte = connection.recv(1)
            self.assertTrue(byte, "closed")
            data += byte
        body: dict[str, Any] = json.loads(data)["body"]
        return body


class QueueTests(SocketsTestCase):
    """Connections that nobody has accepted yet when the drain begins."""

    def check(self, process: Process, connect_to_it: Callable[[], socket.socket], *, tls: bool = False) -> None:
        """Have clients wait in the queue of a stopped process, tell it to drain, and let it go on."""
        process.signal(signal.SIGSTOP)
        waiting = [connect_to_it() for _ in range(40)]
        answers: list[list[dict[str, Any]]] = []

        def talk(connection: socket.socket, number: int) -> None:
            if tls:
                connection = CONTEXT[0].wrap_socket(connection, server_hostname="127.0.0.1")
            connection.sendall(message("tcp_request", number, latency_ms=50))
            with connection:
                answers.append(bodies(read_to_end(connection)))

        process.signal(signal.SIGTERM)
        # Half of them have sent nothing yet: the kernel's queue holds them as well.
        threads = [threading.Thread(target=talk, args=(c, n)) for n, c in enumerate(waiting)]
        for thread in threads[:20]:
            thread.start()
        process.signal(signal.SIGCONT)
        for thread in threads[20:]:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        expected = {"type": "tcp_request_error", "error": "server_shutting_down"}
        self.assertEqual(len(answers), 40, process.log)
        for answer in answers:
            self.assertEqual([{k: a[k] for k in expected} for a in answer], [expected])
        self.assertEqual(process.wait(), 0, process.log)

    def test_tcp(self) -> None:
        """On TCP each of them is accepted and refused in so many words; a plain close would reset them all."""
        process, port = self.listen()
        self.check(process, lambda: connect(port))

    def test_tcp6(self) -> None:
        """The same over IPv6."""
        process = self.start("--listen", r"tcp6:0:interface=\:\:1:backlog=1024")
        port = int(process.wait_for_log(r"listening on \[.*\]:(\d+)")[1])
        self.check(process, lambda: socket.create_connection(("::1", port), timeout=PATIENCE))

    def test_unix(self) -> None:
        """The same on a unix socket."""
        path = str(Path(self.mktemp()).absolute())
        process = self.start("--listen", f"unix:{path}:backlog=1024")
        process.wait_for_log("listening on /")
        self.check(process, lambda: connect_unix(path))

    def test_tls(self) -> None:
        """The same over TLS, whose handshake is done after that."""
        certificates = Certificates(Path(self.mktemp()))
        process = self.start("--listen", f"ssl:0:{LOCAL}:privateKey={certificates.server}")
        port = process.port()
        CONTEXT[0] = certificates.client_context()
        self.check(process, lambda: connect(port), tls=True)

    def test_later_ones_are_refused(self) -> None:
        """Who connects 50 ms into the drain is refused by the kernel, while another request is in flight."""
        process, port = self.listen()
        connection = self.connect(port)
        connection.sendall(message("tcp_request", 1, latency_ms=700))
        self.ask(connection, message("tcp_request", 2))
        process.signal()
        process.wait_for_log("draining")
        threading.Event().wait(0.05)
        self.assertRaises(ConnectionRefusedError, connect, port)
        self.assertEqual(self.read(connection)["type"], "tcp_request_ok")
        self.assertEqual(process.wait(), 0)


#: The TLS context of the test that runs.
CONTEXT: list[ssl.SSLContext] = [ssl.create_default_context()]


class ControlTests(SocketsTestCase):
    """Who may stop a node, and how it ends then."""

    def test_listen_may_not(self) -> None:
        """On a listen endpoint tcp_shutdown and init are not supported, and change nothing; status works."""
        _, port = self.listen()
        connection = self.connect(port)
        self.assertEqual(self.ask(connection, message("tcp_shutdown", 1))["code"], 10)
        self.assertEqual(self.ask(connection, message("init", 2, node_id="n1", node_ids=["n1"]))["code"], 10)
        status = self.ask(connection, message("tcp_drain_status", 3))
        self.assertEqual((status["status"], status["remaining"], status["took_ms"]), ("serving", 0, 0))
        self.assertEqual(self.ask(connection, message("tcp_request", 4))["type"], "tcp_request_ok")

    def test_control_drains_and_ends(self) -> None:
        """tcp_shutdown drains; its connection can ask until it closes, and then the process is gone."""
        process, port = self.control()
        worker, control = self.connect(port), self.connect(port)
        worker.sendall(message("tcp_request", 1, latency_ms=300))
        wait_until(lambda: self.ask(control, message("tcp_drain_status", 1))["remaining"] == 1)
        answer = self.ask(control, message("tcp_shutdown", 2, drain_timeout_ms=5000))
        self.assertEqual((answer["status"], answer["in_flight"]), ("draining", 1))
        self.assertEqual(self.ask(control, message("tcp_drain_status", 3))["status"], "draining")
        self.assertEqual([b["type"] for b in bodies(read_to_end(worker))], ["tcp_request_ok"])
        status = self.ask(control, message("tcp_drain_status", 4))
        self.assertEqual((status["status"], status["remaining"]), ("drained", 0))
        self.assertTrue(200 <= status["took_ms"] <= 1000, status)
        self.assertEqual(self.ask(control, message("tcp_drain_status", 5))["took_ms"], status["took_ms"])
        self.assertIsNone(process.popen.poll())
        control.close()
        self.assertEqual(process.wait(), 0)

    def test_control_is_kept_for_the_linger(self) -> None:
        """A control connection that stays open holds the process for the linger after the drain's end."""
        process, port = self.control("--linger", "0.5")
        control = self.connect(port)
        began = time.monotonic()
        self.ask(control, message("tcp_shutdown", 2))
        self.assertEqual(process.wait(), 0)
        self.assertTrue(0.5 <= time.monotonic() - began < 2)

    def test_signal_waits_for_no_control_connection(self) -> None:
        """A signal ends a process that is held by a control connection only."""
        process, port = self.control()
        control = self.connect(port)
        self.ask(control, message("tcp_shutdown", 2))
        process.signal()
        self.assertEqual(read_to_end(control), b"")
        control.close()
        self.assertEqual(process.wait(5), 0)

    def test_timed_out(self) -> None:
        """What is cut is answered at once, the status says how many, and the exit status is 1."""
        process, port = self.control()
        worker, control = self.connect(port), self.connect(port)
        worker.sendall(message("tcp_request", 1, latency_ms=60000) + message("tcp_request", 2, latency_ms=60000))
        wait_until(lambda: self.ask(control, message("tcp_drain_status", 1))["remaining"] == 2)
        self.ask(control, message("tcp_shutdown", 2, drain_timeout_ms=100))
        self.assertEqual([b["error"] for b in bodies(read_to_end(worker))], ["drain_timeout"] * 2)
        status = self.ask(control, message("tcp_drain_status", 3))
        self.assertEqual((status["status"], status["remaining"]), ("timed_out", 2))
        control.close()
        worker.close()
        self.assertEqual(process.wait(), 1)
        self.assertIn("2 cut by the deadline; the oldest: tcp_request 1 from c1", process.log)
        self.assertIn("cut: 0 finished, 0 refused, 2 cut", process.log)


class LimitTests(SocketsTestCase):
    """What a client cannot do to the others."""

    def test_max_connections(self) -> None:
        """The connection beyond the limit gets one error line and a clean close; control does not count."""
        process = self.start("--listen", f"tcp:0:{LOCAL}", "--control", f"tcp:0:{LOCAL}", "--max-connections", "2")
        port, control = process.ports(2)
        self.ask(self.connect(control), message("tcp_request"))
        first, second = self.connect(port), self.connect(port)
        for connection in (first, second):
            self.assertEqual(self.ask(connection, message("tcp_request"))["type"], "tcp_request_ok")
        third = self.connect(port)
        third.sendall(message("tcp_request") * 100)
        answers = bodies(read_to_end(third))
        self.assertEqual([(a["type"], a["code"]) for a in answers], [("error", 11)])
        first.close()
        third.close()

        def room() -> bool:
            with connect(port) as connection:
                return bool(self.ask(connection, message("tcp_request"))["type"] == "tcp_request_ok")

        wait_until(room)

    def test_max_in_flight(self) -> None:
        """The request beyond the limit is answered temporarily unavailable, and the others go on."""
        _, port = self.listen("--max-in-flight", "2")
        connection = self.connect(port)
        connection.sendall(b"".join(message("tcp_request", n, latency_ms=100) for n in (1, 2, 3)))
        answers = by_request(self.read(connection) for _ in range(3))
        self.assertEqual(answers[3]["code"], 11)
        self.assertEqual({answers[1]["type"], answers[2]["type"]}, {"tcp_request_ok"})

    def test_idle_timeout(self) -> None:
        """An idle connection is closed; half a line trickling in counts as idle, a request in flight does not."""
        _, port = self.listen("--idle-timeout", "0.3")
        idle, trickling, busy = self.connect(port), self.connect(port), self.connect(port)
        busy.sendall(message("tcp_request", 1, latency_ms=900))
        trickling.settimeout(0.05)
        closed = False
        deadline = time.monotonic() + PATIENCE
        while not closed and time.monotonic() < deadline:
            trickling.sendall(b"x")
            try:
                closed = trickling.recv(100) == b""
            except TimeoutError:
                continue
        self.assertTrue(closed)
        self.assertEqual(read_to_end(idle), b"")
        self.assertEqual(self.read(busy)["type"], "tcp_request_ok")

    def test_junk(self) -> None:
        """A client that sends junk is told so, costs the others nothing, and fills no log."""
        process, port = self.listen("--max-line", "100")
        junk, other = self.connect(port), self.connect(port)
        count = 2000
        junk.sendall((b"junk\n" + b"x" * 150 + b"\n") * count)
        answers = [self.read(junk) for _ in range(2 * count)]
        self.assertEqual({(a["type"], a["code"]) for a in answers}, {("error", 12)})
        self.assertEqual(self.ask(other, message("tcp_request"))["type"], "tcp_request_ok")
        self.assertLess(process.log.count("unreadable"), 10)

    def test_client_that_does_not_read(self) -> None:
        """A client that does not read is not read from, and costs a bounded amount of memory."""
        process, port = self.listen()
        # Little room in the kernel, so that it is the process that would have to hold the rest.
        connection = socket.socket()
        self.addCleanup(connection.close)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.connect(("127.0.0.1", port))
        connection.settimeout(1)
        before = memory(process)
        lines = b"".join(message("tcp_request", n, src="s" * 900) for n in range(50))
        sent = 0
        try:
            while sent < 200_000_000:
                sent += connection.send(lines)
        except TimeoutError:
            pass
        self.assertLess(sent, 50_000_000)
        self.assertLess(memory(process) - before, 2_000_000)
        self.assertEqual(self.ask(self.connect(port), message("tcp_request"))["type"], "tcp_request_ok")

    def test_ten_thousand_connections(self) -> None:
        """10,000 connections are held, each answers, and they are gone in well under a second."""
        wanted = 10_000
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < wanted + 500:
            wanted = hard - 500
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 400), hard))
        process, port = self.listen("--max-connections", str(wanted), "--linger", "30")
        connections = [self.connect(port) for _ in range(wanted)]
        for connection in connections:
            connection.sendall(message("tcp_request"))
        for connection in connections:
            self.assertTrue(connection.recv(1000))
        began = time.monotonic()
        process.signal()
        for connection in connections:
            self.assertEqual(connection.recv(1000), b"")
            connection.close()
        self.assertEqual(process.wait(), 0)
        print(f"{wanted} connections gone {time.monotonic() - began:.2f} s after the signal")


class EndTests(SocketsTestCase):
    """How connections end."""

    def drain(self, process: Process) -> tuple[int, float]:
        """Stop a process; return its status and how long that took, in seconds."""
        began = time.monotonic()
        process.signal()
        status = process.wait()
        return status, time.monotonic() - began

    def test_idle_clients_that_close(self) -> None:
        """1,000 idle connections whose clients close when we do are gone in well under a second."""
        process, port = self.listen("--linger", "30")
        connections = [self.connect(port) for _ in range(1000)]
        self.ask(connections[-1], message("tcp_request"))
        closer = threading.Thread(target=lambda: [read_to_end(c) or c.close() for c in connections])  # type: ignore[func-returns-value] # both are wanted
        closer.start()
        status, took = self.drain(process)
        closer.join(PATIENCE)
        self.assertEqual(status, 0)
        self.assertLess(took, 1)
        print(f"1,000 idle connections gone {took * 1000:.0f} ms after the signal")

    def test_idle_clients_that_stay(self) -> None:
        """1,000 that do not close cost the linger once, all together."""
        process, port = self.listen("--linger", "1")
        connections = [self.connect(port) for _ in range(1000)]
        self.ask(connections[-1], message("tcp_request"))
        status, took = self.drain(process)
        self.assertEqual(status, 0)
        self.assertTrue(1 <= took < 2.5, took)

    def test_slow_reader(self) -> None:
        """A slow reader gets everything, much of it from this process after the drain has ended."""
        process, port = self.listen("--control", f"tcp:0:{LOCAL}")
        control = process.ports(2)[1]
        connection = self.connect(port)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        wanted = 10_000
        connection.sendall(b"".join(message("tcp_request", n, src="s" * 900, latency_ms=2000) for n in range(wanted)))
        status = self.connect(control)
        wait_until(lambda: self.ask(status, message("tcp_drain_status"))["remaining"] == wanted)
        process.signal()
        # An idle connection is closed when the drain has ended.
        self.assertEqual(read_to_end(status), b"")
        status.close()
        self.assertIsNone(process.popen.poll())
        answers = by_request(bodies(read_to_end(connection)))
        connection.close()
        self.assertEqual(len(answers), wanted)
        self.assertEqual(process.wait(), 0, process.log)

    def test_input_behind_a_pause(self) -> None:
        """What a client has sent while it was not read from, for it did not read, is answered too when it reads on."""
        process, port = self.listen("--linger", "5")
        connection = socket.socket()
        self.addCleanup(connection.close)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.connect(("127.0.0.1", port))
        sent = fill(connection)
        process.signal()
        process.wait_for_log("draining, at most")
        connection.settimeout(PATIENCE)
        answers = by_request(bodies(read_to_end(connection)))
        connection.close()
        self.assertGreaterEqual(len(answers), sent)
        self.assertEqual({answer["type"] for answer in answers.values()}, {"tcp_drain_status_ok"})
        self.assertEqual(process.wait(), 0, process.log)

    def test_client_that_never_reads(self) -> None:
        """A client that never reads costs no more than the deadline; its answers count as cut."""
        process, port = self.listen("--drain-timeout", "1", "--linger", "0.5")
        connection = socket.socket()
        self.addCleanup(connection.close)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.settimeout(0.5)
        try:
            while True:
                connection.send(b"".join(message("tcp_request", n, src="s" * 900) for n in range(50)))
        except TimeoutError:
            pass
        status, took = self.drain(process)
        self.assertEqual(status, 1)
        self.assertTrue(1 <= took < 3, took)
        self.assertIn("1 connections closed by the deadline with answers that their clients did not read", process.log)

    def test_client_killed(self) -> None:
        """A client that is gone in the middle of its answers is counted as undelivered, and the exit is clean."""
        process, port = self.listen()
        connection = self.connect(port)
        connection.sendall(message("tcp_request", 1, latency_ms=500) * 3)
        self.ask(connection, message("tcp_request", 2))
        # A reset, as from a client that was killed with data unread.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        status, _ = self.drain(process)
        self.assertEqual(status, 0)
        self.assertRegex(process.log, "clean: 4 finished, 0 refused, 0 cut, 3 undelivered")

    def test_answer_of_the_last_turn(self) -> None:
        """What is written in the turn in which the last request is answered reaches its client whole."""
        process, port = self.control("--linger", "0.3")
        connection = self.connect(port)
        lines = b"".join(message("tcp_request", n, latency_ms=60000) for n in range(5000))
        threading.Thread(
            target=connection.sendall, args=(lines + message("tcp_shutdown", 9999, drain_timeout_ms=0),)
        ).start()
        answers = by_request(bodies(read_to_end(connection)))
        self.assertEqual(len(answers), 5001)
        self.assertEqual(answers[9999]["in_flight"], 5000)
        self.assertEqual(process.wait(), 1)

    def test_client_certificates(self) -> None:
        """A control endpoint that wants client certificates serves whoever has one, and nobody else."""
        certificates = Certificates(Path(self.mktemp()))
        process = self.start(
            "--control",
            f"ssl:0:privateKey={certificates.server}:clientCA={certificates.authority}",
        )
        port = process.port()
        context = certificates.client_context(with_certificate=True)
        with context.wrap_socket(connect(port), server_hostname="127.0.0.1") as known:
            known.sendall(message("tcp_drain_status"))
            self.assertEqual(bodies(known.recv(1000))[0]["status"], "serving")
        unknown = certificates.client_context().wrap_socket(connect(port), server_hostname="127.0.0.1")
        with unknown:
            # In TLS 1.3 the client learns of its rejection when it reads.
            unknown.sendall(message("tcp_drain_status"))
            self.assertRaises(ssl.SSLError, unknown.recv, 1)
        self.assertNotIn("without client certificates", process.log)


def memory(process: Process) -> int:
    """The resident memory of a process, in bytes."""
    with open(f"/proc/{process.popen.pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
