"""Processes whose end somebody takes for the end of the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from twisted.trial.unittest import SynchronousTestCase

from tests.support.handover_reactor import START
from twisted_node.handover import _supervisors
from twisted_node.handover._supervisors import why_not_replaceable


class SupervisorTests(SynchronousTestCase):
    """Who has started a process, and what it can tell them."""

    def setUp(self) -> None:
        self.pidfile: str | None = None
        self.patch(_supervisors, "own_pidfile", lambda: self.pidfile)

    def why_not(
        self,
        environment: Mapping[str, str] = MappingProxyType({}),
        *,
        tells: bool = False,
        pid: int = 100,
        parent: int = 99,
    ) -> str:
        named = {name.encode(): value.encode() for name, value in environment.items()}
        start = replace(START, pid=pid, parent=parent, environment=named)
        return why_not_replaceable(start, tells_systemd=tells) or ""

    def test_nobody(self) -> None:
        """A shell, or another program, has started it."""
        self.assertEqual(self.why_not(), "")

    def test_process_1(self) -> None:
        """It is process 1, or was started by it."""
        self.assertIn("this is process 1", self.why_not(pid=1, parent=0))
        self.assertIn("process 1 has started this one", self.why_not(parent=1))

    def test_systemd(self) -> None:
        """Systemd is told which process is the main one, or it takes the end of this one for the service's."""
        self.assertIn("Type=notify", self.why_not({"SYSTEMD_EXEC_PID": "100"}, parent=1))
        self.assertIn("Type=notify", self.why_not({"SYSTEMD_EXEC_PID": "100"}))
        self.assertEqual(self.why_not({"SYSTEMD_EXEC_PID": "7"}), "", "it has started the shell")
        notify = {"SYSTEMD_EXEC_PID": "100", "NOTIFY_SOCKET": "/run/notify"}
        self.assertEqual(self.why_not(notify, tells=True, parent=1), "")
        self.assertIn("nobody here tells systemd", self.why_not(notify, parent=1))

    def test_pidfile(self) -> None:
        """A pidfile names it."""
        self.pidfile = "node.pid"
        self.assertIn("the pidfile node.pid would go on naming this process", self.why_not())
