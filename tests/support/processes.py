"""Real processes: the node, and whatever else a test starts."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.paths import BIN, ROOT
from tests.support.patience import LONG_PATIENCE, PATIENCE
from twisted_node.process import SIGNALS

#: The ways to start the node.
RUNNERS = {
    "python": [sys.executable, "-m", "twisted_node"],
    "twistd": [str(BIN / "twistd"), "-n", "--pidfile=", "node"],
    # In a test it would choose JSON for its log.
    "twist": [str(BIN / "twist"), "--log-format=text", "node"],
}

#: Options for a node with handlers that misbehave, in ``awkward_environment``.
AWKWARDLY = ("--app", "tests.support.awkward:node")


def run(*options: str, lines: bytes, runner: Sequence[str] = RUNNERS["python"]) -> subprocess.CompletedProcess[bytes]:
    """Run a node to its end on an input that ends."""
    return subprocess.run([*runner, *options], input=lines, capture_output=True, timeout=PATIENCE, check=False)


def run_to_end(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program that starts others to its end; what it has left of them then is killed."""
    text = options.pop("input", "")
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    ) as program:
        try:
            output, errors = program.communicate(text, LONG_PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, program.returncode, output, errors)


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

    def wait_for_log(self, pattern: str, patience: float = LONG_PATIENCE) -> re.Match[str]:
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
