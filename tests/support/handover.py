"""Processes that take each other's place, and clients that must not notice it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.support.patience import LONG_PATIENCE, PATIENCE, wait_until
from tests.support.processes import Process, heed_signals

#: From Linux's sys/prctl.h: whose parent has ended becomes a child of the caller, which can ask for its status.
_PR_SET_CHILD_SUBREAPER = 36

#: A line of a node's, and what its answer holds.
NODE = (b'{"src":"c1","dest":"n1","body":{"type":"tcp_request","msg_id":1,"latency_ms":5}}\n', b"tcp_request_ok")
#: The same behind the header that a proxy sends.
PROXIED_NODE = (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + NODE[0], NODE[1])
#: A request for a site, and what its answer holds.
SITE = (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"200 OK")
#: A request for an admin endpoint.
ADMIN = (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"200 OK")


class Visitor(threading.Thread):
    """Connects for each request, again and again, and counts what becomes of them.

    Args:
        connect: makes a connection.
        request: what to send, and what the answer holds.
        outcomes: where to count.
        stop: set to end it.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        request: tuple[bytes, bytes],
        outcomes: Counter[str],
        stop: threading.Event,
    ) -> None:
        super().__init__(daemon=True)
        self.connect, self.request, self.outcomes, self.stop = connect, request, outcomes, stop

    def run(self) -> None:
        """Ask until told to stop."""
        while not self.stop.is_set():
            try:
                outcome = self.ask()
            except Exception as error:
                outcome = f"{type(error).__name__} ({error})"
            self.outcomes[outcome] += 1
            self.stop.wait(0.02)

    def ask(self) -> str:
        """Ask once."""
        sent, expected = self.request
        with self.connect() as connection:
            connection.settimeout(PATIENCE)
            connection.sendall(sent)
            answer = b""
            while expected not in answer or not answer.endswith(b"\n"):
                received = connection.recv(4096)
                if not received:
                    break
                answer += received
        return "answered" if expected in answer else f"unanswered ({answer!r})"


class Visitors:
    """Clients of all the endpoints of a server.

    Args:
        endpoints: how to connect to each, and what to ask there.
        each: how many clients for an endpoint.
    """

    def __init__(
        self, endpoints: Sequence[tuple[Callable[[], socket.socket], tuple[bytes, bytes]]], each: int = 1
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self.stop = threading.Event()
        self.visitors = [
            Visitor(connect, request, self.outcomes, self.stop) for connect, request in endpoints for _ in range(each)
        ]

    def __enter__(self) -> Visitors:
        for visitor in self.visitors:
            visitor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for visitor in self.visitors:
            visitor.join(LONG_PATIENCE)


class HandoverTestCase(SynchronousTestCase):
    """Starts a process, has others take its place, and sees to the end of all."""

    def setUp(self) -> None:
        heed_signals(self)
        c_library = ctypes.CDLL(None)
        c_library.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.addCleanup(c_library.prctl, _PR_SET_CHILD_SUBREAPER, 0)
        self.pids: list[int] = []
        self.addCleanup(self.kill_all)

    def own(self, process: Process) -> Process:
        """See to the end of a first process, whatever becomes of the test.

        Wait for it by its ``popen``: its log goes on with its successors.
        """
        self.addCleanup(process.end)
        # Before that: its log ends with the last process that writes to it.
        self.addCleanup(self.kill_all)
        return process

    def kill_all(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.pids.clear()

    def replace(self, pid: int, log: Callable[[], str], number: int = signal.SIGUSR2) -> int:
        """Have another process take the place of one; return its pid.

        Args:
            pid: of the one that serves.
            log: what has been logged so far.
            number: the signal that has it replaced.
        """
        before = len(log())
        os.kill(pid, number)
        wait_until(lambda: re.search(r"process \d+ \(version \S+\) serves now|not replaced", log()[before:]), 60)
        found = re.search(r"process (\d+) \(version \S+\) serves now", log()[before:])
        self.assertIsNotNone(found, log())
        assert found is not None
        successor = int(found[1])
        self.pids.append(successor)
        wait_until(lambda: f"accepting, in the place of process {pid}" in log(), 60)
        return successor

    def wait_for_end(self, pid: int) -> int:
        """Wait for the end of a process whose parent has ended; return its status."""
        status: list[int] = []

        def has_ended() -> bool:
            try:
                ended, how = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                # Its parent lives still.
                return False
            if ended:
                status.append(os.waitstatus_to_exitcode(how))
            return bool(ended)

        wait_until(has_ended, 60)
        return status[0]
