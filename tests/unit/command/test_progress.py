"""What ``twisted-node drain`` shows."""

from __future__ import annotations

import io
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.support.picture import picture
from twisted_node.command._progress import best_display


class PlainLinesTests(SynchronousTestCase):
    """Plain lines."""

    def test_quiet(self) -> None:
        """A line comes when something has changed, and every five seconds while only the time does."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        display = best_display()
        for took_ms in range(0, 12_000, 1000):
            display.show(picture(took_ms, remaining=2 if took_ms < 7000 else 1))
        display.close()
        left = [line.split(", ")[1] for line in output.getvalue().splitlines()]
        self.assertEqual(left, ["20.0 s left", "15.0 s left", "13.0 s left"])
