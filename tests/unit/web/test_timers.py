"""The timers of twisted.web beside the drain's deadline, and how long a client's next request is waited for."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.support.web import get, statuses
from twisted_node.testing import MemoryClient, MemoryServer
from twisted_node.web import DrainingSite

BIG = b"x" * 1_000_000


class BigAndSmall(Resource):
    """A big page, and a small one that says when its client has gone."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Any] = []

    def render_GET(self, request: Any) -> Any:
        if request.path == b"/held":
            self.held.append(request)
            return NOT_DONE_YET
        return BIG if request.path == b"/big" else b"small"


class SiteTestCase(SynchronousTestCase):
    """A site in memory whose idle timer is 1 s, and a drain of 60 s."""

    def setUp(self) -> None:
        self.server = MemoryServer(drain_timeout=60)
        self.drain, self.clock = self.server.drain, self.server.clock
        self.pages = BigAndSmall()
        self.server.listen(DrainingSite(self.pages, drain=self.drain, timeout=1))
        self.client = self.server.connect()

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps of a tenth of a second."""
        self.clock.pump([0.1] * round(seconds * 10))


class IdleTimerTests(SiteTestCase):
    """A client that reads slowly, or not at all, on a site with an idle timer."""

    def ask(self, client: MemoryClient | None = None) -> None:
        """Ask for much, and read little."""
        client = client or self.client
        client.stop_reading(after=1000)
        client.send(get("/big"))

    def has_all(self) -> bool:
        """Whether the client has its answer."""
        return self.client.received.endswith(b"\r\n\r\n" + BIG)

    def test_read_in_the_drain(self) -> None:
        """In a drain only the deadline ends what a client reads: it gets all of it, however late."""
        self.ask()
        ended = self.server.stop()
        self.advance(50)
        self.assertFalse(self.client.gone)
        self.client.start_reading()
        self.assertTrue(self.has_all())
        self.assertEqual(self.successResultOf(ended).cut, 0)

    def test_not_read_in_the_drain(self) -> None:
        """If the client has not read it at the deadline, it counts as cut."""
        self.ask()
        ended = self.server.stop()
        self.advance(61.5)
        self.assertTrue(self.client.aborted)
        self.assertEqual(self.successResultOf(ended).cut, 1)
        self.assertEqual(self.drain.counts.undelivered, 0)

    def test_closed_by_the_timer_before_the_drain(self) -> None:
        """The same if the timer had begun to close the connection before the drain."""
        for reads in (True, False):
            self.setUp()
            self.ask()
            self.advance(2.5)
            ended = self.server.stop()
            self.advance(30)
            self.assertFalse(self.client.gone)
            if reads:
                self.client.start_reading()
            else:
                self.advance(31.5)
            self.assertEqual(self.has_all(), reads)
            self.assertEqual(self.successResultOf(ended).cut, 0 if reads else 1)

    def test_read_before_the_drain(self) -> None:
        """A client that goes on reading is not idle, though it takes longer than the timer."""
        self.ask()
        for _ in range(30):
            self.advance(0.9)
            self.client.stop_reading(after=1000)
        self.client.start_reading()
        self.assertTrue(self.has_all())

    def test_not_read_before_the_drain(self) -> None:
        """One that reads nothing more is closed and then aborted, as by twisted.web; its answer was not delivered."""
        self.ask()
        self.advance(2.5)
        # It is being closed: nothing that comes in is served.
        self.client.send(get("/held"))
        self.assertEqual(self.pages.held, [])
        self.assertFalse(self.client.gone)
        self.advance(15)
        self.assertTrue(self.client.aborted)
        self.assertEqual((self.drain.counts.undelivered, self.drain.counts.cut), (1, 0))

    def test_idle(self) -> None:
        """An idle connection is closed by the timer before a drain, and by the drain after that has begun."""
        self.client.send(get("/small"))
        self.advance(0.9)
        self.assertFalse(self.client.gone)
        self.advance(0.2)
        self.assertTrue(self.client.gone)
        busy, idle = self.server.connect(), self.server.connect()
        busy.send(get("/held"))
        idle.send(get("/small"))
        ended = self.server.stop()
        self.advance(3)
        idle.send(get("/small"))
        self.assertEqual(statuses(idle.received), [200, 503])
        self.pages.held[0].finish()
        self.assertEqual(self.successResultOf(ended).cut, 0)

    def test_closed_in_vain(self) -> None:
        """A client that does not close is closed when its linger is over, without an abort."""
        self.client.lingers = True
        self.client.send(get("/small"))
        self.advance(1.5)
        self.assertEqual((self.client.closed, self.client.gone), (True, False))
        self.advance(1)
        self.assertEqual((self.client.gone, self.client.aborted), (True, False))
        self.assertEqual(self.drain.counts.undelivered, 0)

    def test_read_after_the_timer(self) -> None:
        """A client that reads again while the timer closes its connection gets its answer, and the linger decides."""
        self.client.lingers = True
        self.ask()
        self.advance(16.5)
        self.client.start_reading()
        self.assertTrue(self.has_all())
        self.advance(0.9)
        self.assertFalse(self.client.gone)
        self.advance(0.2)
        self.assertEqual((self.client.gone, self.client.aborted), (True, False))


class NextRequestTests(SiteTestCase):
    """A client that asks again and again on one connection, when the site is stopped between two of its requests."""

    def ask(self, pause: float) -> None:
        """Ask, after a pause."""
        self.clock.advance(pause)
        self.client.send(get("/small"))

    def test_asks_in_time(self) -> None:
        """It is answered, and closed behind the answer: the connection is never closed while it may be asking."""
        self.ask(0)
        self.ask(0.05)
        self.ask(0.3)
        self.clock.advance(0.29)
        ended = self.server.stop()
        self.assertFalse(self.client.closed)
        self.ask(0.2)
        self.assertEqual(statuses(self.client.received), [200] * 3 + [503])
        self.assertEqual(self.client.received.count(b"Connection: close"), 1)
        self.assertTrue(self.client.gone)
        self.assertEqual(self.successResultOf(ended).refused, 1)

    def test_asks_no_more(self) -> None:
        """It is waited for twice as long as it has ever paused, and no longer."""
        self.ask(0)
        self.ask(0.3)
        self.clock.advance(0.1)
        ended = self.server.stop()
        self.clock.advance(0.59)
        self.assertFalse(self.client.closed)
        self.clock.advance(0.02)
        self.assertTrue(self.client.gone)
        self.successResultOf(ended)

    def test_has_stopped_asking(self) -> None:
        """One that has been silent for longer than that is not waited for."""
        self.ask(0)
        self.ask(0.3)
        self.clock.advance(0.7)
        self.successResultOf(self.server.stop())

    def test_at_most_the_linger(self) -> None:
        """However long the pauses, the wait is at most the linger."""
        self.ask(0)
        self.ask(0.9)
        self.clock.advance(0.1)
        ended = self.server.stop()
        self.clock.advance(0.99)
        self.assertNoResult(ended)
        self.clock.advance(0.02)
        self.successResultOf(ended)

    def test_long_pauses(self) -> None:
        """A pause longer than the linger says nothing: such a client cannot be waited for."""
        self.server = MemoryServer(linger=0.5)
        self.server.listen(DrainingSite(self.pages, drain=self.server.drain))
        self.client, self.clock = self.server.connect(), self.server.clock
        self.ask(0)
        self.ask(30)
        self.clock.advance(0.2)
        self.successResultOf(self.server.stop())

    def test_one_request(self) -> None:
        """After a first request nothing is known of the pauses; a stop is as fast as ever."""
        self.ask(0)
        self.clock.advance(0.2)
        stopped: Deferred[Any] = self.server.stop()
        self.successResultOf(stopped)

    def test_pool(self) -> None:
        """A client that is busy on one connection may take any other of its pool: none is closed between requests."""
        seldom, unused = self.server.connect(), self.server.connect()
        seldom.send(get("/small"))
        self.ask(0)
        for _ in range(3):
            self.ask(0.2)
        self.clock.advance(0.1)
        ended = self.server.stop()
        self.ask(0.1)
        self.clock.advance(0.1)
        seldom.send(get("/small"))
        self.assertEqual(statuses(seldom.received), [200, 503])
        self.assertFalse(unused.closed)
        self.clock.advance(0.19)
        self.assertFalse(unused.closed)
        self.clock.advance(0.02)
        self.assertTrue(unused.gone)
        self.assertEqual(self.successResultOf(ended).refused, 2)

    def test_pools_of_others(self) -> None:
        """Clients on other machines are not waited for."""
        other = self.server.connect()
        other.getPeer = lambda: IPv4Address("TCP", "192.0.2.77", 1)  # type: ignore[method-assign] # for this test
        self.ask(0)
        self.ask(0.3)
        self.clock.advance(0.2)
        self.server.stop()
        self.assertEqual((other.gone, self.client.gone), (True, False))
