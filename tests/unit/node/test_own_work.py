"""The work that a node does of its own accord."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, INIT_OK, message
from tests.support.network import Network
from twisted_node import Drain, MisuseError, Node, Phase
from twisted_node.node._factory import NodeFactory
from twisted_node.server._connections import Connections


class OwnWorkTests(SynchronousTestCase):
    """Work that no request asked for."""

    def setUp(self) -> None:
        self.network = Network()
        self.clock = self.network.clock
        self.node = Node()
        self.done: list[float] = []

    def work(self) -> None:
        self.done.append(round(self.clock.seconds(), 1))

    def start(self) -> None:
        self.network.add("n1", self.node)

    def test_after_init(self) -> None:
        """What is done after init comes after init_ok and before the next line, also in the same chunk."""

        @self.node.after_init
        def greet() -> None:
            for other in self.node.node_ids[1:]:
                self.node.send(other, {"type": "hello"})

        order: list[bytes] = []
        self.network.add("n1", self.node, init=False)
        wire = self.network.protocols["n1"].transport
        wire._route = order.append
        init = INIT.replace(b'["n1"]', b'["n1","n2"]')
        self.network.protocols["n1"].dataReceived(init + message("tcp_request"))
        self.assertEqual(order[0] + b"\n", INIT_OK)
        hello = b'{"src": "n1", "dest": "n2", "body": {"type": "hello", "msg_id": 1}}'
        self.assertEqual(order[1], hello)
        self.assertIn(b'"code": 10', order[2])
        self.network.protocols["n1"].dataReceived(INIT)
        self.assertEqual(order[3:], [INIT_OK[:-1].replace(b'"msg_id": 0', b'"msg_id": 3')])

    def test_after_init_waits_for_a_name(self) -> None:
        """An init that fails starts nothing."""
        self.node.after_init(self.work)
        self.network.add("n1", self.node, init=False)
        self.network.ask("n1", "init", node_ids=[])
        self.network.ask("n1", "echo")
        self.assertEqual(self.done, [])
        self.network.init("n1", ["n1"])
        self.assertEqual(self.done, [0])

    def test_name_known(self) -> None:
        """A node that has its name already does it as soon as it listens, once."""
        self.node.node_id = "n1"
        self.node.after_init(self.work)
        self.network.add("n1", self.node, init=False)
        self.assertEqual(self.done, [0])
        self.network.init("n1", ["n1"])
        self.assertEqual(self.done, [0])

    def test_name_known_on_sockets(self) -> None:
        """The same on sockets."""
        node = Node("n1")
        node.after_init(self.work)
        node.bind(Drain(self.clock))
        self.assertEqual(self.done, [])
        for _ in range(2):
            factory = NodeFactory(node)
            factory.connections = Connections(self.clock)
            factory.doStart()
            self.assertEqual(self.done, [0])

    def test_failure_after_init(self) -> None:
        """What fails after init is logged with its name, and the rest is done."""

        @self.node.after_init
        async def fails() -> None:
            raise KeyError("x")

        self.node.after_init(self.work)
        self.start()
        self.assertEqual(self.done, [0])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_every(self) -> None:
        """Periodic work begins after init, and ends when the drain begins."""
        self.node.every(0.5)(self.work)
        self.clock.advance(10)
        self.start()
        self.network.run(1.7)
        self.assertEqual(self.done, [10.5, 11, 11.5])
        self.node.handle("hold")(lambda _: Deferred())
        self.network.ask("n1", "hold")
        self.network.drain("n1")
        self.network.run(2)
        self.assertIs(self.node.drain.phase, Phase.DRAINING)
        self.assertEqual(self.done, [10.5, 11, 11.5])

    def test_never_overlaps(self) -> None:
        """While periodic work has not ended, its turns are left out; a drain does not wait for it."""
        waiting: list[Deferred[None]] = []

        @self.node.every(1)
        async def slow() -> None:
            self.work()
            waiting.append(Deferred())
            await waiting[-1]

        self.start()
        self.network.run(3.5)
        self.assertEqual(self.done, [1])
        waiting[0].callback(None)
        self.network.run(1)
        self.assertEqual(self.done, [1, 4])
        self.network.drain("n1")
        self.assertIs(self.network.drained["n1"].phase, Phase.DRAINED)
        waiting[1].callback(None)
        self.network.run(3)
        self.assertEqual(self.done, [1, 4])
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])

    def test_failure_of_every(self) -> None:
        """Periodic work that fails is logged and goes on."""

        @self.node.every(1)
        def fails() -> None:
            self.work()
            raise KeyError("x")

        self.start()
        self.network.run(2.5)
        self.assertEqual(self.done, [1, 2])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_init_while_draining(self) -> None:
        """An init that comes while draining starts no periodic work."""
        self.node.every(1)(self.work)
        self.network.add("n1", self.node, init=False)
        self.network.drain("n1")
        self.network.init("n1", ["n1"])
        self.network.run(3)
        self.assertEqual(self.done, [])

    def test_every_misuse(self) -> None:
        """A period must be a number of seconds above 0."""
        for seconds in (0, -1, float("nan"), float("inf")):
            error = self.assertRaises(MisuseError, self.node.every, seconds)
            self.assertEqual(str(error), f"every: expected seconds above 0, at most 86400, got {seconds!r}")

    def test_on_drain(self) -> None:
        """The drain waits for what is done at its beginning."""
        handed_over: Deferred[None] = Deferred()

        @self.node.on_drain
        async def hand_over() -> None:
            self.work()
            await handed_over

        self.start()
        self.network.run(1)
        self.network.drain("n1")
        self.assertEqual(self.done, [1])
        self.assertEqual(self.node.drain.statistics().oldest, (("hand_over", 0),))
        handed_over.callback(None)
        self.assertIs(self.network.drained["n1"].phase, Phase.DRAINED)

    def test_on_drain_cut(self) -> None:
        """The deadline cuts it, and it counts as cut."""
        self.node.on_drain(Deferred)
        self.start()
        self.network.drain("n1")
        self.network.run(26)
        self.assertEqual((self.network.drained["n1"].phase, self.network.drained["n1"].cut), (Phase.TIMED_OUT, 1))
        self.flushLoggedErrors()

    def test_on_drain_fails(self) -> None:
        """It may fail: that is logged, and the drain ends."""
        self.node.on_drain(lambda: 1 / 0)
        self.start()
        self.network.drain("n1")
        self.assertIs(self.network.drained["n1"].phase, Phase.DRAINED)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_never_initialised(self) -> None:
        """A node that never got its name has nothing to hand over."""
        self.node.on_drain(self.work)
        self.network.add("n1", self.node, init=False)
        self.network.drain("n1")
        self.assertEqual(self.done, [])
        self.assertIsInstance(self.clock, Clock)
