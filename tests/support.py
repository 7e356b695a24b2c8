"""What several tests need: lines of the wire, and real processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_node.process import SIGNALS

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent

#: The ways to start the node.
RUNNERS = {
    "python": [sys.executable, "-m", "twisted_node"],
    "twistd": [str(BIN / "twistd"), "-n", "--pidfile=", "node"],
    # In a test it would choose JSON for its log.
    "twist": [str(BIN / "twist"), "--log-format=text", "node"],
}

#: Options for a node with handlers that misbehave, in ``awkward_environment``.
AWKWARDLY = ("--app", "tests.awkward:node")

#: Seconds after which something that should have happened has not.
PATIENCE = 20.0

INIT = b'{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1"]}}\n'
INIT_OK = b'{"src": "n1", "dest": "c0", "body": {"type": "init_ok", "in_reply_to": 1, "msg_id": 0}}\n'


def message(type_: str, msg_id: Any = 2, src: str = "c1", **fields: Any) -> bytes:
    """One line of input."""
    return json.dumps({"src": src, "dest": "n1", "body": {"type": type_, "msg_id": msg_id, **fields}}).encode() + b"\n"


def bodies(output: bytes) -> list[dict[str, Any]]:
    """The bodies of the lines of an output; each line must be a message."""
    return [json.loads(line)["body"] for line in output.splitlines()]


def by_request(answers: Iterable[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Bodies by the request that they answer; no request may be answered twice."""
    found: dict[Any, dict[str, Any]] = {}
    for answer in answers:
        if answer["in_reply_to"] in found:
            raise AssertionError(f"answered twice: {answer}")
        found[answer["in_reply_to"]] = answer
    return found


def run(*options: str, lines: bytes, runner: Sequence[str] = RUNNERS["python"]) -> subprocess.CompletedProcess[bytes]:
    """Run a node to its end on an input that ends."""
    return subprocess.run([*runner, *options], input=lines, capture_output=True, timeout=PATIENCE, check=False)


def heed_signals(test: SynchronousTestCase) -> None:
    """Let what a test starts heed the signals that drain, even if the tests run in a shell's background or by nohup."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            # What is handled here is at its default in another program.
            signal.signal(number, lambda *_: None)
            test.addCleanup(signal.signal, number, signal.SIG_IGN)


def awkward_environment(start: str = "") -> dict[str, str]:
    """The environment for ``AWKWARDLY``; ``start`` names what else is to happen."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "AWKWARD": start}


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave coverage out: to save it at the end takes longer than all the rest, and seconds beside a busy thread."""
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE")}


class Process:
    """A real process, with its standard error read all the time."""

    def __init__(self, *command: str, **options: Any) -> None:
        options.setdefault("stdin", subprocess.PIPE)
        options.setdefault("stdout", subprocess.PIPE)
        self.popen = subprocess.Popen(command, stderr=subprocess.PIPE, **options)
        self.log = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            with self._news:
                self.log += line.decode(errors="replace")
                self._news.notify_all()

    def wait_for_log(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until the log shows something."""
        with self._news:
            if not self._news.wait_for(lambda: re.search(pattern, self.log), patience):
                raise AssertionError(f"{pattern!r} is not in the log:\n{self.log}")
        found = re.search(pattern, self.log)
        assert found is not None
        return found

    def port(self) -> int:
        """Wait for the first TCP port listened on."""
        return self.ports(1)[0]

    def ports(self, count: int) -> list[int]:
        """Wait for so many TCP ports listened on, and return them in the order of the log."""
        pattern = r"(?s)" + r"listening on [\d.]+:(\d+)\n.*?" * count
        return [int(port) for port in self.wait_for_log(pattern).groups()]

    def send(self, data: bytes) -> None:
        """Write to standard input, now."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(data)
        self.popen.stdin.flush()

    def close_input(self) -> None:
        """End standard input."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()

    def read_line(self, patience: float = PATIENCE) -> bytes:
        """Read one line of standard output."""
        assert self.popen.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.popen.stdout], [], [], patience)
            if not ready:
                raise AssertionError(f"no output; log:\n{self.log}")
            # Byte by byte, past Python's buffer, so that select tells the truth.
            byte = os.read(self.popen.stdout.fileno(), 1)
            if not byte:
                break
            line += byte
        return line

    def read_rest(self, patience: float = PATIENCE) -> bytes:
        """Read standard output to its end."""
        assert self.popen.stdout is not None
        rest = b""
        while select.select([self.popen.stdout], [], [], patience)[0]:
            chunk = os.read(self.popen.stdout.fileno(), 65536)
            if not chunk:
                return rest
            rest += chunk
        raise AssertionError(f"standard output does not end; log:\n{self.log}")

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for the end; return the exit status."""
        status = self.popen.wait(patience)
        self._reader.join(patience)
        return status

    def end(self) -> None:
        """Make sure that it is gone, and close what is left of it."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._reader.join(PATIENCE)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


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


def wait_until(condition: Any, patience: float = PATIENCE) -> None:
    """Wait for what no file descriptor tells of, such as a number in /proc."""
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen in time")
        pause.wait(0.005)
