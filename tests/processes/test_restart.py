"""A restart that nobody notices: the listening socket is held by another process, as systemd does."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import message
from tests.support.paths import short_folder
from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process
from tests.support.sockets import connect, connect_unix, read_to_end
from tests.support.systemd import ACTIVATE


class RestartTests(SynchronousTestCase):
    """The same socket under two processes, one after the other."""

    def activate(self, listener: socket.socket, endpoint: str) -> Process:
        """Start a node on a socket that we hold."""
        process = Process(
            sys.executable,
            "-c",
            ACTIVATE,
            str(listener.fileno()),
            *RUNNERS["python"],
            "--listen",
            endpoint,
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(process.end)
        return process

    def check(self, listener: socket.socket, endpoint: str, connect_to_it: Callable[[], socket.socket]) -> None:
        """Restart under load: no connection is refused or reset, every request is answered by one of the two."""
        first = self.activate(listener, endpoint)
        first.wait_for_log("listening on")
        stop = threading.Event()
        served: list[str] = []
        failures: list[BaseException] = []

        def ask_again_and_again() -> None:
            try:
                while not stop.is_set():
                    with connect_to_it() as connection:
                        connection.sendall(message("tcp_request", 7, latency_ms=5))
                        connection.shutdown(socket.SHUT_WR)
                        (line,) = read_to_end(connection).splitlines()
                        served.append(json.loads(line)["body"]["type"])
            except BaseException as failure:
                failures.append(failure)

        clients = [threading.Thread(target=ask_again_and_again, daemon=True) for _ in range(20)]
        for client in clients:
            client.start()
        while len(served) < 200 and not failures:
            threading.Event().wait(0.01)
        first.signal()
        self.assertEqual(first.wait(), 0, first.log)
        # Nobody listens now: whoever connects waits in the kernel's queue for the successor.
        second = self.activate(listener, endpoint)
        second.wait_for_log("listening on")
        enough = len(served) + 200
        while len(served) < enough and not failures:
            threading.Event().wait(0.01)
        stop.set()
        for client in clients:
            client.join(PATIENCE)
        self.assertEqual(failures, [])
        print(
            f"{len(served)} requests across a restart, {served.count('tcp_request_error')} of them refused by message"
        )
        self.assertEqual(set(served) - {"tcp_request_ok", "tcp_request_error"}, set())
        second.signal()
        self.assertEqual(second.wait(), 0, second.log)

    def test_tcp(self) -> None:
        """A TCP socket."""
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            port = listener.getsockname()[1]
            self.check(listener, "systemd:domain=INET:index=0", lambda: connect(port))

    def test_unix(self) -> None:
        """A unix socket; its path and its mode are left as they were."""
        path = str(short_folder(self) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            os.chmod(path, 0o600)
            listener.listen(1024)
            self.check(listener, "systemd:domain=UNIX:index=0", lambda: connect_unix(path))
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_systemd_socket_activate(self) -> None:
        """One start under the real systemd-socket-activate."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = Process(
            "systemd-socket-activate",
            f"--listen=127.0.0.1:{port}",
            *RUNNERS["twistd"],
            "--listen",
            "systemd:domain=INET:index=0",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(process.end)
        process.wait_for_log("Listening on")
        with connect(port) as connection:
            connection.sendall(message("tcp_request"))
            self.assertIn(b"tcp_request_ok", connection.recv(1000))
            process.signal()
            self.assertEqual(read_to_end(connection), b"")
        self.assertEqual(process.wait(), 0, process.log)
