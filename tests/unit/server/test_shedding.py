"""How a lame duck sends its clients away."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.support.visitor import Visitor
from twisted_node import Drain, DrainingService, IDrainable, Phase
from twisted_node.server._client_waits import FIRST_WORDS
from twisted_node.server._connections import Connections
from twisted_node.server._shedding import Shedding
from twisted_node.testing import MemoryServer


class Draws:
    """A source of chance that always draws the same."""

    def __init__(self, number: float = 0.0) -> None:
        self.number = number

    def __call__(self) -> float:
        return self.number


class SheddingTests(SynchronousTestCase):
    """A lame duck of 10 s."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.drain = Drain(self.clock, self.clock.seconds)
        self.drain.lame_duck(10, 20)
        self.draws = Draws()
        self.shedding = Shedding(self.drain, self.draws)

    def test_grows(self) -> None:
        """The chance grows from 0 to 1 over the lame duck, and stays there."""
        chances = []
        for _ in range(6):
            chances.append(self.shedding.chance)
            self.clock.advance(2.5)
        self.assertEqual(chances, [0, 0.25, 0.5, 0.75, 1, 1])

    def test_nearer_end(self) -> None:
        """If the end comes nearer, the chance follows."""
        self.clock.advance(2)
        self.drain.lame_duck(2, 20)
        self.assertEqual(self.shedding.chance, 0.5)

    def test_at_once(self) -> None:
        """The chance can be 1 from the start."""
        self.assertEqual(Shedding(self.drain, self.draws, at_once=True).chance, 1)

    def test_draw(self) -> None:
        """A client goes if the number drawn is less than the chance: never at 0, always at 1."""
        self.assertFalse(self.shedding.draw())
        self.clock.advance(5)
        drawn = []
        for self.draws.number in (0.0, 0.49, 0.5, 0.99):
            drawn.append(self.shedding.draw())
        self.assertEqual(drawn, [True, True, False, False])
        self.clock.advance(5)
        self.assertTrue(self.shedding.draw())

    def test_delay(self) -> None:
        """A moment is drawn evenly from what is left, and is now if nothing is."""
        self.draws.number = 0.5
        delays = []
        for seconds in (0, 4, 6):
            self.clock.advance(seconds)
            delays.append(self.shedding.draw_delay())
        self.assertEqual(delays, [5, 3, 0])


class ConnectionsTests(SynchronousTestCase):
    """Connections in a lame duck of 10 s in which every draw sends away."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.drain.lame_duck(60, 60)
        self.connections = Connections(self.clock, linger=2)
        self.visitors: list[Visitor] = []

    def tearDown(self) -> None:
        for visitor in self.visitors:
            visitor.leave()

    def open(self, **state: Any) -> Visitor:
        visitor = Visitor(self.connections, **state)
        self.visitors.append(visitor)
        return visitor

    def answer(self, visitor: Visitor) -> None:
        """Have the visitor get an answer."""
        assert self.connections.shedding is not None
        self.connections.shedding.answered(visitor.connection)

    def begin(self, number: float = 0.0, *, at_once: bool = True) -> None:
        self.connections.release()
        self.connections.begin_lame_duck(Shedding(self.drain, Draws(number), at_once=at_once))

    def end(self) -> None:
        self.connections.end_lame_duck()
        self.connections.begin_drain()

    def gone(self, visitor: Visitor) -> bool:
        return "close" in visitor.told

    def test_answered(self) -> None:
        """In a lame duck an answer may; one that was only looked at stays."""
        answered, silent = self.open(), self.open()
        self.begin()
        self.answer(answered)
        silent.connection.look_again()
        self.assertEqual((answered.told, silent.told), (["lame duck", "last words", "close"], ["lame duck"]))
        self.answer(answered)
        self.assertEqual(answered.told.count("close"), 1)

    def test_drawn(self) -> None:
        """It is drawn for each answer, until the drain begins."""
        self.drain.lame_duck(10, 20)
        visitor = self.open()
        self.begin(0.5, at_once=False)
        for _ in range(6):
            self.answer(visitor)
            self.assertFalse(self.gone(visitor))
            self.clock.advance(1)
        self.answer(visitor)
        self.assertTrue(self.gone(visitor))

    def test_more_is_here(self) -> None:
        """Not while its client waits for more, is asking, has sent more, or has asked to stay."""
        stay: tuple[dict[str, Any], ...] = ({"owed": True}, {"asking": True}, {"kept": True})
        visitors = [self.open(**state) for state in stay]
        for state in ("owed", "asking"):
            visitors.append(self.open())
            visitors[-1].waiting.append(state)
        visitors.append(self.open())
        visitors[-1].unread = True
        visitors.append(self.open())
        visitors[-1].connection.in_handshake = True
        self.begin()
        for visitor in visitors:
            self.answer(visitor)
            self.assertEqual(visitor.told, ["lame duck"])

    def test_second(self) -> None:
        """A second lame duck changes nothing, unless it sends everybody away at once."""
        visitor = self.open()
        self.drain.lame_duck(10, 20)
        self.begin(0.9, at_once=False)
        self.clock.advance(5)
        self.begin(0.0, at_once=False)
        self.answer(visitor)
        self.assertEqual(visitor.told, ["lame duck"])
        self.begin(0.9)
        self.answer(visitor)
        self.assertTrue(self.gone(visitor))

    def test_end(self) -> None:
        """What is idle at the end is finished right before the drain, and what is not is finished when it is."""
        idle, owed, asking = self.open(), self.open(owed=True), self.open(asking=True)
        waiting = self.open()
        waiting.waiting.append("owed")
        self.begin()
        self.end()
        self.assertEqual(idle.told, ["lame duck", "last words", "close", "drain"])
        for visitor in (owed, asking, waiting):
            self.assertEqual(visitor.told, ["lame duck", "drain"])
            visitor.owed = visitor.asking = False
            visitor.waiting.clear()
            visitor.connection.look_again()
            self.assertTrue(self.gone(visitor))

    def test_silent(self) -> None:
        """One that has never said anything is finished too, but for one that has just connected: it has a moment."""
        old = self.open(silent=True)
        self.begin()
        self.clock.advance(1)
        new = self.open(silent=True)
        self.clock.advance(0.01)
        self.end()
        self.assertEqual((self.gone(old), self.gone(new)), (True, False))
        self.clock.advance(FIRST_WORDS)
        self.assertTrue(self.gone(new))

    def test_asking_too_long(self) -> None:
        """One that is asking is waited for as long as the linger, whatever is in flight."""
        asking = self.open(asking=True)
        self.begin()
        self.end()
        self.clock.advance(1.9)
        self.assertFalse(self.gone(asking))
        self.clock.advance(0.1)
        self.assertTrue(self.gone(asking))
        self.connections.finish()

    def test_watches_the_drain(self) -> None:
        """One that asked to stay open sees the end of the drain, whenever it asked."""
        before, after = self.open(kept=True), self.open(owed=True)
        self.begin()
        self.answer(before)
        self.end()
        after.connection.keep_open()
        after.owed = False
        for visitor in (before, after):
            visitor.connection.look_again()
            self.assertFalse(self.gone(visitor))
        self.connections.finish()
        self.assertTrue(self.gone(before))
        self.assertTrue(self.gone(after))
        late = self.open()
        late.connection.keep_open()
        late.connection.look_again()
        self.clock.advance(2)
        self.assertTrue(self.gone(late))

    def test_without_lame_duck(self) -> None:
        """Without a lame duck an idle connection stays until the drain has ended."""
        idle = self.open()
        self.end()
        self.clock.advance(60)
        self.assertEqual(idle.told, ["drain"])
        self.connections.finish()
        self.assertTrue(self.gone(idle))


class ServiceTests(SynchronousTestCase):
    """A service that is told to end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(self.drain, lame_duck=10, random_number=Draws(0.5))
        self.visitor = Visitor(self.service.connections)

    def chance(self) -> float:
        assert self.service.connections.shedding is not None
        return self.service.connections.shedding.chance

    def test_stopped(self) -> None:
        """The chance grows over the lame duck of a stop, by the given source."""
        self.service.stopService()
        shedding = self.service.connections.shedding
        assert shedding is not None
        for seconds, told in ((5.0, []), (0.1, ["last words", "close"])):
            self.clock.advance(seconds)
            shedding.answered(self.visitor.connection)
            self.assertEqual(self.visitor.told, ["lame duck", *told])

    def test_replaced(self) -> None:
        """If another process has taken over, the chance is 1 from the start, also in a lame duck that has begun."""
        for begun in (False, True):
            self.setUp()
            if begun:
                self.service.stopService()
                self.assertEqual(self.chance(), 0)
            self.service._shutdown.end("replaced", lame_duck=1, replaced=True)
            self.assertEqual(self.chance(), 1)

    def test_nobody_told(self) -> None:
        """A lame duck that only the drain was asked for sends nobody away, until the service is told to end too."""
        self.drain.lame_duck(10, 20)
        self.assertEqual(self.visitor.told, [])
        self.service.stopService()
        self.assertEqual(self.visitor.told, ["lame duck"])

    def test_over_at_once(self) -> None:
        """A lame duck that is shorter than the clock can tell is none."""
        self.clock.advance(1000)
        self.service.end("stop", lame_duck=1e-20)
        self.assertTrue(self.drain.refusing)
        self.assertIsNone(self.service.connections.shedding)

    def test_ends(self) -> None:
        """The lame duck ends with what is idle: its client is told nothing else."""
        for ends_early in (False, True):
            self.setUp()
            self.service.stopService()
            if ends_early:
                self.service.end("a second signal")
            else:
                self.clock.advance(10)
            self.assertEqual(self.visitor.told, ["lame duck", "last words", "close", "drain"])
            self.assertIs(self.drain.phase, Phase.DRAINED)

    def test_request_before_the_end(self) -> None:
        """A request that has arrived when the drain begins is still taken, and may begin the drain itself."""
        phases = []

        def read_waiting() -> bool:
            phases.append(self.drain.phase)
            self.drain.begin(5, "a message")
            return False

        self.visitor.read_waiting = read_waiting  # type: ignore[method-assign] # the kernel's part
        self.service.stopService()
        self.clock.advance(10)
        self.assertEqual(phases[0], Phase.LAME_DUCK)
        self.assertIs(self.drain.phase, Phase.DRAINED)
        self.assertEqual(self.drain.reason, "a message")


@implementer(IDrainable)
class Echo(LineReceiver):
    """Answers each line, ``slow`` ones when it is told to."""

    delimiter = b"\n"
    became_idle: Any

    def __init__(self) -> None:
        self.slow = 0

    def is_idle(self) -> bool:
        return not self.slow

    def drain_began(self) -> None: ...

    def lineReceived(self, line: bytes) -> None:
        if line == b"slow":
            self.slow += 1
        elif line:
            self.sendLine(line)

    def answer(self) -> None:
        """Answer a slow line."""
        self.slow -= 1
        self.sendLine(b"slow")
        self.became_idle()


class ProtocolsTests(SynchronousTestCase):
    """Clients of a lame duck of 10 s, of which half is over; a draw decides who goes."""

    def begin(self, server: MemoryServer, draws: Draws) -> None:
        server.stop()
        server.clock.advance(5)
        draws.number = 0.4

    def echo(self) -> Any:
        draws = Draws(0.9)
        server = MemoryServer(lame_duck=10, random_number=draws)
        server.listen(Factory.forProtocol(Echo))
        client = server.connect()
        self.begin(server, draws)
        return client

    def test_drainable(self) -> None:
        """A drainable protocol's connection is closed with an answer, not with a line that gets none."""
        client = self.echo()
        client.send(b"\n")
        self.assertFalse(client.closed)
        client.send(b"one\n")
        self.assertEqual((client.lines(), client.closed, client.aborted), ([b"one"], True, False))

    def test_drainable_slow(self) -> None:
        """With an answer that comes later too, once no other line waits for its answer."""
        client = self.echo()
        client.send(b"slow\nslow\none\n")
        self.assertEqual((client.lines(), client.closed), ([b"one"], False))
        with client._turns:
            client.protocol.protocol.answer()
        self.assertFalse(client.closed)
        with client._turns:
            client.protocol.protocol.answer()
        self.assertEqual((client.lines(), client.closed), ([b"one", b"slow", b"slow"], True))

    def test_unknown(self) -> None:
        """A protocol of which nothing is known stays."""
        draws = Draws()
        server = MemoryServer(lame_duck=10, random_number=draws)
        server.listen(Factory.forProtocol(LineReceiver))
        client = server.connect()
        self.begin(server, draws)
        client.protocol.protocol.transport.write(b"hello")
        client.protocol.look_again()
        self.assertFalse(client.closed)
