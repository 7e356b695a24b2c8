"""How soon the connections of a process have ended."""

from __future__ import annotations

import resource
import socket
import threading
import time

from tests.support.lines import message
from tests.support.patience import PATIENCE, Stopwatch
from tests.support.processes import Process
from tests.support.sockets import SocketsTestCase, read_to_end


class EndInTimeTests(SocketsTestCase):
    """The time from a signal to the end."""

    def test_control_is_kept_for_the_linger(self) -> None:
        """A control connection that stays open holds the process for the linger after the drain's end."""
        process, port = self.control("--linger", "0.5")
        control = self.connect(port)
        with Stopwatch() as watch:
            self.ask(control, message("tcp_shutdown", 2))
            self.assertEqual(process.wait(), 0)
        self.assertTrue(0.5 <= watch.seconds < watch.allow(2), watch.seconds)

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

    def drain(self, process: Process) -> tuple[int, Stopwatch]:
        """Stop a process; return its status and how long that took."""
        with Stopwatch() as watch:
            process.signal()
            status = process.wait()
        return status, watch

    def test_idle_clients_that_close(self) -> None:
        """1,000 idle connections whose clients close when we do are gone in well under a second."""
        process, port = self.listen("--linger", "30")
        connections = [self.connect(port) for _ in range(1000)]
        self.ask(connections[-1], message("tcp_request"))
        closer = threading.Thread(target=lambda: [read_to_end(c) or c.close() for c in connections])  # type: ignore[func-returns-value] # both are wanted
        closer.start()
        status, watch = self.drain(process)
        closer.join(PATIENCE)
        self.assertEqual(status, 0)
        self.assertLess(watch.seconds, watch.allow(1))
        print(f"1,000 idle connections gone {watch.seconds * 1000:.0f} ms after the signal")

    def test_idle_clients_that_stay(self) -> None:
        """1,000 that do not close cost the linger once, all together."""
        process, port = self.listen("--linger", "1")
        connections = [self.connect(port) for _ in range(1000)]
        self.ask(connections[-1], message("tcp_request"))
        status, watch = self.drain(process)
        self.assertEqual(status, 0)
        self.assertTrue(1 <= watch.seconds < watch.allow(2.5), watch.seconds)

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
        status, watch = self.drain(process)
        self.assertEqual(status, 1)
        self.assertTrue(1 <= watch.seconds < watch.allow(3), watch.seconds)
        self.assertIn("1 connections closed by the deadline with answers that their clients did not read", process.log)
