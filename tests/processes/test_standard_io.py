"""The node on standard input and output, as real processes: what only the kernel can show."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import subprocess
import termios
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, INIT_OK, bodies, by_request, message
from tests.support.patience import PATIENCE, Stopwatch, wait_until
from tests.support.processes import AWKWARDLY, RUNNERS, Process, awkward_environment, heed_signals, run

NODE = RUNNERS["python"]


def through_shell(
    redirections: str, runner: Sequence[str] = NODE, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a node with the redirections of a shell."""
    command = ["sh", "-c", f'exec "$@" {redirections}', "sh", *runner]
    return subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False, **options)


def bytes_waiting(stream: Any) -> int:
    """How many bytes of a pipe have not been read."""
    return int.from_bytes(fcntl.ioctl(stream, termios.FIONREAD, bytes(4)), "little")


def is_blocking(pid: int, descriptor: int) -> bool:
    """Whether a file descriptor of another process is in blocking mode."""
    info = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text()
    flags = next(line.split()[1] for line in info.splitlines() if line.startswith("flags:"))
    return not int(flags, 8) & os.O_NONBLOCK


def resident_bytes(pid: int) -> int:
    """How much memory a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


class StandardIOTestCase(SynchronousTestCase):
    """Starts nodes, and sees to their end."""

    def start(self, *options: str, **popen: Any) -> Process:
        """Start a node."""
        process = Process(*NODE, *options, **popen)
        self.addCleanup(process.end)
        return process

    def send_much(self, process: Process, count: int = 400) -> int:
        """Send requests whose answers are longer than any pipe, and are due together after input has ended."""
        requests = (message("tcp_request", n, src="c" * 1000, latency_ms=1000) for n in range(count))
        process.send(INIT + b"".join(requests))
        process.close_input()
        process.wait_for_log(f"standard input ended; {count} in flight")
        return count

    def write_until_blocked(self, process: Process) -> tuple[int, bytes]:
        """Send requests until none has been taken for a while; return how many, and what is unsent of them."""
        assert process.popen.stdin is not None
        fd = process.popen.stdin.fileno()
        os.set_blocking(fd, False)
        count, taken, waiting = 0, 0, b""
        while select.select([], [fd], [], 1.0)[1]:
            while len(waiting) < 20_000:
                waiting += message("tcp_request", count, data="x" * 60)
                count += 1
            written = os.write(fd, waiting)
            waiting = waiting[written:]
            taken += written
            self.assertLess(taken, 50_000_000, "standard input is never paused")
        os.set_blocking(fd, True)
        return count, waiting

    def folder(self) -> Path:
        """A folder of the test's own."""
        path = Path(self.mktemp())
        path.mkdir()
        return path.absolute()


class LinesTests(StandardIOTestCase):
    """Lines in, lines out."""

    def test_carriage_return(self) -> None:
        """A line may end as Windows ends it."""
        result = run(lines=INIT.replace(b"\n", b"\r\n"))
        self.assertEqual((result.stdout, result.returncode), (INIT_OK, 0))

    def test_no_last_newline(self) -> None:
        """The last line needs no newline."""
        result = run(lines=INIT.rstrip())
        self.assertEqual((result.stdout, result.returncode), (INIT_OK, 0))

    def test_too_long_line(self) -> None:
        """A line over ``--max-line`` is skipped to its end and logged; the lines around it are unharmed."""
        long = message("tcp_request", 2, data="x" * 100_000)
        result = run("--max-line", "1000", lines=INIT + long + message("tcp_request", 3) + long.rstrip())
        self.assertEqual(list(by_request(bodies(result.stdout))), [1, 3])
        self.assertIn(b"line longer than 1000 bytes", result.stderr)
        self.assertEqual(result.returncode, 0)

    def test_unreadable_lines(self) -> None:
        """Lines that name nobody are not answered: they are logged once, not one by one."""
        result = run(lines=b"\n" + b"junk\n" * 100 + INIT)
        self.assertEqual(result.stdout, INIT_OK)
        self.assertEqual(result.stderr.count(b"unreadable line"), 1, result.stderr)


class EndOfInputTests(StandardIOTestCase):
    """The end of standard input is a shutdown."""

    def test_in_flight(self) -> None:
        """What is in flight at the end of input is answered when it is due."""
        late = message("tcp_request", 2, latency_ms=300)
        sooner = message("tcp_request", 3, latency_ms=100)
        result = run(lines=INIT + late + sooner)
        self.assertEqual([body["in_reply_to"] for body in bodies(result.stdout)], [1, 3, 2])
        self.assertEqual(result.returncode, 0)

    def test_deadline(self) -> None:
        """The deadline cuts what is left, says so once a request, and shows in the exit status."""
        lines = INIT + message("tcp_request", 2, latency_ms=60_000) + message("tcp_request", 3, latency_ms=1)
        for name, runner in RUNNERS.items():
            result = run("--drain-timeout", "0.2", lines=lines, runner=runner)
            answers = by_request(bodies(result.stdout))
            self.assertEqual(answers[2]["error"], "drain_timeout", name)
            self.assertEqual(answers[3]["type"], "tcp_request_ok", name)
            self.assertEqual(result.returncode, 1, name)

    def test_everything_is_delivered(self) -> None:
        """Hundreds of thousands of bytes that nobody has read yet when input ends are all delivered."""
        process = self.start()
        count = self.send_much(process)
        # The pipe is full, and all the rest in the process.
        wait_until(lambda: bytes_waiting(process.popen.stdout) >= 60_000)
        output = process.read_rest()
        self.assertEqual(len(bodies(output)), 1 + count)
        self.assertGreater(len(output), 400_000)
        self.assertEqual(process.wait(), 0)

    def test_drain_by_message(self) -> None:
        """After a drain begun by a message, the node goes on answering until input ends, and never exits by itself."""
        process = self.start()
        process.send(INIT + message("tcp_request", 2, latency_ms=100))
        process.send(message("tcp_shutdown", 3, drain_timeout_ms=5000))
        self.assertEqual(process.read_line(), INIT_OK)
        shutdown, request = bodies(process.read_line() + process.read_line())
        self.assertEqual((shutdown["status"], shutdown["in_flight"]), ("draining", 1))
        self.assertEqual(request["type"], "tcp_request_ok")
        took = []
        for _ in range(2):
            self.assertRaises(subprocess.TimeoutExpired, process.popen.wait, 0.3)
            process.send(message("tcp_drain_status", 4) + message("tcp_request", 5))
            status, refused = bodies(process.read_line() + process.read_line())
            self.assertEqual((status["status"], status["remaining"]), ("drained", 0))
            self.assertEqual(refused["error"], "server_shutting_down")
            took.append(status["took_ms"])
        self.assertTrue(50 <= took[0] == took[1] < 5000, took)
        process.close_input()
        self.assertEqual(process.wait(), 0)


class OutputTests(StandardIOTestCase):
    """Standard output carries messages and nothing else."""

    def test_stray_output(self) -> None:
        """Whatever a handler prints goes to standard error, whatever it reads is empty; logs go there too."""
        for name, runner in RUNNERS.items():
            process = Process(*runner, *AWKWARDLY, env=awkward_environment())
            self.addCleanup(process.end)
            process.send(INIT + message("print", 2))
            process.close_input()
            init, answer = bodies(process.read_rest())
            self.assertEqual((init["type"], answer["type"], answer["read"]), ("init_ok", "print_ok", ""), name)
            self.assertEqual(process.wait(), 0, name)
            for way in ("print", "__stdout__", "descriptor", "child", "warning"):
                self.assertIn(f"by {way}", process.log, name)
            self.assertIn("standard input ended", process.log, name)

    def test_same_pipe(self) -> None:
        """Logs and messages lose nothing when both go to one pipe that is read slowly."""
        folder = self.folder()
        count = 3000
        with open(folder / "in", "w+b") as lines:
            lines.write(INIT + b"".join(message("log", n) for n in range(count)))
            lines.seek(0)
            process = subprocess.Popen(
                [*NODE, *AWKWARDLY],
                stdin=lines,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=awkward_environment(),
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        wait_until(lambda: bytes_waiting(process.stdout) >= 60_000)
        output = process.stdout.read()
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertEqual(output.count(b"logged "), count)
        self.assertEqual(output.count(b"x" * 1000 + b"\n"), count)
        self.assertEqual(output.count(b"log_ok"), count)

    def test_reader_goes(self) -> None:
        """When nobody reads the answers any more, the node drains and exits, without a traceback."""
        for lines in (b"", message("tcp_request", 2, latency_ms=100), message("tcp_request", 2) * 5000):
            process = self.start()
            process.send(INIT)
            process.read_line()
            assert process.popen.stdout is not None
            process.popen.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.send(lines)
            self.assertEqual(process.wait(), 0, process.log)
            self.assertIn("nobody reads standard output", process.log)
            self.assertNotIn("Traceback", process.log)

    def test_reader_had_gone(self) -> None:
        """So it does when the reader had gone before; the named pipe cannot even be opened anew then."""
        path = self.folder() / "pipe"
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writing = os.open(path, os.O_WRONLY)
        os.close(reading)
        process = self.start(stdout=writing)
        os.close(writing)
        self.assertEqual(process.wait(), 0, process.log)
        self.assertIn("nobody reads standard output", process.log)
        self.assertNotIn("Traceback", process.log)

    def test_reader_goes_with_work_in_flight(self) -> None:
        """A request whose client has gone runs on, within the deadline."""
        process = self.start("--drain-timeout", "0.2")
        process.send(INIT + message("tcp_request", 2, latency_ms=60_000))
        process.read_line()
        assert process.popen.stdout is not None
        process.popen.stdout.close()
        self.assertEqual(process.wait(), 1)
        self.assertIn("1 cut", process.log)
        self.assertNotIn("Traceback", process.log)

    def test_reader_pauses(self) -> None:
        """While nobody reads, standard input is paused and memory is bounded; afterwards all is delivered."""
        process = self.start()
        process.send(INIT)
        process.read_line()
        before = resident_bytes(process.popen.pid)
        count, waiting = self.write_until_blocked(process)
        self.assertLess(resident_bytes(process.popen.pid) - before, 20_000_000)
        rest = threading.Thread(target=process.send, args=[waiting])
        rest.start()
        output = b"".join(process.read_line() for _ in range(count))
        rest.join(PATIENCE)
        process.close_input()
        self.assertEqual([body["in_reply_to"] for body in bodies(output)], list(range(count)))
        self.assertEqual(process.wait(), 0)

    def test_signal_while_reader_pauses(self) -> None:
        """A signal reads no further while nobody reads; all that was started is answered when the reader goes on."""
        process = self.start("--linger", "0")
        process.send(INIT)
        process.read_line()
        self.write_until_blocked(process)
        process.signal()
        process.wait_for_log("draining")
        answers = bodies(process.read_rest())
        self.assertEqual(process.wait(), 0)
        self.assertEqual({answer["type"] for answer in answers}, {"tcp_request_ok"})
        self.assertIn(f"clean: {len(answers)} finished, 0 refused", process.log)

    def test_reader_never_reads(self) -> None:
        """A reader that never reads does not hold the process beyond its deadline; the loss shows in the status."""
        process = self.start("--drain-timeout", "1.5", "--linger", "0.1")
        self.send_much(process)
        self.assertEqual(process.wait(), 1)
        self.assertIn("did not read", process.log)


class StreamsTests(StandardIOTestCase):
    """Standard streams of every kind."""

    def test_files(self) -> None:
        """Regular files may be read and written; 1<> overwrites, >> appends, 2>&1 interleaves."""
        folder = self.folder()
        (folder / "in").write_bytes(INIT + message("tcp_request", 2, latency_ms=50))
        size = len(INIT_OK) + 10
        for redirection, before, after in (
            (">", b"", b""),
            (">>", b"before\n", b""),
            ("1<>", b"", b"z" * (1000 - size)),
        ):
            (folder / "out").write_bytes(before or b"z" * 1000)
            result = through_shell(f"<in {redirection}out", cwd=folder, env=self.environment())
            self.assertEqual(result.returncode, 0, result.stderr)
            output = (folder / "out").read_bytes()
            self.assertTrue(output.startswith(before + INIT_OK), output)
            answers = output.removeprefix(before).rstrip(b"z")
            self.assertEqual(len(bodies(answers)), 2)
            self.assertTrue(output.endswith(after[: 1000 - len(answers)]))

    def test_file_for_all(self) -> None:
        """With 2>&1 into a file, messages and logs write behind each other, not over each other."""
        folder = self.folder()
        (folder / "in").write_bytes(INIT + message("tcp_request", 2, latency_ms=50))
        result = through_shell("<in >out 2>&1", cwd=folder, env=self.environment())
        self.assertEqual(result.returncode, 0)
        output = (folder / "out").read_bytes()
        messages = [line for line in output.splitlines() if line.startswith(b"{")]
        self.assertEqual([json.loads(line)["body"]["type"] for line in messages], ["init_ok", "tcp_request_ok"])
        for said in (b"listening on standard input", b"clean: 1 finished"):
            self.assertIn(said, output)

    def test_null(self) -> None:
        """The null device may be any of the three, opened for reading and writing both."""
        result = subprocess.run(NODE, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
        self.assertEqual((result.stdout, result.returncode), (b"", 0))
        result = through_shell(">/dev/null", input=INIT)
        self.assertEqual((result.stdout, result.returncode), (b"", 0), result.stderr)
        self.assertIn(b"standard input ended", result.stderr)
        null = subprocess.DEVNULL
        self.assertEqual(subprocess.call(NODE, stdin=null, stdout=null, stderr=null, timeout=PATIENCE), 0)
        for runner in RUNNERS.values():
            result = through_shell("2>/dev/null", runner, input=INIT)
            self.assertEqual((result.stdout, result.stderr, result.returncode), (INIT_OK, b"", 0), runner)

    def test_closed_input(self) -> None:
        """A closed standard input is an empty one."""
        result = through_shell("<&-")
        self.assertEqual((result.stdout, result.returncode), (b"", 0), result.stderr)
        self.assertIn(b"standard input ended", result.stderr)

    def test_closed_output(self) -> None:
        """A closed standard output is one line and status 1: there is nowhere to answer."""
        result = through_shell(">&-", input=INIT)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, b"node: standard output is closed: there is nowhere to answer\n")

    def test_closed_error(self) -> None:
        """A closed standard error loses the log, not an answer."""
        result = through_shell("2>&-", input=INIT + message("tcp_request", 2, latency_ms=50))
        self.assertEqual((len(bodies(result.stdout)), result.returncode), (2, 0))

    def test_sockets(self) -> None:
        """A socket may be both standard input and standard output, as inetd and some supervisors have it."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        with theirs:
            process = self.start(stdin=theirs, stdout=theirs)
        ours.settimeout(PATIENCE)
        ours.sendall(INIT)
        self.assertEqual(ours.recv(1000), INIT_OK)
        ours.sendall(message("tcp_request", 2, latency_ms=100))
        ours.shutdown(socket.SHUT_WR)
        self.assertEqual(bodies(ours.makefile("rb").read())[0]["type"], "tcp_request_ok")
        self.assertEqual(process.wait(), 0)

    def test_reset(self) -> None:
        """A socket whose other side is closed with an answer unread, which resets it, ends the node too."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        with theirs:
            process = self.start(stdin=theirs, stdout=theirs)
        ours.sendall(INIT)
        wait_until(lambda: bytes_waiting(ours) == len(INIT_OK))
        ours.close()
        self.assertEqual(process.wait(), 0, process.log)
        self.assertIn("standard input ended", process.log)
        self.assertNotIn("Traceback", process.log)

    def environment(self) -> dict[str, str]:
        """The environment of a node that starts in another folder."""
        return {**os.environ, "PYTHONPATH": ""}


class NodeTerminalTests(StandardIOTestCase):
    """A person at a terminal, which is all three streams at once."""

    def setUp(self) -> None:
        """Start a node at a terminal of its own."""
        heed_signals(self)
        self.screen, terminal = os.openpty()
        self.addCleanup(self.hang_up)
        self.addCleanup(os.close, terminal)
        attributes = termios.tcgetattr(terminal)
        attributes[1] &= ~termios.OPOST
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
        self.terminal = terminal
        self.before = termios.tcgetattr(terminal), fcntl.fcntl(terminal, fcntl.F_GETFL)
        self.seen = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *NODE],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        self.type(INIT)
        self.wait_for(INIT_OK)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.screen, keys)

    def wait_for(self, text: bytes) -> None:
        """Look at the screen until it shows something."""
        while text not in self.seen:
            ready, _, _ = select.select([self.screen], [], [], PATIENCE)
            self.assertTrue(ready, self.seen)
            self.seen += os.read(self.screen, 65536)

    def hang_up(self) -> None:
        """Close the terminal, once."""
        if self.screen >= 0:
            os.close(self.screen)
        self.screen = -1

    def check_end(self) -> None:
        """The process ends well, and leaves the terminal as it was."""
        self.assertEqual(self.process.wait(PATIENCE), 0)
        after = termios.tcgetattr(self.terminal), fcntl.fcntl(self.terminal, fcntl.F_GETFL)
        self.assertEqual(after, self.before)

    def test_end_of_input(self) -> None:
        """Answers come line by line, Ctrl-D ends; standard error stays in blocking mode, so no long log is cut."""
        self.type(message("tcp_request", 2, latency_ms=10))
        self.wait_for(b"tcp_request_ok")
        self.assertTrue(is_blocking(self.process.pid, 2))
        self.assertTrue(is_blocking(self.process.pid, 1))
        self.type(b"\x04")
        self.wait_for(b"clean: 1 finished")
        self.check_end()

    def test_hang_up(self) -> None:
        """When the terminal is closed the node ends; its requests run on until then, answered to nobody."""
        self.type(message("tcp_request", 2, latency_ms=1500))
        self.type(message("tcp_drain_status", 3))
        self.wait_for(b'"remaining": 1')
        with Stopwatch() as watch:
            self.hang_up()
            self.assertEqual(self.process.wait(PATIENCE), 0)
        self.assertLess(watch.seconds, watch.allow(5))

    def test_interrupt(self) -> None:
        """Ctrl-C drains: what is in flight is answered first."""
        self.type(message("tcp_request", 2, latency_ms=1500))
        self.type(message("tcp_drain_status", 3))
        self.wait_for(b'"remaining": 1')
        self.type(b"\x03")
        self.wait_for(b"SIGINT")
        self.wait_for(b"tcp_request_ok")
        self.wait_for(b"clean: 1 finished")
        self.check_end()


class FilesTests(SynchronousTestCase):
    """Streams that are files of a kind of their own."""

    def test_full_disk(self) -> None:
        """Answers that a full disk takes away count as cut, and the exit status says so."""
        with open("/dev/full", "wb") as full:
            process = subprocess.run(
                RUNNERS["python"], input=INIT + message("tcp_request"), stdout=full, stderr=subprocess.PIPE, check=False
            )
        self.assertEqual(process.returncode, 1)
        self.assertIn(b"standard output cannot be written", process.stderr)
        self.assertIn(b" 2 cut", process.stderr)

    def test_named_pipe(self) -> None:
        """A pipe with a name ends too, though its writer had closed before the node looked at it."""
        path = self.mktemp()
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        writing = os.open(path, os.O_WRONLY)
        os.write(writing, INIT)
        os.close(writing)
        os.set_blocking(reading, True)
        process = subprocess.run(RUNNERS["python"], stdin=reading, capture_output=True, timeout=PATIENCE, check=False)
        self.assertEqual((process.stdout, process.returncode), (INIT_OK, 0))


class UnreadInputTests(SynchronousTestCase):
    """Input that waits in the pipe while answers pile up."""

    def test_signal(self) -> None:
        """It is read on, and refused or answered, when the reader goes on during a signal's drain."""
        process = Process(*RUNNERS["python"])
        self.addCleanup(process.end)
        process.send(INIT)
        process.read_line()
        assert process.popen.stdin is not None
        pipe = process.popen.stdin.fileno()
        sent = 0
        # While there is room for a page, a line is taken whole.
        while select.select([], [pipe], [], 0.5)[1]:
            os.write(pipe, message("tcp_request", sent))
            sent += 1
        process.signal()
        process.wait_for_log("draining, at most")
        answers = by_request(bodies(process.read_rest()))
        self.assertEqual(answers.keys(), set(range(sent)))
        self.assertEqual(process.wait(), 0, process.log)
