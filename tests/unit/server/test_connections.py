"""The open connections of a server: which may be closed, and when."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import House
from tests.support.visitor import Visitor
from twisted_node.server._connections import ASKING_AGAIN, FIRST_WORDS, Connections


class ConnectionsTests(SynchronousTestCase):
    """Connections while the server serves, drains and ends."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connections = Connections(self.clock, linger=2)

    def tearDown(self) -> None:
        self.connections.stop_waiting()
        self.clock.advance(ASKING_AGAIN)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def open(self, visitor: Visitor) -> list[str]:
        """Open a connection; return what it will have been told."""
        self.connections.opened(visitor)
        return visitor.told

    def drain(self) -> None:
        """Begin the drain, with nothing in flight."""
        self.connections.begin_drain()
        self.connections.finish()

    def test_idle(self) -> None:
        """An idle connection is finished, once, and stays open until it says that it is lost."""
        visitor = Visitor()
        told = self.open(visitor)
        self.connections.changed(visitor)
        self.assertEqual(told, [])
        self.drain()
        self.connections.changed(visitor)
        self.connections.finish()
        self.assertEqual((told, len(self.connections)), (["drain", "finish"], 1))
        self.connections.closed(visitor)
        self.assertEqual(len(self.connections), 0)

    def test_drain_closes_none(self) -> None:
        """The beginning of a drain closes none: that waits for what is in flight."""
        told = self.open(Visitor())
        self.connections.begin_drain()
        self.clock.advance(60)
        self.assertEqual(told, ["drain"])

    def test_owed(self) -> None:
        """A connection whose client waits for an answer stays until that is written."""
        visitor = Visitor(owed=True)
        told = self.open(visitor)
        self.drain()
        self.clock.advance(60)
        self.assertEqual(told, ["drain"])
        visitor.owed = False
        self.connections.changed(visitor)
        self.assertEqual(told, ["drain", "finish"])

    def test_asking(self) -> None:
        """One in the middle of asking is waited for, as long as the linger, from the beginning of the drain."""
        visitor, quicker = Visitor(asking=True), Visitor(asking=True)
        told, quicker_told = self.open(visitor), self.open(quicker)
        self.connections.begin_drain()
        self.clock.advance(1)
        self.connections.finish()
        quicker.asking = False
        self.connections.changed(quicker)
        self.assertEqual(quicker_told, ["drain", "finish"])
        self.clock.advance(0.9)
        self.assertEqual(told, ["drain"])
        self.clock.advance(0.1)
        self.assertEqual(told, ["drain", "finish"])

    def test_asking_too_long(self) -> None:
        """None is waited for any more when the drain has taken longer than the linger."""
        told = self.open(Visitor(asking=True))
        self.connections.begin_drain()
        self.clock.advance(2)
        self.assertEqual(told, ["drain"])
        self.connections.finish()
        self.assertEqual(told, ["drain", "finish"])

    def test_stop_waiting(self) -> None:
        """Who asks can be left waiting at any time; who is owed an answer cannot."""
        asking, owed = self.open(Visitor(asking=True)), self.open(Visitor(asking=True, owed=True))
        self.drain()
        self.connections.stop_waiting()
        self.assertEqual((asking, owed), (["drain", "finish"], ["drain"]))

    def test_bytes_in_the_kernel(self) -> None:
        """What a client has sent already is read first, and answered if it turns out to be a question."""
        visitors = [Visitor(), Visitor()]
        told = [self.open(visitor) for visitor in visitors]
        visitors[0].waiting, visitors[1].waiting = ["owed"], ["asking"]
        self.drain()
        self.assertEqual(told, [["drain"], ["drain"]])
        for visitor in visitors:
            visitor.waiting, visitor.owed, visitor.asking = [], False, False
            self.connections.changed(visitor)
        self.assertEqual(told, [["drain", "finish"], ["drain", "finish"]])

    def test_closed_while_reading(self) -> None:
        """A connection that is lost while it is read is not finished too."""
        visitor = Visitor()
        visitor.read_waiting = lambda: self.connections.closed(visitor)  # type: ignore[method-assign] # its client's doing
        told = self.open(visitor)
        self.drain()
        self.assertEqual((told, len(self.connections)), (["drain"], 0))

    def test_kept(self) -> None:
        """One that is kept stays until it is released, however long that takes."""
        told = self.open(Visitor(kept=True))
        self.drain()
        self.clock.advance(60)
        self.assertEqual(told, ["drain"])
        self.connections.release()
        self.assertEqual(told, ["drain", "finish"])

    def test_released_before(self) -> None:
        """Once released, none is kept."""
        self.connections.release()
        told = self.open(Visitor(kept=True))
        self.drain()
        self.assertEqual(told, ["drain", "finish"])

    def test_finish_one(self) -> None:
        """One may be finished at any time, and once only; one that is gone is not."""
        visitor = Visitor(owed=True)
        told = self.open(visitor)
        self.connections.finish_one(visitor)
        self.connections.finish_one(visitor)
        self.connections.closed(visitor)
        self.connections.finish_one(visitor)
        self.assertEqual(told, ["finish"])

    def test_opened_while_draining(self) -> None:
        """One that was waiting in the queue learns of the drain, and is finished like any other."""
        self.connections.begin_drain()
        told = self.open(Visitor())
        self.assertEqual(told, ["drain"])
        self.connections.finish()
        late = self.open(Visitor())
        self.assertEqual((told, late), (["drain", "finish"], ["drain", "finish"]))

    def test_end(self) -> None:
        """The end closes all that are open, finished or not, and says how many lost bytes by it."""
        visitors = [Visitor(), Visitor(loses=True), Visitor(owed=True, loses=True)]
        told = [self.open(visitor) for visitor in visitors]
        self.drain()
        self.assertEqual(self.connections.end(), 2)
        self.assertEqual([each[-1] for each in told], ["end"] * 3)

    def test_unsent(self) -> None:
        """It is known whether some client has not taken everything."""
        self.open(Visitor())
        self.assertFalse(self.connections.has_unsent())
        self.open(Visitor(loses=True))
        self.assertTrue(self.connections.has_unsent())

    def test_new(self) -> None:
        """A client that connected just before the drain has its first words left, one in the queue has the linger."""
        old, new, queued = Visitor(), Visitor(), Visitor()
        self.open(old)
        self.assertFalse(self.connections.is_new(old))
        self.clock.advance(FIRST_WORDS)
        self.open(new)
        self.clock.advance(FIRST_WORDS / 2)
        self.connections.begin_drain()
        self.open(queued)

        def new_ones() -> list[bool]:
            return [self.connections.is_new(visitor) for visitor in (old, new, queued)]

        self.assertEqual(new_ones(), [False, True, True])
        self.clock.advance(FIRST_WORDS)
        self.assertEqual(new_ones(), [False, False, True])

    def test_when_empty(self) -> None:
        """Those who wait for the last connection to go hear of it, at once if there is none."""
        self.successResultOf(self.connections.when_empty())
        first, second = Visitor(), Visitor()
        self.open(first)
        self.open(second)
        waiting, leaving = self.connections.when_empty(), self.connections.when_empty()
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.connections.closed(first)
        self.assertNoResult(waiting)
        self.connections.closed(second)
        self.successResultOf(waiting)
        self.connections.closed(second)


class NodeConnectionsTests(SynchronousTestCase):
    """The node's own connections in a drain."""

    def setUp(self) -> None:
        self.house = House(linger=1)
        self.connections = self.house.connections

    def test_half_a_line(self) -> None:
        """Half a line is waited for, and its request is answered before the connection closes."""
        client = self.house.connect()
        line = message("tcp_request", 1)
        client.send(line[:30])
        self.house.drain.begin(10)
        self.connections.begin_drain()
        self.connections.finish()
        self.house.clock.advance(0.9)
        self.assertFalse(client.transport.half_closed)
        client.send(line[30:])
        self.assertEqual([body["error"] for body in bodies(client.take())], ["server_shutting_down"])
        self.assertTrue(client.transport.half_closed)

    def test_half_a_line_for_ever(self) -> None:
        """Half a line that is never ended costs the linger."""
        client = self.house.connect()
        client.send(b'{"src"')
        self.connections.begin_drain()
        self.connections.finish()
        self.house.clock.advance(1)
        self.assertTrue(client.transport.half_closed)

    def test_silent(self) -> None:
        """A client that has just connected is heard first; one that has said something and is silent is not."""
        talker = self.house.connect()
        talker.send(message("tcp_drain_status"))
        silent = self.house.connect()
        self.house.clock.advance(FIRST_WORDS / 2)
        self.connections.begin_drain()
        self.connections.finish()
        self.assertEqual((talker.transport.half_closed, silent.transport.half_closed), (True, False))
        self.house.clock.advance(FIRST_WORDS)
        self.assertTrue(silent.transport.half_closed)

    def test_lively(self) -> None:
        """One whose client asks all the time is closed behind its next answer, or when none comes soon."""
        asking, resting = self.house.connect(), self.house.connect()
        for client in (asking, resting):
            client.send(message("tcp_drain_status"))
        self.house.clock.advance(ASKING_AGAIN / 2)
        self.connections.begin_drain()
        self.connections.finish()
        self.assertEqual((asking.transport.half_closed, resting.transport.half_closed), (False, False))
        asking.take()
        asking.send(message("tcp_drain_status"))
        self.assertIn(b"tcp_drain_status_ok", asking.take())
        self.assertEqual((asking.transport.half_closed, resting.transport.half_closed), (True, False))
        self.house.clock.advance(ASKING_AGAIN)
        self.assertTrue(resting.transport.half_closed)

    def test_last_answer(self) -> None:
        """The last answer is written before the connection closes."""
        client = self.house.connect()
        client.send(message("tcp_request", 1, latency_ms=5))
        self.connections.begin_drain()
        self.connections.finish()
        self.house.clock.advance(0.005)
        self.assertIn(b"tcp_request_ok", client.take())
        self.assertTrue(client.transport.half_closed)

    def test_closed_in_its_own_chunk(self) -> None:
        """A chunk that ends the drain is answered whole, whatever follows in it."""
        client = self.house.connect(control=True)
        self.house.drain.when_draining().addCallback(lambda _: self.connections.begin_drain())
        self.house.drain.when_drained().addCallback(lambda _: self.connections.finish())
        client.send(message("tcp_shutdown", 1) + message("tcp_request", 2) + message("tcp_drain_status", 3))
        self.assertEqual([body["in_reply_to"] for body in bodies(client.take())], [1, 2, 3])
        self.assertFalse(client.transport.half_closed)
        self.connections.release()
        self.assertTrue(client.transport.half_closed)

    def test_end(self) -> None:
        """The end closes a connection whose bytes are out, without a reset."""
        client = self.house.connect()
        self.assertEqual(self.connections.end(), 0)
        self.assertEqual((client.transport.closed, client.transport.aborted), (True, False))
