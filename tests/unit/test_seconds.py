"""Times that come from outside: what is taken for one, and what is said of anything else."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_node._seconds import LONGEST_SECONDS, check_seconds, read_seconds
from twisted_node.errors import MisuseError

#: Numbers that are no times.
WRONG = (-1, -0.001, LONGEST_SECONDS + 1, float("inf"), float("-inf"), float("nan"))


class CheckSecondsTests(SynchronousTestCase):
    """Arguments."""

    def test_right(self) -> None:
        """From 0 to a day, with a fraction or without."""
        for seconds in (0, 0.0, 0.001, 25, LONGEST_SECONDS):
            check_seconds("delay", seconds)

    def test_wrong(self) -> None:
        """The error names the argument, says what was expected, and what was there."""
        for seconds in (*WRONG, "25", None, b"1"):
            error = self.assertRaises(MisuseError, check_seconds, "delay", seconds)
            self.assertEqual(str(error), f"delay: expected seconds from 0 to 86400, got {seconds!r}")

    def test_zero(self) -> None:
        """Where 0 will not do, the least time will."""
        check_seconds("pause", 0.001, zero=False)
        error = self.assertRaises(MisuseError, check_seconds, "pause", 0, zero=False)
        self.assertEqual(str(error), "pause: expected seconds above 0, at most 86400, got 0")


class ReadSecondsTests(SynchronousTestCase):
    """Texts."""

    def test_right(self) -> None:
        """What Python takes for a number."""
        for text, seconds in (("0", 0), ("2.5", 2.5), (" 7 ", 7), ("1e3", 1000), ("86400", LONGEST_SECONDS)):
            self.assertEqual(read_seconds(text), seconds)

    def test_wrong(self) -> None:
        """The error says what was expected, and what was typed."""
        for text in ("", "soon", "1 s", "1,5", *map(str, WRONG)):
            error = self.assertRaises(ValueError, read_seconds, text)
            self.assertEqual(str(error), f"expected seconds from 0 to 86400, got {text!r}")
