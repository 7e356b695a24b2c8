"""What goes wrong on a real machine, and must not lose a request."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from typing import Any

from tests.support.lines import bodies, message
from tests.support.paths import short_folder
from tests.support.patience import wait_until
from tests.support.processes import RUNNERS, Process
from tests.support.sockets import LOCAL, SocketsTestCase, connect, connect_unix, read_to_end


class FaultTests(SocketsTestCase):
    """One fault each."""

    def test_too_many_open_files(self) -> None:
        """When files run out, connections beyond are closed, and the others go on; the start says so."""
        limited = ["sh", "-c", 'ulimit -n 40; exec "$@"', "-", *RUNNERS["python"], "--listen", f"tcp:0:{LOCAL}"]
        process = Process(*limited, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.addCleanup(process.end)
        port = process.port()
        process.wait_for_log("only 40 files may be open")
        good = self.connect(port)
        self.assertEqual(self.ask(good, message("tcp_request"))["type"], "tcp_request_ok")
        crowd = [connect(port) for _ in range(60)]
        closed = 0
        for connection in crowd:
            connection.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                closed += connection.recv(1) == b""
        self.assertGreater(closed, 0)
        self.assertEqual(self.ask(good, message("tcp_request"))["type"], "tcp_request_ok")
        for connection in crowd:
            connection.close()

        def room() -> bool:
            with contextlib.suppress(ConnectionError), connect(port) as connection:
                connection.sendall(message("tcp_request"))
                return b"tcp_request_ok" in connection.recv(1000)
            return False

        wait_until(room)
        process.signal()
        good.close()
        self.assertEqual(process.wait(), 0, process.log)

    def test_unix_path_removed(self) -> None:
        """A unix path that somebody removed is no hindrance: what waits is answered, and the exit is clean."""
        path = str(short_folder(self) / "socket")
        process = self.start("--listen", f"unix:{path}")
        process.wait_for_log("listening on /")
        connection = connect_unix(path)
        self.addCleanup(connection.close)
        connection.sendall(message("tcp_request", 1, latency_ms=300))
        self.ask(connection, message("tcp_request", 2))
        os.unlink(path)
        process.signal()
        self.assertEqual([b["type"] for b in bodies(read_to_end(connection))], ["tcp_request_ok"])
        connection.close()
        self.assertEqual(process.wait(), 0, process.log)
        self.assertNotIn("Traceback", process.log)

    def test_unix_path_taken_over(self) -> None:
        """A unix path that is a successor's by now is left to it."""
        path = str(short_folder(self) / "socket")
        process = self.start("--listen", f"unix:{path}:lockfile=0")
        process.wait_for_log("listening on /")
        os.unlink(path)
        successor = self.start("--listen", f"unix:{path}:lockfile=0")
        successor.wait_for_log("listening on /")
        process.signal()
        self.assertEqual(process.wait(), 0, process.log)
        connection = connect_unix(path)
        self.addCleanup(connection.close)
        self.assertEqual(self.ask(connection, message("tcp_request"))["type"], "tcp_request_ok")

    def test_disk_full_under_the_log(self) -> None:
        """A log that cannot be written disturbs no request, and no exit."""
        path = str(short_folder(self) / "socket")
        with open("/dev/full", "w") as full:
            popen: subprocess.Popen[Any] = subprocess.Popen(
                [*RUNNERS["python"], "--listen", f"unix:{path}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=full,
            )
        self.addCleanup(popen.wait)
        self.addCleanup(popen.kill)
        connections: list[socket.socket] = []

        def is_listening() -> bool:
            # The path is there a moment before anybody listens on it.
            with contextlib.suppress(ConnectionRefusedError):
                connections.append(connect_unix(path))
            return bool(connections)

        wait_until(is_listening)
        (connection,) = connections
        self.addCleanup(connection.close)
        connection.sendall(b"junk\n" + message("tcp_request", 1, latency_ms=200))
        self.ask(connection, b"")
        popen.terminate()
        self.assertEqual([b["type"] for b in bodies(read_to_end(connection))], ["tcp_request_ok"])
        connection.close()
        self.assertEqual(popen.wait(20), 0)
