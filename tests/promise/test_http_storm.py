"""``examples/site.tac`` under a storm of our own clients."""

from __future__ import annotations

import asyncio
import time

from twisted.trial.unittest import TestCase

from benchmarks.http_storm import CLIENTS, Result, Storm
from tests.support.site import start_site


class StormTests(TestCase):
    """Each test has a process of its own."""

    def setUp(self) -> None:
        self.process, self.port = start_site()
        self.addCleanup(self.process.end)

    def storm(self, **clients: int) -> Result:
        """Let clients loose, stop the site, and see it end well, with nothing lost but what starved clients may."""

        async def stop() -> None:
            self.process.signal()
            await asyncio.to_thread(self.process.wait)

        result = asyncio.run(Storm(self.port, int(time.time()), clients or CLIENTS).run(stop))
        self.assertEqual(sum(result.lost.values()), result.crossed, result)
        self.assertLessEqual(result.crossed, 2)
        self.assertGreater(result.answered, 100)
        self.assertEqual(self.process.wait(), 0)
        return result

    def test_storm(self) -> None:
        """A storm of clients in every state loses nothing, and every half-sent request is answered."""
        self.assertEqual(self.storm().half_sent_answered, CLIENTS["half_sent"])

    def test_nothing_slow(self) -> None:
        """When no request takes any time, clients that ask all the time are not cut between two of them either."""
        self.storm(keep_alive=30)
