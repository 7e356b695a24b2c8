"""The connection of ``twisted-node`` to a node, in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.command._control import Control
from twisted_node.errors import NodeError


class ControlTests(SynchronousTestCase):
    """The connection to a node, in memory."""

    def test_silence(self) -> None:
        """A node that does not answer is given up after ten seconds; what nobody asked for is ignored."""
        clock = Clock()
        control = Control(clock)
        control.makeConnection(StringTransport())
        asked = Deferred.fromCoroutine(control.ask("statistics", {}))
        clock.advance(9.9)
        self.assertNoResult(asked)
        clock.advance(0.1)
        failure = self.failureResultOf(asked, NodeError)
        self.assertEqual(failure.getErrorMessage(), "the node has not answered for 10 s")
        control.dataReceived(b"too late\n")
        control.connectionLost()
