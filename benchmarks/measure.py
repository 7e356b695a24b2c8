"""Processes, and what they cost by the operating system's own account. Linux."""

from __future__ import annotations

import os
import re
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

_K = TypeVar("_K")
_T = TypeVar("_T")

#: The node, as a program of its own.
NODE = (sys.executable, "-m", "twisted_node")
#: An endpoint on any free port. A queue that overflows would cost clients a second each.
LOOPBACK = "tcp:0:interface=127.0.0.1:backlog=4096"

#: Seconds after which something that should have happened has not.
PATIENCE = 120.0


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """Make the command that runs one of our modules."""
    return (sys.executable, "-m", f"benchmarks.{module}", *arguments)


@dataclass(frozen=True)
class Cost:
    """What a whole process took: seconds by the clock, and seconds of CPU."""

    seconds: float
    cpu: float


class MeasuredProcess:
    """One process under measurement; its standard streams are pipes. A context manager that leaves nothing behind."""

    def __init__(self, command: Sequence[str], *, stdin: int = subprocess.PIPE, **options: object) -> None:
        self.began = time.perf_counter()
        self.popen = subprocess.Popen(  # type: ignore[call-overload] # the options are the caller's
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **options
        )
        self.pid: int = self.popen.pid

    def __enter__(self) -> MeasuredProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        if error is not None:
            sys.stderr.write(self.popen.stderr.read().decode(errors="replace"))
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()

    def port(self) -> int:
        """Wait until it says on standard error which port it listens on."""
        # What it says later stays in the pipe, which holds more than any of these programs says.
        for line in self.popen.stderr:
            if found := re.search(rb"(?:port=|listening on [\d.]+:)(\d+)", line):
                return int(found[1])
        raise RuntimeError(f"{self.popen.args}: ended without listening")

    def send(self, data: bytes) -> None:
        """Write all of it to standard input."""
        view = memoryview(data)
        while view:
            view = view[self.popen.stdin.write(view) :]

    def read(self) -> bytes:
        """Read what there is of standard output, once there is something; empty at its end."""
        if not select.select([self.popen.stdout], [], [], PATIENCE)[0]:
            raise TimeoutError(f"{self.popen.args}: no output")
        return os.read(self.popen.stdout.fileno(), 1 << 20)

    def read_lines(self, count: int) -> bytes:
        """Read so many whole lines of standard output, and return the last chunk."""
        while count > 0:
            chunk = self.read()
            if not chunk:
                raise RuntimeError(f"{self.popen.args}: ended {count} lines early")
            count -= chunk.count(b"\n")
        return chunk

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        # What clock_getcpuclockid(3) makes of a process id, to the nanosecond.
        return time.clock_gettime(~self.pid << 3 | 2)

    def resident(self) -> int:
        """Bytes of memory now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def wait(self) -> Cost:
        """Wait for a good end."""
        _, status, usage = os.wait4(self.pid, 0)
        seconds = time.perf_counter() - self.began
        self.popen.returncode = os.waitstatus_to_exitcode(status)
        if self.popen.returncode:
            raise RuntimeError(f"{self.popen.args}: status {self.popen.returncode}")
        return Cost(seconds, usage.ru_utime + usage.ru_stime)


def run_through_pipes(command: Sequence[str], lines: Path, answers: int) -> Cost:
    """Run a program from its start to its end on a file of lines that comes through a pipe.

    Args:
        command: reads standard input to its end.
        lines: the file.
        answers: how many lines it must write.
    """
    with subprocess.Popen(["cat", lines], stdout=subprocess.PIPE) as feeder:
        assert feeder.stdout is not None
        with MeasuredProcess(command, stdin=feeder.stdout.fileno()) as process:
            # Otherwise the feeder would not learn of the end of its reader.
            feeder.stdout.close()
            while chunk := process.read():
                answers -= chunk.count(b"\n")
            if answers:
                raise RuntimeError(f"{command}: {answers} answers are missing")
            return process.wait()


def allow_many_files() -> None:
    """Raise the limit on open files, usually 1,024: too few for 1,000 clients."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def in_turn(rounds: int, variants: Mapping[_K, Callable[[], _T]]) -> dict[_K, list[_T]]:
    """Run each of some variants, again and again in turn; return the results of each."""
    results: dict[_K, list[_T]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            results[name].append(variant())
    return results


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Divide pair by pair: two that were measured one after the other."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]
