"""The open connections of a server: which may be closed, and when."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import House
from tests.support.visitor import FINISHED, VisitorsTestCase
from twisted_node.server._client_waits import FIRST_WORDS

#: Seconds within which some clients ask again.
WITHIN = 0.01


class ConnectionsTests(VisitorsTestCase):
    """Connections while the server serves, drains and ends."""

    def test_idle(self) -> None:
        """An idle connection is finished, once, and stays open until it says that it is lost."""
        visitor = self.open()
        visitor.connection.look_again()
        self.assertEqual(visitor.told, [])
        self.drain()
        visitor.connection.look_again()
        self.connections.lose_patience()
        self.assertEqual((visitor.told, len(self.connections)), (["drain", *FINISHED], 1))
        visitor.leave()
        self.assertEqual(len(self.connections), 0)

    def test_drain_closes_none(self) -> None:
        """The beginning of a drain closes none: that waits for what is in flight."""
        visitor = self.open()
        self.connections.begin_drain()
        self.clock.advance(60)
        self.assertEqual(visitor.told, ["drain"])

    def test_owed(self) -> None:
        """A connection whose client waits for an answer stays until that is written."""
        visitor = self.open(owed=True)
        self.drain()
        self.clock.advance(60)
        self.assertEqual(visitor.told, ["drain"])
        visitor.owed = False
        visitor.connection.look_again()
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_not_read_from(self) -> None:
        """One that we do not read from for now counts as asking, unless its client has sent everything."""
        visitor, silent = self.open(), self.open()
        visitor.connection.paused = silent.connection.paused = True
        silent.connection.client_closed()
        self.drain()
        self.assertEqual((visitor.told, silent.told), (["drain"], ["drain", "last words", "close at once"]))
        self.clock.advance(2)
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_lose_patience(self) -> None:
        """Who asks can be left waiting at any time; who is owed an answer cannot."""
        asking, owed = self.open(asking=True), self.open(asking=True, owed=True)
        self.drain()
        self.connections.lose_patience()
        self.assertEqual((asking.told, owed.told), (["drain", *FINISHED], ["drain"]))

    def test_bytes_in_the_kernel(self) -> None:
        """What a client has sent already is read first, and answered if it turns out to be a question."""
        visitors = [self.open(), self.open()]
        visitors[0].waiting, visitors[1].waiting = ["owed"], ["asking"]
        self.drain()
        self.assertEqual([visitor.told for visitor in visitors], [["drain"], ["drain"]])
        for visitor in visitors:
            visitor.waiting, visitor.owed, visitor.asking = [], False, False
            visitor.connection.look_again()
        self.assertEqual([visitor.told for visitor in visitors], [["drain", *FINISHED], ["drain", *FINISHED]])

    def test_closed_while_reading(self) -> None:
        """A connection that is lost while it is read is not finished too."""
        visitor = self.open()

        def leave() -> bool:
            visitor.leave()
            return False

        visitor.read_waiting = leave  # type: ignore[method-assign] # its client's doing
        self.drain()
        self.assertEqual((visitor.told, len(self.connections)), (["drain", "closed"], 0))

    def test_kept(self) -> None:
        """One that is kept open stays for the linger when the drain has ended, and is closed without another one."""
        visitor, reader = self.open(kept=True), self.open(kept=True, loses=True)
        self.connections.begin_drain()
        self.clock.advance(60)
        self.connections.finish()
        self.clock.advance(1.9)
        late = self.open(kept=True)
        self.assertEqual((visitor.told, reader.told), (["drain"], ["drain"]))
        self.clock.advance(0.1)
        self.assertEqual(
            (visitor.told, late.told), (["drain", *FINISHED, "close now"], ["drain", *FINISHED, "close now"])
        )
        # A client that has not taken its answers has the time that any has.
        self.assertEqual(reader.told, ["drain", *FINISHED])

    def test_kept_while_others_have_not_read(self) -> None:
        """One that is kept open stays while another client has not taken its answers: it wants to see the end."""
        visitor, reader = self.open(kept=True), self.open(loses=True)
        self.drain()
        self.clock.pump([2, 2])
        self.assertEqual(visitor.told, ["drain"])
        reader.loses = False
        self.clock.advance(2)
        self.assertEqual(visitor.told, ["drain", *FINISHED, "close now"])

    def test_kept_while_owed(self) -> None:
        """One whose client waits for an answer by then stays until that is written."""
        visitor = self.open(kept=True, owed=True)
        self.drain()
        self.clock.advance(2)
        self.assertEqual(visitor.told, ["drain"])
        visitor.owed = False
        visitor.connection.look_again()
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_released(self) -> None:
        """One that is kept open by a server that goes on stays until it is released, however long that takes."""
        visitor = self.open(kept=True)
        self.connections.begin_drain()
        self.clock.advance(60)
        self.connections.release()
        self.connections.finish()
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_released_before(self) -> None:
        """Once released, none is kept open."""
        self.connections.release()
        visitor = self.open(kept=True)
        self.drain()
        self.assertEqual(visitor.told, ["drain", *FINISHED])

    def test_finish_one(self) -> None:
        """One may be finished at any time, and once only; one that is gone is not."""
        visitor = self.open(owed=True)
        visitor.connection.finish()
        visitor.connection.finish()
        self.assertEqual(visitor.told, FINISHED)
        visitor.leave()
        visitor.connection.finish()
        self.assertEqual(visitor.told, [*FINISHED, "closed"])

    def test_end(self) -> None:
        """The end closes all that are open, finished or not; it is known before how many lose bytes by it."""
        visitors = [self.open(), self.open(loses=True), self.open(owed=True, loses=True)]
        self.drain()
        self.assertEqual(len(self.connections.unsent()), 2)
        self.connections.close_now()
        self.assertEqual([visitor.told[-1] for visitor in visitors], ["close now"] * 3)

    def test_unsent(self) -> None:
        """It is known how many clients have not taken everything."""
        self.open()
        self.assertEqual(len(self.connections.unsent()), 0)
        self.open(loses=True)
        self.assertEqual(len(self.connections.unsent()), 1)

    def test_when_empty(self) -> None:
        """Those who wait for the last connection to go hear of it, at once if there is none."""
        self.successResultOf(self.connections.when_empty())
        first, second = self.open(), self.open()
        waiting, leaving = self.connections.when_empty(), self.connections.when_empty()
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        first.leave()
        self.assertNoResult(waiting)
        second.leave()
        self.successResultOf(waiting)
        second.leave()


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
        self.house.clock.advance(WITHIN / 2)
        self.connections.begin_drain()
        self.connections.finish()
        self.assertEqual((asking.transport.half_closed, resting.transport.half_closed), (False, False))
        asking.take()
        asking.send(message("tcp_drain_status"))
        self.assertIn(b"tcp_drain_status_ok", asking.take())
        self.assertEqual((asking.transport.half_closed, resting.transport.half_closed), (True, False))
        self.house.clock.advance(WITHIN)
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
        self.assertEqual(len(self.connections.unsent()), 0)
        self.connections.close_now()
        self.assertEqual((client.transport.closed, client.transport.aborted), (True, False))
