"""What is logged while a test runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from twisted.logger import LogEvent, capturedLogs
from twisted.trial.unittest import SynchronousTestCase


def capture_logs(test: SynchronousTestCase) -> Sequence[LogEvent]:
    """Return the events that are logged from now to the end of a test; more are added as they come."""
    stack = ExitStack()
    test.addCleanup(stack.close)
    return stack.enter_context(capturedLogs())
