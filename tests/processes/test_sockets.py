"""What a client of a socket sees, from a real process."""

from __future__ import annotations

import resource
import signal
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.certificates import Certificates
from tests.support.lines import bodies, by_request, message
from tests.support.paths import short_folder
from tests.support.patience import PATIENCE, wait_until
from tests.support.processes import Process
from tests.support.sockets import LOCAL, SocketsTestCase, connect, connect_unix, fill, read_to_end


class QueueTests(SocketsTestCase):
    """Connections that nobody has accepted yet when the drain begins."""

    def check(self, process: Process, connect_to_it: Callable[[], socket.socket]) -> None:
        """Have clients wait in the queue of a stopped process, tell it to drain, and let it go on."""
        # It has begun to serve: a signal before that would be handled behind the first requests.
        with connect_to_it() as first:
            self.ask(first, message("tcp_drain_status"))
        process.signal(signal.SIGSTOP)
        waiting = [connect_to_it() for _ in range(40)]
        requests = [message("tcp_request", number, latency_ms=50) for number in range(40)]
        process.signal(signal.SIGTERM)
        # Half of them have sent nothing yet: the kernel's queue holds them as well.
        for connection, request in zip(waiting[:20], requests[:20], strict=True):
            connection.sendall(request)
        process.signal(signal.SIGCONT)
        for connection, request in zip(waiting[20:], requests[20:], strict=True):
            connection.sendall(request)
        for connection in waiting:
            with connection:
                self.check_refused(read_to_end(connection))
        self.assertEqual(process.wait(), 0, process.log)

    def check_refused(self, output: bytes) -> None:
        """The one answer says why."""
        expected = {"type": "tcp_request_error", "error": "server_shutting_down"}
        self.assertEqual([{key: body[key] for key in expected} for body in bodies(output)], [expected])

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
        path = str(short_folder(self) / "socket")
        process = self.start("--listen", f"unix:{path}:backlog=1024")
        process.wait_for_log("listening on /")
        self.check(process, lambda: connect_unix(path))

    def test_tls(self) -> None:
        """The same over TLS, whose handshake is done after that."""
        certificates = Certificates(Path(self.mktemp()))
        process = self.start("--listen", f"ssl:0:{LOCAL}:privateKey={certificates.server}")
        port = process.port()
        context = certificates.client_context()
        with context.wrap_socket(connect(port), server_hostname="127.0.0.1") as first:
            self.ask(first, message("tcp_drain_status"))
        process.signal(signal.SIGSTOP)
        # Few, for all handshakes have to be done within the tenth of a second that a new client is given.
        waiting = [connect(port) for _ in range(4)]
        outputs: list[bytes] = []

        def talk(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_hostname="127.0.0.1") as wrapped:
                wrapped.sendall(message("tcp_request", latency_ms=50))
                outputs.append(read_to_end(wrapped))

        process.signal(signal.SIGTERM)
        threads = [threading.Thread(target=talk, args=(connection,)) for connection in waiting]
        for thread in threads[:2]:
            thread.start()
        process.signal(signal.SIGCONT)
        for thread in threads[2:]:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual(len(outputs), len(waiting), process.log)
        for output in outputs:
            self.check_refused(output)
        self.assertEqual(process.wait(), 0, process.log)

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


class ControlConnectionTests(SocketsTestCase):
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
        asked = time.monotonic()
        worker.sendall(message("tcp_request", 1, latency_ms=2000))
        wait_until(lambda: self.ask(control, message("tcp_drain_status", 1))["remaining"] == 1)
        answer = self.ask(control, message("tcp_shutdown", 2, drain_timeout_ms=5000))
        draining = time.monotonic()
        self.assertEqual((answer["status"], answer["in_flight"]), ("draining", 1))
        self.assertEqual(self.ask(control, message("tcp_drain_status", 3))["status"], "draining")
        self.assertEqual([b["type"] for b in bodies(read_to_end(worker))], ["tcp_request_ok"])
        status = self.ask(control, message("tcp_drain_status", 4))
        self.assertEqual((status["status"], status["remaining"]), ("drained", 0))
        # It began before its answer came, and ended when the request of 2 s did. (1 ms for rounding.)
        least, most = (asked + 2 - draining) * 1000 - 1, (time.monotonic() - asked) * 1000 + 1
        self.assertTrue(least <= status["took_ms"] <= most, (least, status, most))
        self.assertEqual(self.ask(control, message("tcp_drain_status", 5))["took_ms"], status["took_ms"])
        self.assertIsNone(process.popen.poll())
        control.close()
        self.assertEqual(process.wait(), 0)

    def test_signal_waits_for_no_control_connection(self) -> None:
        """A signal ends a process that is held by a control connection only."""
        process, port = self.control()
        control = self.connect(port)
        self.ask(control, message("tcp_shutdown", 2))
        process.signal()
        self.assertEqual(read_to_end(control), b"")
        control.close()
        self.assertEqual(process.wait(), 0)

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


class ClientLimitTests(SocketsTestCase):
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
        _, port = self.listen("--idle-timeout", "0.5")
        idle, trickling, busy = self.connect(port), self.connect(port), self.connect(port)
        busy.sendall(message("tcp_request", 1, latency_ms=1500))
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


class EndTests(SocketsTestCase):
    """How connections end."""

    def test_slow_reader(self) -> None:
        """A slow reader gets everything, much of it from this process after the drain has ended."""
        process, port = self.listen("--control", f"tcp:0:{LOCAL}")
        control = process.ports(2)[1]
        connection = self.connect(port)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        wanted = 10_000
        # So late that all are sent before the first answer, on a busy machine too: nobody reads until then.
        connection.sendall(b"".join(message("tcp_request", n, src="s" * 900, latency_ms=6000) for n in range(wanted)))
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

    def test_client_killed(self) -> None:
        """A client that is gone in the middle of its answers is counted as undelivered, and the exit is clean."""
        process, port = self.listen()
        connection = self.connect(port)
        connection.sendall(message("tcp_request", 1, latency_ms=1500) * 3)
        self.ask(connection, message("tcp_request", 2))
        # A reset, as from a client that was killed with data unread.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        process.signal()
        self.assertEqual(process.wait(), 0, process.log)
        self.assertRegex(process.log, "clean: 4 finished, 0 refused, 0 cut, 3 undelivered")

    def test_answer_of_the_last_turn(self) -> None:
        """What is written in the turn in which the last request is answered reaches its client whole."""
        process, port = self.control("--linger", "0.3")
        connection = self.connect(port)
        # More than one call to the kernel takes, and few enough to be cut in time on a busy machine.
        count = 1500
        lines = b"".join(message("tcp_request", n, latency_ms=60000) for n in range(count))
        threading.Thread(
            target=connection.sendall, args=(lines + message("tcp_shutdown", 9999, drain_timeout_ms=0),)
        ).start()
        answers = by_request(bodies(read_to_end(connection)))
        self.assertEqual(len(answers), count + 1)
        self.assertEqual(answers[9999]["in_flight"], count)
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
