"""The watchdog: when it ends the process, and its last words. Here neither is real."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.patience import PATIENCE
from twisted_node import _watchdog
from twisted_node._watchdog import Watchdog


class LastWordsTests(SynchronousTestCase):
    """A process that ends only on paper, by a clock that stands still."""

    def setUp(self) -> None:
        self.clock = Clock()
        #: What was done to the process, in order.
        self.done: list[Any] = []
        system = SimpleNamespace(
            write=lambda descriptor, text: self.done.append((descriptor, text.decode())), _exit=self.done.append
        )
        self.patch(_watchdog, "os", system)
        self.patch(_watchdog, "time", SimpleNamespace(monotonic=self.clock.seconds, sleep=self.slept))
        self.oldest: list[tuple[object, float]] = []
        self.watchdog = Watchdog(lambda: self.oldest)

    def slept(self, seconds: float) -> None:
        self.done.append(f"slept {seconds}")

    def wait(self) -> None:
        """Wait until it has bitten."""
        self.watchdog.start()
        self.watchdog._thread.join(PATIENCE)
        self.assertFalse(self.watchdog._thread.is_alive())

    def test_bites(self) -> None:
        """It names what is in flight and the threads, on standard error, and ends the process with status 1."""
        self.oldest = [("first", 7.0), ("second", 2.5)]
        self.watchdog.bite_at(0)
        self.wait()
        (descriptor, words), status = self.done
        self.assertEqual((descriptor, status), (2, 1))
        self.assertRegex(
            words, r"^not ended in time; in flight: first \(7\.0 s\), second \(2\.5 s\); threads: MainThread.*\n$"
        )
        self.assertNotIn("watchdog", words)

    def test_nothing_in_flight(self) -> None:
        """It says so when nothing is."""
        self.watchdog.bite_at(0)
        self.wait()
        self.assertIn("in flight: nothing; ", str(self.done[0]))

    def test_last_call_counts(self) -> None:
        """A later time replaces an earlier one, whichever is nearer."""
        for moment in (1000.0, 2000.0, 0.0):
            self.watchdog.bite_at(moment)
        self.wait()
        self.assertEqual(self.done[-1], 1)
        # It did not bite before it had heard of the last one.
        self.assertTrue(self.watchdog._times.empty())

    def test_frozen(self) -> None:
        """One that wakes much too late first gives the reactor half a second, once."""
        self.clock.advance(0.2)
        self.watchdog.bite_at(0)
        self.wait()
        self.assertEqual((self.done[0], len(self.done)), ("slept 0.5", 3))

    def test_nothing_to_say(self) -> None:
        """It ends the process even if it cannot say what is left."""
        self.oldest = None  # type: ignore[assignment] # what cannot be read
        self.watchdog.bite_at(0)
        self.wait()
        self.assertEqual(self.done, [1])
