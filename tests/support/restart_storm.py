"""A storm of clients on servers that are restarted, in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.paths import ROOT
from tests.support.patience import LONG_PATIENCE
from tests.support.processes import Process, unmeasured


class RestartStorm:
    """The clients of ``restart_clients``, while the ``with`` block runs.

    Args:
        servers: the address of each kind, ``node`` and ``site``.
        round_trip: seconds to them and back.
        before: what to put before the command.
    """

    def __init__(
        self, servers: dict[str, tuple[str, int]], *, round_trip: float = 0.0, before: Sequence[str] = ()
    ) -> None:
        addresses = [f"{kind}={host}:{port}" for kind, (host, port) in servers.items()]
        self.process = Process(
            *before,
            *[sys.executable, "-m", "tests.support.restart_clients", str(round_trip), *addresses],
            env=unmeasured(os.environ),
            cwd=ROOT,
        )

    def __enter__(self) -> RestartStorm:
        if self.process.read_line() != b"ready\n":
            self.process.end()
            raise AssertionError(f"the storm did not begin: {self.process.log}")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.end()

    def check(self, test: SynchronousTestCase, servers_log: str) -> None:
        """End the storm: each request was answered, well and in time.

        Args:
            test: fails if not.
            servers_log: is shown then.
        """
        self.process.close_input()
        counts: dict[str, dict[str, Any]] = json.loads(self.process.read_line(LONG_PATIENCE))
        for kind, its in counts.items():
            print(f"{kind}: {its}")
        failed = ("refused", "lost", "told", "very_late")
        bad = {kind: its for kind, its in counts.items() if any(its[name] for name in failed)}
        test.assertEqual(bad, {}, f"{self.process.log}\n{servers_log}")
        for kind, its in counts.items():
            test.assertGreater(its["requests"], 10, kind)
