"""What docs/watching.md says, held against the program."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path

from prometheus_client import generate_latest
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.admin import curl, figures
from tests.support.paths import BIN, ROOT
from tests.support.patience import wait_until
from tests.support.processes import Process
from twisted_node import Drain, DrainingService, Statistics
from twisted_node.server._status import Picture
from twisted_node.watch._metrics import Metrics

TEXT = (ROOT / "docs" / "watching.md").read_text()


class DocsTests(SynchronousTestCase):
    """The page about watching."""

    def test_program(self) -> None:
        """The program in it runs under twistd as it stands, is watched, drains, and ends."""
        found = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
        assert found is not None
        # Where the page has ports, the test lets the system choose.
        program, replaced = re.subn(r"tcp:\d+:", "tcp:0:", found[1])
        self.assertEqual(replaced, 2)
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        file = Path(directory, "mine.py")
        file.write_text(program)
        log = Path(directory, "log")
        process = Process(str(BIN / "twistd"), "-n", "--pidfile=", f"--logfile={log}", "-y", str(file), cwd=directory)
        self.addCleanup(process.end)
        wait_until(lambda: log.exists() and log.read_text().count("listening on") == 2)
        found = re.search(r"listening on [\d.]+:(\d+)", log.read_text())
        assert found is not None
        admin = int(found[1])
        self.assertEqual(curl(admin, "/readyz"), (200, "ready\n"))
        self.assertEqual(figures(curl(admin, "/metrics")[1])["twisted_node_requests_total{outcome=ok,type=GET}"], 1)
        self.assertEqual(curl(admin, "/drain?timeout=5", "-X", "POST")[0], 202)
        self.assertEqual(process.wait(), 0)

    def test_fields(self) -> None:
        """Every field of the picture is explained, in its order, and each figure of a drain is in the picture."""
        table = TEXT.split("## The picture")[1].split("## Figures")[0]
        names = [field.name for field in fields(Picture)]
        self.assertEqual(re.findall(r"(?m)^\| `(\w+)` \|", table), names)
        for field in fields(Statistics):
            self.assertIn(field.name, [name.removesuffix("_ms") for name in names])

    def test_figures(self) -> None:
        """Every figure is explained."""
        table = TEXT.split("## Figures for Prometheus")[1].split("## At a terminal")[0]
        metrics = Metrics(DrainingService(Drain(Clock())))
        metrics.observe("GET", "ok", 0.1)
        for name in figures(generate_latest(metrics.registry).decode()):
            stem = re.sub(r"_(bucket|count|sum|created)?(\{.*)?$|\{.*", "", name).removeprefix("twisted_node")
            if not stem.startswith("process_"):
                self.assertIn(stem, table)
