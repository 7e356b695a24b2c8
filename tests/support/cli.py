"""``twisted-node``, and nodes that it can ask."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import message
from tests.support.paths import BIN
from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process, heed_signals
from tests.support.sockets import connect

COMMAND = str(BIN / "twisted-node")


def answer(**bodies: dict[str, Any]) -> bytes:
    """A line of a node's: a type, and the fields of its body."""
    return b"".join(json.dumps({"body": {"type": type_, **body}}).encode() + b"\n" for type_, body in bodies.items())


@contextmanager
def server(*answers: bytes, asked: threading.Event | None = None) -> Iterator[str]:
    """Run a server for one client, which gets one of these for each line it sends, and then the end; yield where.

    Args:
        answers: as they are sent.
        asked: is set when the client has sent a line for each of them.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as lines:
                for each in answers:
                    lines.readline()
                    connection.sendall(each)
                if asked is not None:
                    asked.set()
                lines.readline()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp:127.0.0.1:{listening.getsockname()[1]}"
        thread.join(PATIENCE)


class CliCase(SynchronousTestCase):
    """A node with a control endpoint, and the command."""

    def setUp(self) -> None:
        heed_signals(self)
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "control")
        self.endpoint = f"unix:{self.path}"

    def start(self, *options: str) -> Process:
        node = Process(
            *RUNNERS["python"], "--listen=tcp:0:interface=127.0.0.1", f"--control=unix:{self.path}", *options
        )
        self.addCleanup(node.end)
        node.wait_for_log("listening on /")
        return node

    def send(self, node: Process, *latencies: int, src: str = "shop") -> socket.socket:
        """Have a client wait for so many requests."""
        client = connect(node.port())
        self.addCleanup(client.close)
        client.sendall(b"".join(message("tcp_request", i, src, latency_ms=ms) for i, ms in enumerate(latencies)))
        # Whatever was sent has been received when this is answered.
        client.sendall(message("tcp_drain_status", "last"))
        client.recv(4096)
        return client

    def long_enough(self) -> int:
        """Milliseconds within which a command has started and said what it sees, also on a busy machine."""
        began = time.monotonic()
        self.run_command("status", self.endpoint)
        return int((time.monotonic() - began) * 4000)

    def run_command(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        done = subprocess.run(
            [COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False, **options
        )
        return done.returncode, done.stdout, done.stderr
