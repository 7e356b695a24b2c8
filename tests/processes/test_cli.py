"""``twisted-node``, as a person types it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from dataclasses import asdict
from typing import Any

import pyte

from tests.support.cli import COMMAND, CliCase, answer, server
from tests.support.patience import PATIENCE
from tests.support.picture import picture
from tests.support.processes import Process
from tests.support.sockets import fill
from twisted_node._version import VERSION
from twisted_node.command._cli import CLEAN, CUT, INTERRUPTED, NOT_ASKED


class StatusCommandTests(CliCase):
    """``twisted-node status``."""

    def test_status(self) -> None:
        """For people it says a figure a line, and the oldest requests; for programs, what /status says."""
        node = self.start()
        self.send(node, 60_000)
        status, output, _ = self.run_command("status", self.endpoint)
        self.assertEqual(status, CLEAN)
        about = rf"^node +n1\npid +{node.popen.pid}\nversion +{re.escape(VERSION)}\nup +\d+\.\d s\nphase +serving\n"
        self.assertRegex(output, about)
        self.assertRegex(output, r"(?m)^deadline +none is set; a drain cuts what is left after 25 s$")
        self.assertRegex(output, r"(?m)^oldest +tcp_request 0 from shop +\d+\.\d s$")
        status, output, _ = self.run_command("status", "--json", self.endpoint)
        self.assertEqual(status, CLEAN)
        self.assertEqual(json.loads(output)["phase"], "serving")

    def check_cannot_ask(self, endpoint: str, message: str) -> None:
        status, output, error = self.run_command("status", endpoint)
        self.assertEqual((status, output), (NOT_ASKED, ""))
        self.assertRegex(error, rf"^twisted-node: {message}")
        self.assertEqual(error.count("\n"), 1)

    def test_nobody_there(self) -> None:
        """A node that is not there cannot be asked."""
        self.check_cannot_ask(self.endpoint, f"{self.endpoint}: .*No such file")

    def test_no_endpoint(self) -> None:
        """A string that is no endpoint is told in one line."""
        self.check_cannot_ask("nonsense", "nonsense: unknown kind of endpoint: 'nonsense'; expected one such as ")
        self.check_cannot_ask("7001", "7001: expected a kind of endpoint first: tcp:localhost:7001$")
        self.check_cannot_ask("node:8x", "node:8x: unknown kind of endpoint: 'node'")
        self.check_cannot_ask("tcp:node.example:8x", "tcp:node.example:8x: expected a number, got '8x'$")

    def test_not_a_control_endpoint(self) -> None:
        """Where clients connect, the node refuses."""
        node = self.start()
        self.check_cannot_ask(
            f"tcp:127.0.0.1:{node.port()}", "the node refuses: .* not supported here: a --control endpoint takes it$"
        )

    def check_server(self, answer: bytes, message: str) -> None:
        with server(answer) as endpoint:
            self.check_cannot_ask(endpoint, message)

    def test_no_node(self) -> None:
        """What answers, but not as a node does, is no node."""
        self.check_server(b"HTTP/1.1 400 Bad Request\n\n", "what answers is no node")
        self.check_server(b"[]\n", "what answers is no node")
        self.check_server(b'{"body": {"type": "statistics_ok", "phase": 1}}\n', "the node's answer makes no sense")

    def test_closes(self) -> None:
        """One who closes instead of answering could not be asked."""
        with server() as endpoint:
            self.check_cannot_ask(endpoint, "the node closed the connection")

    def test_wrong_timeout(self) -> None:
        """A timeout that is none is told."""
        for text in ("soon", "-1"):
            status, _, error = self.run_command("drain", self.endpoint, f"--timeout={text}")
            self.assertEqual(status, NOT_ASKED)
            self.assertIn(f"argument --timeout: expected seconds from 0 to 86400, got '{text}'", error)
        self.start()
        status, _, error = self.run_command("drain", self.endpoint, "--timeout=3601")
        self.assertEqual(status, NOT_ASKED)
        self.assertIn("the node refuses: drain_timeout_ms: ", error)


class DrainTests(CliCase):
    """``twisted-node drain``, where it goes to no terminal."""

    def test_drained(self) -> None:
        """It says what remains, and at last how it went; the node has ended with it."""
        node = self.start()
        latency = self.long_enough()
        self.send(node, latency, latency + 100, src="sh\x1bop")
        status, output, error = self.run_command("drain", self.endpoint)
        self.assertEqual((status, error), (CLEAN, ""))
        first, *_, last = output.splitlines()
        self.assertRegex(
            first, r"^draining \(tcp_shutdown from twisted-node-\d+\): 2 remaining, 25\.0 s left; the oldest: "
        )
        self.assertIn("tcp_request 0 from sh\N{REPLACEMENT CHARACTER}op (", first)
        self.assertRegex(last, r"^drained in \d+\.\d{3} s: 2 finished, 0 refused, 0 cut, 0 undelivered$")
        self.assertEqual(node.wait(), 0)

    def test_idle(self) -> None:
        """A node with nothing to do has drained when it says so."""
        node = self.start()
        status, output, _ = self.run_command("drain", self.endpoint)
        self.assertEqual(status, CLEAN)
        self.assertRegex(output, r"^drained in 0\.\d{3} s: [^\n]*\n$")
        self.assertEqual(node.wait(), 0)

    def test_cut(self) -> None:
        """What the deadline cuts is named, and the exit status says so."""
        node = self.start()
        self.send(node, 60_000)
        status, output, _ = self.run_command("drain", self.endpoint, "--timeout", "0.3")
        self.assertEqual(status, CUT)
        self.assertRegex(
            output.splitlines()[-1],
            r"^timed out after (0\.[3-9]|[1-9]\.\d)\d\d s: .* 1 cut, .*; cut: tcp_request 0 from shop",
        )
        self.assertEqual(node.wait(), 1)

    def test_reader_goes(self) -> None:
        """When nobody reads what it says any more, that stops the watching and not the drain."""
        node = self.start()
        self.send(node, self.long_enough())
        watcher = Process(COMMAND, "drain", self.endpoint)
        self.addCleanup(watcher.end)
        self.assertIn(b"1 remaining", watcher.read_line())
        assert watcher.popen.stdout is not None
        watcher.popen.stdout.close()
        self.assertEqual(watcher.wait(), INTERRUPTED)
        self.assertEqual(watcher.log, "")
        self.assertEqual(node.wait(), 0)

    def test_unread(self) -> None:
        """Answers that their client does not read are waited for as the node does, and count as cut."""
        node = self.start("--drain-timeout=2", "--linger=0.5")
        client = socket.socket()
        self.addCleanup(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect(("127.0.0.1", node.port()))
        fill(client)
        status, output, error = self.run_command("drain", self.endpoint)
        self.assertEqual(status, CUT, error)
        self.assertIn("1 others open the moment before", output)
        self.assertEqual(node.wait(), 1)

    def test_without_linger(self) -> None:
        """A node that lingers for nobody is asked in time, or is gone at its deadline: both count as cut."""
        node = self.start("--linger=0")
        self.send(node, 60_000)
        status, _, error = self.run_command("drain", self.endpoint, "--timeout", "0.3")
        self.assertEqual(status, CUT, error)
        self.assertEqual(node.wait(), 1)

    def test_closed_at_the_deadline(self) -> None:
        """A node that is gone at its deadline, with work left the moment before, has cut it for all that is known."""
        last = picture(19_950, remaining=3)
        with server(answer(tcp_shutdown_ok={}), answer(statistics_ok=asdict(last))) as endpoint:
            status, output, _ = self.run_command("drain", endpoint)
        self.assertEqual(status, CUT)
        self.assertEqual(
            output.splitlines()[-1],
            "the node closed the connection at its deadline, with 3 in flight the moment before",
        )

    def test_lost(self) -> None:
        """A node that goes before its drain has ended leaves the outcome unknown."""
        node = self.start()
        self.send(node, 60_000)
        command = Process(COMMAND, "drain", self.endpoint)
        self.addCleanup(command.end)
        self.assertIn(b"1 remaining", command.read_line())
        node.signal(signal.SIGKILL)
        self.assertEqual(command.wait(), NOT_ASKED)
        self.assertIn("the node closed the connection before it had answered", command.log)

    def check_interrupted(self, number: int) -> None:
        node = self.start()
        self.send(node, self.long_enough())
        command = Process(COMMAND, "drain", self.endpoint)
        self.addCleanup(command.end)
        self.assertIn(b"1 remaining", command.read_line())
        command.signal(number)
        self.assertEqual(command.wait(), INTERRUPTED)
        self.assertEqual(command.log, "interrupted; a drain goes on\n")
        self.assertEqual(node.wait(), 0)

    def test_interrupted(self) -> None:
        """Ctrl-C stops the watching; the drain goes on."""
        self.check_interrupted(signal.SIGINT)

    def test_terminated(self) -> None:
        """So does the end of its own supervisor's patience."""
        self.check_interrupted(signal.SIGTERM)


class Terminal:
    """A terminal of 80 by 24, with a command in it."""

    def __init__(self, *command: str, **options: Any) -> None:
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        for name in ("NO_COLOR", "CI", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self.popen = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True, **options
        )
        os.close(theirs)

    def read_until(self, pattern: str | None) -> str:
        """Read until the screen shows something, or, for None, to the end."""
        deadline = time.monotonic() + PATIENCE
        while pattern is None or not re.search(pattern, self.text()):
            ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"{pattern!r} is not on the screen:\n{self.text()}")
            try:
                self._stream.feed(os.read(self._ours, 4096))
            except OSError:
                if pattern is not None:
                    raise AssertionError(f"ended without {pattern!r}:\n{self.text()}") from None
                break
        return self.text()

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        os.close(self._ours)


class BarTests(CliCase):
    """``twisted-node drain`` on a terminal."""

    def drain(self, *command: str) -> Terminal:
        terminal = Terminal(*(command or (COMMAND,)), "drain", self.endpoint)
        self.addCleanup(terminal.end)
        return terminal

    def test_bar(self) -> None:
        """A bar grows, with what remains, the time left and the oldest requests; one line of it stays."""
        node = self.start()
        latency = self.long_enough()
        self.send(node, latency, latency + 2000, latency + 2100, latency + 2200)
        terminal = self.drain()
        terminal.read_until("4 remaining")
        text = terminal.read_until("3 remaining")
        phase, bar, *oldest = text.splitlines()
        self.assertRegex(phase, r"^draining \(tcp_shutdown from twisted-node-\d+\)$")
        self.assertRegex(bar, r"^━+ ?.*3 remaining +\d\d\.\d s left$")
        self.assertEqual(len(oldest), 3)
        self.assertRegex(oldest[0], r"^oldest +tcp_request 1 from shop +\d+\.\d s$")
        colours = {terminal.screen.buffer[1][column].fg for column in range(50)}
        self.assertGreater(len(colours), 1, "a part of the bar is done")
        text = terminal.read_until(None)
        self.assertRegex(text, r"^drained in \d+\.\d{3} s: 4 finished, 0 refused, 0 cut, 0 undelivered$")
        self.assertIs(terminal.screen.cursor.hidden, False)
        self.assertEqual(terminal.popen.wait(PATIENCE), CLEAN)

    def test_interrupted(self) -> None:
        """Ctrl-C leaves the terminal as it was."""
        node = self.start()
        self.send(node, 60_000)
        terminal = self.drain()
        terminal.read_until("1 remaining")
        terminal.popen.send_signal(signal.SIGINT)
        self.assertEqual(terminal.read_until(None), "interrupted; a drain goes on")
        self.assertIs(terminal.screen.cursor.hidden, False)
        self.assertEqual(terminal.popen.wait(PATIENCE), INTERRUPTED)

    def test_without_the_extra(self) -> None:
        """Without the library that draws the bar there are plain lines."""
        node = self.start()
        self.send(node, 60_000)
        program = "import sys; sys.modules['rich.live'] = None; from twisted_node.command._cli import main; main()"
        terminal = Terminal(sys.executable, "-c", program, "drain", "--timeout=1", self.endpoint)
        self.addCleanup(terminal.end)
        text = terminal.read_until("(?s)draining.*timed out")
        self.assertIn("1 remaining", text)
        self.assertEqual(terminal.popen.wait(PATIENCE), CUT)
