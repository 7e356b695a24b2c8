"""How long a test waits for what should happen."""

from __future__ import annotations

import threading
import time
from typing import Any

#: Seconds after which something that should have happened has not.
PATIENCE = 20.0


def wait_until(condition: Any, patience: float = PATIENCE) -> None:
    """Wait for what no file descriptor tells of, such as a number in /proc."""
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen in time")
        pause.wait(0.005)
