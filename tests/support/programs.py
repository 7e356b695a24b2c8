"""Programs of Debian that the tests run."""

from __future__ import annotations

import os
import shutil
from unittest import SkipTest


def find(program: str) -> str:
    """Find a program; in CI it must be there."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get("CI"):
            raise AssertionError(f"{program} is not installed")
        raise SkipTest(f"{program} is not installed")
    return path
