"""A restart that nobody notices: the listening socket is held by another process, as systemd does, or handed on."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.handover import NODE, HandoverTestCase, Visitors
from tests.support.lines import message
from tests.support.paths import BIN, short_folder
from tests.support.patience import LONG_PATIENCE, PATIENCE, wait_until
from tests.support.processes import RUNNERS, Process
from tests.support.sockets import connect, connect_unix, read_to_end
from tests.support.systemd import ACTIVATE, Systemd


def listening_inode(port: int) -> str:
    """Which socket listens on a port of 127.0.0.1, as /proc names it."""
    address = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    (inode,) = [row[9] for row in rows if row[1] == address and row[3] == "0A"]
    return f"socket:[{inode}]"


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


class ReloadTests(HandoverTestCase):
    """What ``systemctl reload`` does, with sockets of systemd's."""

    def restart(self, pid: int) -> int:
        """Have another process take the place of one, as the unit does; return its pid."""
        done = subprocess.run(
            [str(BIN / "twisted-node"), "restart", f"unix:{self.folder}/control"],
            capture_output=True,
            text=True,
            timeout=LONG_PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        found = re.fullmatch(rf"process (\d+) has taken the place of process {pid}\n", done.stdout)
        assert found is not None, done.stdout
        self.pids.append(int(found[1]))
        return self.pids[-1]

    def check_sockets(self, pid: int, ports: list[int]) -> None:
        """A process has both sockets as if systemd had started it, the unused one in its place."""
        environment = dict(
            line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line
        )
        given = [environment[name] for name in ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID")]
        self.assertEqual(given, ["2", "first:second", str(pid)])
        first, second = (listening_inode(port) for port in ports)
        self.assertEqual(os.readlink(f"/proc/{pid}/fd/3"), first)
        self.assertIn(second, [os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()])

    def test_two_reloads(self) -> None:
        """Its sockets travel on; systemd learns of each main process from the one before, which then says no more."""
        self.folder = short_folder(self)
        systemd = Systemd(f"{self.folder}/notify")
        self.addCleanup(systemd.socket.close)
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports.append(free.getsockname()[1])
        process = self.own(
            Process(
                "systemd-socket-activate",
                *[f"--listen=127.0.0.1:{port}" for port in ports],
                "--fdname=first:second",
                f"--setenv=NOTIFY_SOCKET={self.folder}/notify",
                *RUNNERS["twistd"],
                *["--listen", "systemd:domain=INET:name=second", "--control", f"unix:{self.folder}/control"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        )
        process.wait_for_log("Listening on")
        # The first connection has systemd-socket-activate become the node, whose pid it keeps.
        with connect(ports[1]) as connection:
            connection.sendall(message("tcp_request"))
            self.assertIn(b"tcp_request_ok", connection.recv(1000))
        pids = [process.popen.pid]
        self.check_sockets(pids[0], ports)
        with Visitors([(lambda: connect(ports[1]), NODE)] * 4) as visitors:
            for _ in range(2):
                pids.append(self.restart(pids[-1]))
                self.check_sockets(pids[-1], ports)
                enough = visitors.outcomes["answered"] + 20
                wait_until(lambda: visitors.outcomes["answered"] >= enough, LONG_PATIENCE)  # noqa: B023 - called here
        self.assertEqual(process.popen.wait(LONG_PATIENCE), 0, process.log)
        self.assertEqual(self.wait_for_end(pids[1]), 0, process.log)
        self.assertEqual(set(visitors.outcomes), {"answered"}, process.log)
        os.kill(pids[2], signal.SIGTERM)
        self.assertEqual(self.wait_for_end(pids[2]), 0, process.log)
        told: list[tuple[int, dict[str, str]]] = []
        while not told or not told[-1][1].get("STATUS", "").startswith("clean: "):
            told.append(systemd.receive_from())
        of_interest = ("READY", "MAINPID", "STOPPING")
        words = [(pid, word, said[word]) for pid, said in told for word in of_interest if word in said]
        first, second, third = pids
        self.assertEqual(
            words,
            [
                (first, "READY", "1"),
                (first, "MAINPID", str(second)),
                (second, "READY", "1"),
                (second, "MAINPID", str(third)),
                (third, "READY", "1"),
                (third, "STOPPING", "1"),
            ],
        )
        # Each speaks until it has named its successor, and never again.
        self.assertEqual([pid for pid, _ in itertools.groupby(pid for pid, _ in told)], pids)
