"""Where things are."""

from __future__ import annotations

import sys
from pathlib import Path

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent.parent
