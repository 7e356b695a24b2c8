"""Nodes that are sent signals."""

from __future__ import annotations

import select
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, INIT_OK, bodies, message
from tests.support.processes import AWKWARDLY, RUNNERS, Process, awkward_environment, heed_signals

#: A signal so many seconds after the last one is another one, also where a busy machine hands them over late.
ANOTHER = 0.75


def pause(seconds: float) -> None:
    """Let time pass for a process that has to count it."""
    select.select([], [], [], seconds)


class SignalsTestCase(SynchronousTestCase):
    """Starts processes, and sees to their end."""

    def setUp(self) -> None:
        """Heed signals."""
        heed_signals(self)

    def start(self, *command: str, **options: Any) -> Process:
        """Start a node on standard input; it has handled its init, so it handles signals."""
        process = Process(*command, **options)
        self.addCleanup(process.end)
        process.send(INIT)
        self.assertEqual(process.read_line(), INIT_OK, process.log)
        return process

    def start_with_work(self, *options: str, latency_ms: int = 60_000, **popen: Any) -> Process:
        """Start a node with one request in flight, number 2."""
        process = self.start(*RUNNERS["python"], *options, **popen)
        process.send(message("tcp_request", 2, latency_ms=latency_ms) + message("tcp_drain_status", 3))
        self.assertEqual(bodies(process.read_line())[0]["remaining"], 1)
        return process

    def start_awkwardly(self, runner: str = "python", start: str = "", options: tuple[str, ...] = ()) -> Process:
        """Start a node with awkward handlers."""
        return self.start(*RUNNERS[runner], *AWKWARDLY, *options, env=awkward_environment(start))
