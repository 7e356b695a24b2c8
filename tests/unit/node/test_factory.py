"""What makes the connections to a node."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import House, LineClient
from twisted_node.errors import MisuseError
from twisted_node.node._factory import NodeFactory
from twisted_node.node._node import Node
from twisted_node.node._standard_io import StandardStreamsFactory

STATUS = message("tcp_drain_status")


class ConnectionLimitTests(SynchronousTestCase):
    """How many clients there may be."""

    def test_max_connections(self) -> None:
        """A connection too many gets one error line and a clean close; a place that becomes free is given again."""
        house = House()
        factory = house.factory(max_connections=2)
        first, second, third = (LineClient(factory) for _ in range(3))
        self.assertEqual(
            third.take(),
            b'{"src": "n1", "dest": "", "body": {"type": "error", "code": 11,'
            b' "text": "too many connections", "msg_id": 0}}\n',
        )
        self.assertEqual((third.transport.half_closed, third.transport.aborted), (True, False))
        third.send(STATUS)
        self.assertEqual(third.take(), b"")
        third.close_half()
        self.assertTrue(third.transport.closed)
        for client in (first, second):
            client.send(STATUS)
            self.assertEqual(len(bodies(client.take())), 1)
        first.leave()
        fourth = LineClient(factory)
        self.assertEqual((fourth.take(), fourth.transport.half_closed), (b"", False))
        self.assertTrue(LineClient(factory).transport.half_closed)

    def test_refused_client_that_stays(self) -> None:
        """A refused client that does not close is closed after the linger."""
        house = House(linger=2)
        client = house.connect(max_connections=0)
        house.clock.advance(1.9)
        self.assertFalse(client.transport.closed)
        house.clock.advance(0.1)
        self.assertEqual((client.transport.closed, client.transport.aborted), (True, False))


class UnservedTests(SynchronousTestCase):
    """A factory that no service listens with."""

    def test_misuse(self) -> None:
        """It says so, when it is started and when it is to make a connection."""
        node = Node("n1")
        node.bind(House().drain)
        for factory in (NodeFactory(node), StandardStreamsFactory(node, list)):
            for use in (factory.startFactory, lambda: factory.buildProtocol(None)):  # noqa: B023 - called at once
                error = self.assertRaises(MisuseError, use)
                self.assertEqual(str(error), "factory: expected one that DrainingService.listen was given")
