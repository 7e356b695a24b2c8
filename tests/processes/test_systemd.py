"""The command as systemd starts it, and the unit files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, message
from tests.support.paths import BIN, ROOT
from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process
from tests.support.sockets import connect
from tests.support.systemd import Systemd

SERVICE = ROOT / "deploy" / "systemd" / "twisted-node.service"


class NotifyTests(SynchronousTestCase):
    """The command, started as systemd starts it."""

    def start(self, address: str, bound: str) -> tuple[Systemd, Process]:
        systemd = Systemd(bound)
        self.addCleanup(systemd.socket.close)
        process = Process(
            *RUNNERS["python"],
            "--listen=tcp:0:interface=127.0.0.1",
            "--drain-timeout=100",
            env={**os.environ, "NOTIFY_SOCKET": address},
        )
        self.addCleanup(process.end)
        self.assertEqual(systemd.receive()["READY"], "1")
        return systemd, process

    def test_path(self) -> None:
        """Ready, stopping, more time, the end: in this order."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = os.path.join(directory, "notify")
        systemd, process = self.start(path, path)
        with connect(process.port()) as client:
            client.sendall(message("tcp_request", 1, latency_ms=3000) + message("tcp_drain_status", 2))
            client.recv(4096)
            process.signal()
            first = systemd.receive()
            self.assertEqual(first["STOPPING"], "1")
            self.assertTrue(first["STATUS"].startswith("draining (SIGTERM): 1 in flight, 1 connections, 100 s left"))
            self.assertTrue(101e6 < int(first["EXTEND_TIMEOUT_USEC"]) <= 102e6)
            self.assertLess(int(systemd.receive()["EXTEND_TIMEOUT_USEC"]), int(first["EXTEND_TIMEOUT_USEC"]))
        self.assertEqual(process.wait(), 0)
        self.assertEqual(systemd.receive_all()[-1]["STATUS"], "clean: 1 finished, 0 refused, 0 cut, 0 undelivered")

    def test_abstract(self) -> None:
        """The socket may have no path."""
        name = f"twisted-node-{os.getpid()}"
        systemd, process = self.start("@" + name, "\0" + name)
        process.signal()
        self.assertEqual(systemd.receive()["STOPPING"], "1")
        self.assertEqual(process.wait(), 0)

    def test_not_started_by_systemd(self) -> None:
        """Without a socket there is nobody to tell, and children inherit nothing."""
        process = Process(*RUNNERS["python"], env={k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"})
        self.addCleanup(process.end)
        process.send(INIT)
        process.close_input()
        self.assertEqual(process.wait(), 0)


class UnitTests(SynchronousTestCase):
    """The unit files."""

    def test_units_are_valid(self) -> None:
        """There is nothing that systemd finds nothing to complain of in them."""
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        units = []
        for unit in sorted((ROOT / "deploy" / "systemd").iterdir()):
            # The program is installed elsewhere here.
            text, replaced = re.subn(r"/opt/twisted-node/bin(?=/)", str(BIN), unit.read_text())
            self.assertEqual(replaced, 2 * int(unit.suffix == ".service"))
            units.append(directory / unit.name)
            units[-1].write_text(text)
        self.assertEqual([unit.suffix for unit in units], [".service", ".socket"])
        result = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *map(str, units)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_hardened(self) -> None:
        """The service may do little, as systemd sees it: at most 1.5, where 10 is everything."""
        result = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--threshold=15", str(SERVICE)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stdout)
