"""``twisted-node restart``, as a person types it."""

from __future__ import annotations

import os
import re
import signal
import threading
from dataclasses import asdict

from tests.support.cli import COMMAND, CliCase, answer, server
from tests.support.handover import HandoverTestCase
from tests.support.patience import PATIENCE
from tests.support.picture import picture
from tests.support.processes import Process
from twisted_node._version import VERSION
from twisted_node.command._cli import CLEAN, INTERRUPTED, NOT_ASKED, NOT_REPLACED


class RestartTests(CliCase):
    """``twisted-node restart``."""

    def check_not_replaced(self, status: int, message: str, *answers: bytes) -> None:
        """Have a node, or what looks like one, answer so; it says its state first."""
        with server(answer(statistics_ok=asdict(picture(0, 0))), *answers) as endpoint:
            found = self.run_command("restart", endpoint)
        self.assertEqual(found, (status, "", f"twisted-node: {message}\n"))

    def test_fails(self) -> None:
        """Why a node was not replaced is one line; after that it may be tried again."""
        self.check_not_replaced(
            NOT_REPLACED,
            "not replaced: process 7: no such\N{REPLACEMENT CHARACTER}file",
            answer(error={"code": 14, "text": "process 7: no such\nfile"}),
        )

    def test_not_ready(self) -> None:
        """A new process that needs longer than it may take is killed, and the old one serves."""
        node = self.start()
        status, output, error = self.run_command("restart", self.endpoint, "--timeout=0")
        self.assertEqual((status, output), (NOT_REPLACED, ""))
        self.assertRegex(
            error, r"^twisted-node: not replaced: process \d+: it was not ready after 0 s, and was killed\n$"
        )
        status, output, _ = self.run_command("status", self.endpoint)
        self.assertEqual(status, CLEAN)
        self.assertRegex(output, rf"(?m)^pid +{node.popen.pid}$")

    def test_not_a_control_endpoint(self) -> None:
        """Where clients connect, the node refuses."""
        node = self.start()
        status, output, error = self.run_command("restart", f"tcp:127.0.0.1:{node.port()}")
        self.assertEqual((status, output), (NOT_ASKED, ""))
        self.assertRegex(error, r"^twisted-node: the node refuses: .*: a --control endpoint takes it\n$")

    def test_nobody_there(self) -> None:
        """A node that is not there cannot be asked."""
        status, output, error = self.run_command("restart", self.endpoint)
        self.assertEqual((status, output), (NOT_ASKED, ""))
        self.assertRegex(error, r"^twisted-node: unix:.*No such file[^\n]*\n$")

    def test_old_node(self) -> None:
        """A node of a version without restarts says that it does not know the message, and what to do."""
        self.check_not_replaced(
            NOT_ASKED,
            f"the node (version {VERSION}) cannot be replaced by a message yet: stop it, and start the new one",
            answer(error={"code": 10, "text": "type 'restart' is not supported here"}),
        )

    def test_gone(self) -> None:
        """A node that goes before it has answered leaves it unknown."""
        self.check_not_replaced(NOT_ASKED, "the node closed the connection before it had answered")

    def test_wrong_timeout(self) -> None:
        """A timeout that is none is told, by the command or by the node."""
        status, _, error = self.run_command("restart", self.endpoint, "--timeout=soon")
        self.assertEqual(status, NOT_ASKED)
        self.assertIn("argument --timeout: expected seconds from 0 to 86400, got 'soon'", error)
        self.start()
        status, _, error = self.run_command("restart", self.endpoint, "--timeout=3601")
        self.assertEqual(status, NOT_ASKED)
        self.assertIn("the node refuses: ready_timeout_ms: ", error)

    def test_interrupted(self) -> None:
        """Ctrl-C stops the waiting, and not the restart."""
        asked = threading.Event()
        with server(answer(statistics_ok=asdict(picture(0, 0))), b"", asked=asked) as endpoint:
            command = Process(COMMAND, "restart", endpoint)
            self.addCleanup(command.end)
            self.assertTrue(asked.wait(PATIENCE))
            command.signal(signal.SIGINT)
            self.assertEqual(command.wait(), INTERRUPTED)
            self.assertEqual(command.log, "interrupted; a restart goes on\n")


class ReplacedTests(CliCase, HandoverTestCase):
    """``twisted-node restart``, and a new process that comes."""

    def setUp(self) -> None:
        CliCase.setUp(self)
        HandoverTestCase.setUp(self)

    def test_replaced(self) -> None:
        """It says which process has taken whose place; whoever waits for the old one has the answer."""
        node = self.own(self.start())
        client = self.send(node, self.long_enough())
        status, output, error = self.run_command("restart", self.endpoint)
        self.assertEqual((status, error), (CLEAN, ""))
        found = re.fullmatch(rf"process (\d+) has taken the place of process {node.popen.pid}\n", output)
        assert found is not None, output
        successor = int(found[1])
        self.pids.append(successor)
        _, output, _ = self.run_command("status", self.endpoint)
        self.assertRegex(output, rf"(?m)^pid +{successor}$")
        self.assertIn(b"tcp_request_ok", client.recv(4096))
        self.assertEqual(node.popen.wait(PATIENCE), 0, node.log)
        os.kill(successor, signal.SIGTERM)
        self.assertEqual(self.wait_for_end(successor), 0, node.log)
