"""The benchmarks, each with tiny numbers: that they run, not how fast anything is."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.support.paths import ROOT
from tests.support.processes import run_to_end, unmeasured


class BenchmarkTests(SynchronousTestCase):
    """What ``make bench`` runs, at its smallest."""

    def check(self, part: str, figure: str) -> None:
        """Run one part; it must print a figure of this name."""
        command = [sys.executable, "-m", "benchmarks", "--quick", part]
        run = run_to_end(command, cwd=ROOT)
        self.assertEqual(run.returncode, 0, run.stderr)
        rows = [line for line in run.stdout.splitlines() if line.startswith(f"| {figure}")]
        self.assertTrue(rows, run.stdout)
        self.assertRegex(rows[0], r"\| [\d.,]+ \S+ \| [\d.,]+ to [\d.,]+ \|")

    def test_stdio(self) -> None:
        """Throughput on standard input is compared with the naive loop."""
        self.check("stdio", "as fast as the naive loop")

    def test_tcp(self) -> None:
        """Throughput on TCP is compared with asyncio streams."""
        self.check("tcp", "1 x 1: as fast as streams |")

    def test_connections(self) -> None:
        """Connections have a price, idle and busy."""
        self.check("connections", "memory of an idle connection")

    def test_in_flight(self) -> None:
        """Requests in flight are held, answered, drained and cut."""
        self.check("in_flight", "100 in flight: cutting all")

    def test_stop(self) -> None:
        """A process with clients is stopped, idle and busy."""
        self.check("stop", "from the last answer, 20 connections")

    def test_start(self) -> None:
        """Each way to start is compared with an import of the reactor."""
        self.check("start", "twistd: of a bare import")

    def test_in_process(self) -> None:
        """The drain has a price."""
        if not find_spec("pytest_benchmark"):
            raise SkipTest("needs the bench extra")
        self.check("in_process", "the price of the drain, answers later")

    def test_workers(self) -> None:
        """Several nodes share one listening socket."""
        self.check("workers", "SO_REUSEPORT: the busiest node's share")

    def test_shutdown(self) -> None:
        """A server is stopped under a storm; also at a distance, where that can be had."""
        command = [sys.executable, "-m", "benchmarks.shutdown", "--stops", "1", "--only", "DrainingSite"]
        run = run_to_end(command, cwd=ROOT)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertRegex(run.stdout, r"\n\| DrainingSite [\d.]+ +(\| \d+ +){4,6}\| 0 ")

    def check_restart(self, only: str, row: str) -> None:
        command = [sys.executable, "-m", "benchmarks.restart", "--restarts", "1", "--near", "--only", only]
        run = run_to_end(command, cwd=ROOT, env=unmeasured(os.environ))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertRegex(run.stdout, row)

    def test_stop_then_start(self) -> None:
        """A site is stopped and started under a storm of clients: none is lost, and some of each kind are refused."""
        some = r"[1-9][\d,]*"
        kinds = " / ".join([some] * 4)
        self.check_restart("stop-start", rf"\| DrainingSite \S+, stop, then start +\| {some} +\| {kinds} +\| 0 +\|")

    def test_handover(self) -> None:
        """One that replaces itself refuses, loses and tells off none."""
        self.check_restart("handover", r"\| DrainingSite \S+, SIGUSR2 +\| [1-9][\d,]* +\| 0 +\| 0 +\| 0 +\|")

    def test_unknown_part(self) -> None:
        """A part that there is not is refused by its name."""
        command = [sys.executable, "-m", "benchmarks", "warp"]
        run = run_to_end(command, cwd=ROOT)
        self.assertEqual(run.returncode, 2)
        self.assertIn("no such part: warp", run.stderr)
