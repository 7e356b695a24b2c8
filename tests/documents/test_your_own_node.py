"""``docs/your-own-node.md``: its files are written, its commands run, and their output compared."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.paths import ROOT
from tests.support.processes import run_to_end

PAGE = (ROOT / "docs" / "your-own-node.md").read_text()


class YourOwnNodeTests(SynchronousTestCase):
    """A reader who types what the page says sees what the page shows."""

    def test_page(self) -> None:
        """Files are named in the paragraph before them; each command prints what stands below it."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, text in re.findall(r"^`(\w+\.py)`.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE):
            (folder / name).write_text(text)
        files = sorted(path.name for path in folder.iterdir())
        self.assertEqual(files, ["hello.py", "test_hello.py", "test_hello_in_memory.py"])
        # The reader's python3 is the one that runs these tests.
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        commands = re.findall(r"```console\n\$ (.*?)```", PAGE, re.DOTALL)
        self.assertEqual(len(commands), 2)
        for block in commands:
            command, end, output = block.partition("\nEND\n")
            if not end:
                command, _, output = block.partition("\n")
            result = run_to_end(["bash", "-c", command + end], cwd=folder, env=environment)
            self.assertEqual((result.stdout, result.stderr, result.returncode), (output, "", 0))
