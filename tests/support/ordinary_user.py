"""An ordinary user, who may not do what root may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.ordinary_user import NOBODY, READER
from tests.support.paths import ROOT


def nobody(*files: Path) -> list[str]:
    """Return what to put before a command to run it as an ordinary user.

    The tests, or Python, may stand where only root may look. Then, and only then, that user may read all files; it has
    no privilege that has to do with the network in any case.
    """
    program = (
        "import subprocess, sys, twisted_node.command; [open(name).close() for name in sys.argv[1:]];"
        # setpriv may find Python where its user, and so a process that this starts, may not.
        "subprocess.run([sys.executable, '-c', ''], check=True)"
    )
    reading = subprocess.run(
        [*NOBODY, sys.executable, "-c", program, *map(str, files)], cwd=ROOT, check=False, stderr=subprocess.DEVNULL
    )
    return READER if reading.returncode else NOBODY
