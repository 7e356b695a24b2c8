"""How often Python's garbage collector runs, and over what."""

from __future__ import annotations

import gc
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_node.drain import settle_collector
from twisted_node.drain._collector import collector_paused


class CollectorTests(SynchronousTestCase):
    """The collector of this very process, which is as before after each test."""

    def setUp(self) -> None:
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.enable if gc.isenabled() else gc.disable)
        gc.unfreeze()

    def test_settle(self) -> None:
        """It runs seldom from then on, and leaves alone what exists."""
        made: list[Any] = [[]]
        settle_collector()
        self.assertEqual(gc.get_threshold()[0], 50_000)
        self.assertFalse(any(each is made for each in gc.get_objects()))

    def test_paused(self) -> None:
        """It is off in the block, and afterwards on or off as before, also when the block fails."""
        for switch, enabled in ((gc.enable, True), (gc.disable, False)):
            switch()
            with collector_paused(freeze=False):
                self.assertFalse(gc.isenabled())
            self.assertEqual(gc.isenabled(), enabled)
            with self.assertRaises(ZeroDivisionError), collector_paused(freeze=False):
                1 / 0  # noqa: B018 # it is to fail
            self.assertEqual(gc.isenabled(), enabled)

    def test_freeze(self) -> None:
        """What the block has made is left alone, if that is asked for."""
        for freeze in (False, True):
            with collector_paused(freeze=freeze):
                made: list[Any] = [[]]
            self.assertEqual(any(each is made for each in gc.get_objects()), not freeze)
