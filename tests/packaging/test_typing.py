"""The types, as a user's own mypy reads them."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.support.paths import ROOT


class PlainMypyTests(SynchronousTestCase):
    """``mypy --strict`` without any set-up, and without the plugin of mypy-zope."""

    def test_programs(self) -> None:
        """Programs like those in the documents pass, and so do the examples."""
        programs = [ROOT / "tests" / "packaging" / name for name in ("typing_api.py", "typing_user.py")]
        # Without the plugin mypy takes no method of Twisted's reactor for one.
        programs += [path for path in (ROOT / "examples").glob("*.py") if "reactor.run()" not in path.read_text()]
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={self.mktemp()}"]
        result = subprocess.run([*command, *programs], capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(result.stdout, f"Success: no issues found in {len(programs)} source files\n")
