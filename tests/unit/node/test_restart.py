"""``restart``: another process takes the place of a node's."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.handover_reactor import HandoverReactor, let_be_replaced
from tests.support.lines import message
from tests.support.memory import LineClient, Sink
from tests.support.workload import reply
from twisted_node import Drain, DrainingService, Node, Phase
from twisted_node.node._about import answer_restart
from twisted_node.node._factory import NodeFactory
from twisted_node.node._node import requests_of
from twisted_node.testing import MemoryEndpoint


class RestartTests(SynchronousTestCase):
    """The message."""

    def setUp(self) -> None:
        let_be_replaced(self)
        self.reactor = HandoverReactor()
        self.drain = Drain(self.reactor, self.reactor.seconds)
        self.service = DrainingService(self.drain)
        self.addCleanup(self.service.end, "the test is over")
        self.node = Node("n1")
        answer_restart(self.node, self.service)
        self.node.bind(self.drain)
        self.sink = Sink()

    def listen(self) -> None:
        factory = Factory()
        factory.noisy = False
        self.service.listen(serverFromString(reactor, "tcp:0:interface=127.0.0.1"), factory)
        self.service.startService()

    def ask(self, msg_id: int = 2, **fields: float) -> bytes:
        """Send it; what comes out at once."""
        requests_of(self.node).receive(message("restart", msg_id, "c1", **fields), self.sink)
        return self.sink.take()

    def error(self, code: int, text: str, msg_id: int = 0, in_reply_to: int = 2) -> bytes:
        fields = f'"type": "error", "in_reply_to": {in_reply_to}, "code": {code}, "text": "{text}"'
        return reply(f'{fields}, "msg_id": {msg_id}')

    def test_replaced(self) -> None:
        """It is answered when the other process serves, with its pid."""
        self.listen()
        self.assertEqual(self.ask(), b"")
        self.assertEqual(self.drain.in_flight, 1)
        self.reactor.hear(b"ready 77 1.2 0")
        answer = reply('"type": "restart_ok", "in_reply_to": 2, "pid": 77, "msg_id": 0')
        self.assertEqual(self.sink.take(), answer)
        self.assertEqual((self.drain.phase, self.drain.in_flight), (Phase.LAME_DUCK, 0))

    def test_over_a_connection(self) -> None:
        """The answer goes out although its process serves no longer."""
        self.listen()
        factory = NodeFactory(self.node, control=True)
        factory.connections = self.service.connections
        client = LineClient(factory)
        client.send(message("restart"))
        self.reactor.hear(b"ready 77 1.2 0")
        self.assertIn(b'"type": "restart_ok", "in_reply_to": 2, "pid": 77', client.take())

    def test_fails(self) -> None:
        """A process that does not come is told of, and the next one may."""
        self.listen()
        self.ask()
        self.reactor.hear(b"failed no such database")
        self.reactor.lose_line()
        self.assertEqual(self.sink.take(), b"")
        self.reactor.processes[0].end(1)
        self.assertEqual(self.sink.take(), self.error(14, "process 4321: no such database"))
        self.assertIs(self.drain.phase, Phase.SERVING)
        self.assertEqual(self.ask(3), b"")
        self.assertEqual(len(self.reactor.processes), 2)

    def test_ready_timeout(self) -> None:
        """The other process has as long as the message says, or a minute."""
        self.listen()
        for fields, seconds in ({"ready_timeout_ms": 2500}, 2.5), ({}, 60):
            self.ask(**fields)
            self.reactor.advance(seconds - 0.1)
            self.assertFalse(self.reactor.processes[-1].killed)
            self.reactor.advance(0.1)
            self.assertTrue(self.reactor.processes[-1].killed)
            self.reactor.processes[-1].end(signal=9)
            self.assertIn(f"not ready after {seconds:g} s".encode(), self.sink.take())
        self.assertIn(b'"code": 12, "text": "ready_timeout_ms: ', self.ask(ready_timeout_ms=-1))

    def test_not_now(self) -> None:
        """One at a time; and none while the node is ending, which is answered in every phase."""
        self.listen()
        self.ask(1)
        already = "process 4321 is to take its place already"
        self.assertEqual(self.ask(2), self.error(11, already))
        self.drain.begin(5)
        self.reactor.processes[0].end(signal=9)
        ending = "process 4321: this process is to end: asked to"
        self.assertEqual(self.sink.take(), self.error(14, ending, 1, in_reply_to=1))
        self.assertEqual(self.ask(3), self.error(11, "it is ending already", 2, in_reply_to=3))

    def test_cut(self) -> None:
        """A drain that waits for nothing cuts the wait; what becomes of the other process is another matter."""
        self.listen()
        self.ask()
        self.drain.begin(0)
        self.assertEqual(self.sink.take(), self.error(0, "cut by the deadline of the shutdown"))
        self.assertTrue(self.reactor.processes[0].killed)
        with capturedLogs() as logs:
            self.reactor.processes[0].end(signal=9)
        self.assertIn("this process is to end", logs[0]["why"])
        self.assertEqual(self.sink.take(), b"")

    def test_standard_input(self) -> None:
        """A node on standard input cannot be replaced."""
        self.service.listen(MemoryEndpoint(), Factory())
        self.service.startService()
        text = "standard input cannot be handed on; stop this process and start the new one instead"
        self.assertEqual(self.ask(), self.error(10, text))

    def test_without_control(self) -> None:
        """From a client without control it is not supported, and nothing happens."""
        self.listen()
        self.sink.control = False
        self.assertEqual(
            self.ask(), self.error(10, "type 'restart' is not supported here: a --control endpoint takes it")
        )
        self.assertEqual(self.reactor.processes, [])
