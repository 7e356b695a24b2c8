"""The client's side of real sockets."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import message
from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process


def connect(port: int) -> socket.socket:
    """Connect to a port of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def connect_unix(path: str) -> socket.socket:
    """Connect to a unix socket."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(path)
    except FileNotFoundError:
        # What a unix socket says when its server has gone altogether.
        connection.close()
        raise ConnectionRefusedError(path) from None
    except BlockingIOError:
        connection.close()
        raise
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Read a connection until its other side closes."""
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def fill(connection: socket.socket) -> int:
    """Send requests until nobody takes them any more; return how many went out whole, at least."""
    connection.settimeout(0.5)
    sent = 0
    try:
        while True:
            # All of one length, which divides what any buffer holds.
            block = b"".join(_padded(number) for number in range(sent, sent + 512))
            connection.sendall(block)
            sent += 512
    except TimeoutError:
        return sent


def _padded(number: int) -> bytes:
    line = message("tcp_drain_status", number, padding="")
    return line.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (128 - len(line))))


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
