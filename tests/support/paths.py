"""Where things are."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent.parent


def short_folder(test: SynchronousTestCase) -> Path:
    """Make a folder for unix sockets: their paths hold 107 bytes at most, and trial's own folders have long names."""
    folder = tempfile.mkdtemp(prefix="t")
    test.addCleanup(shutil.rmtree, folder)
    return Path(folder)
