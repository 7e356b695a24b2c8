"""Clients that may have been asking when the connections began to be finished."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.visitor import Visitor
from twisted_node.server._busy_peers import BusyPeers
from twisted_node.server._connections import Connections

#: Seconds within which the clients ask again.
WITHIN = 0.5


class BusyPeersTests(SynchronousTestCase):
    """Two clients of half a second between two requests, of which one was heard just before."""

    def setUp(self) -> None:
        self.clock = Clock()
        connections = Connections(self.clock)
        self.resting, self.busy = (Visitor(connections, asks_again_within=WITHIN).connection for _ in range(2))
        self.clock.advance(1)
        self.busy.heard()
        self.clock.advance(0.1)
        self.peers = BusyPeers(self.clock)

    def test_before(self) -> None:
        """Nobody is waited for before the connections begin to be finished."""
        self.assertFalse(self.peers.may_ask(self.busy))

    def test_busy(self) -> None:
        """Only the busy one is waited for, for as long as it may take, or until it is heard."""
        for heard in (False, True):
            self.setUp()
            self.peers.find([self.resting, self.busy])
            self.assertEqual((self.peers.may_ask(self.resting), self.peers.may_ask(self.busy)), (False, True))
            self.clock.advance(0.1)
            if heard:
                self.busy.heard()
                self.assertFalse(self.peers.may_ask(self.busy))
            self.assertEqual(self.peers.may_ask(self.busy), not heard)
            self.clock.advance(WITHIN)
            self.assertFalse(self.peers.may_ask(self.busy))

    def test_forget(self) -> None:
        """For one that is lost no timer runs."""
        self.peers.find([self.busy])
        self.peers.may_ask(self.busy)
        self.peers.forget(self.busy)
        self.peers.forget(self.busy)
        self.assertEqual(self.clock.getDelayedCalls(), [])
