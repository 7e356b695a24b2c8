"""The wheel, in an empty environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, INIT_OK, bodies, message
from tests.support.paths import ROOT
from tests.support.processes import run
from twisted_node._version import VERSION


def call(*command: str) -> None:
    """Run a tool; it must succeed."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode:
        raise AssertionError(f"{command}:\n{result.stdout}\n{result.stderr}")


class WheelTests(SynchronousTestCase):
    """What users install; its dependencies come from the package index, as theirs do."""

    timeout = 600

    def test_wheel(self) -> None:
        """The wheel carries the package and the plugin, no cache, and runs the sample in each way."""
        folder = Path(self.mktemp()).absolute()
        source = folder / "source"
        shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "_trial_temp*", "__pycache__"))
        (source / "twisted" / "plugins" / "dropin.cache").write_bytes(b"")
        call(sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={folder}", os.fspath(source))
        (wheel,) = folder.glob(f"twisted_node-{VERSION}-*.whl")
        names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
        package = [path.relative_to(source) for path in (source / "twisted_node").rglob("*") if path.is_file()]
        self.assertEqual(sorted(names), ["twisted/plugins/twisted_node_plugin.py", *sorted(map(str, package))])
        self.assertIn("twisted_node/py.typed", names)

        venv.create(folder / "empty", symlinks=True)
        bin_ = folder / "empty" / "bin"
        quiet = ["--quiet", "--disable-pip-version-check"]
        call(sys.executable, "-m", "pip", "--python", f"{bin_}/python", "install", *quiet, os.fspath(wheel))
        for runner in (
            [f"{bin_}/twistd", "-n", "--pidfile=", "node"],
            [f"{bin_}/twist", "node"],
            [f"{bin_}/python", "-P" if sys.version_info >= (3, 11) else "-I", "-m", "twisted_node"],
        ):
            result = run(lines=INIT + message("tcp_request", 2, latency_ms=10), runner=runner)
            self.assertTrue(result.stdout.startswith(INIT_OK), result.stderr)
            self.assertEqual(bodies(result.stdout)[1]["duration_ms"], 10)
            self.assertEqual(result.returncode, 0)
