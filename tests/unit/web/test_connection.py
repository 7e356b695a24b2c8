"""One connection of a site: which requests are served on it, and when it closes."""

from __future__ import annotations

import h2.events
from hyperframe.frame import GoAwayFrame
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase

from tests.support.http2 import HTTP2Client
from tests.support.transports import MemoryTransport
from tests.support.web import Hold, Producer, WebTests, get, statuses
from twisted_node import Drain, DrainingService, DrainTimeout, Phase
from twisted_node.web._site import DrainingSite


class ServingConnectionTests(WebTests):
    """Before a drain."""

    def test_names(self) -> None:
        """A request in flight is named by method, path and client, in one line and without its query."""
        self.ask(get("/a%20b?password=1"))
        self.ask(b"POST /half HTTP/1.1\r\n")
        names = [str(name) for name, _ in self.drain.statistics().oldest]
        self.assertEqual(names, ["GET /a%20b from 192.0.2.7:4711", "request being received from 192.0.2.7:4711"])

    def test_client_gone(self) -> None:
        """A request whose client has gone is not in flight any more; its answer counts as undelivered."""
        transport = self.ask()
        transport.leave()
        self.assertEqual((self.drain.in_flight, self.drain.counts.undelivered), (0, 1))
        self.assertEqual(len(self.resource.failures), 1)

    def test_client_gone_while_sending(self) -> None:
        """A request that never was there as a whole is nothing undelivered."""
        self.ask(b"GET / HTTP/1.1\r\nHost").leave()
        self.assertEqual((self.drain.in_flight, self.drain.counts.undelivered), (0, 0))


class DrainingConnectionTests(WebTests):
    """While draining."""

    def test_in_flight(self) -> None:
        """A request in flight finishes; its answer says that it is the last, and the connection lingers."""
        transport = self.ask()
        ended = self.stop()
        self.assertNoResult(ended)
        self.resource.answer()
        output = transport.take()
        self.assertEqual(statuses(output), [200])
        self.assertIn(b"Connection: close\r\n", output)
        self.assertTrue(transport.half_closed)
        self.assertFalse(transport.closed)
        transport.leave()
        self.check_ended(ended, finished=1, cut=0, refused=0)

    def test_linger(self) -> None:
        """A client that does not close is waited for as long as the linger says, and what it sends is dropped."""
        transport = self.ask()
        ended = self.stop()
        self.resource.answer()
        transport.take()
        transport.receive(get())
        self.clock.advance(0.9)
        self.assertFalse(transport.closed)
        self.clock.advance(0.2)
        self.assertTrue(transport.closed)
        self.assertEqual(transport.take(), b"")
        self.check_ended(ended, finished=1)

    def test_new_request(self) -> None:
        """A request on an open connection is refused: 503, close, and the seconds to the deadline, rounded up."""
        busy, idle = self.ask(), self.connect()
        ended = self.stop()
        self.clock.advance(2.5)
        idle.receive(get())
        output = idle.take()
        self.assertEqual(statuses(output), [503])
        self.assertIn(b"Connection: close\r\n", output)
        self.assertIn(b"Retry-After: 8\r\n", output)
        self.assertTrue(idle.half_closed)
        idle.leave()
        self.resource.answer()
        busy.leave()
        self.check_ended(ended, finished=1, refused=1)

    def test_refused_head(self) -> None:
        """A refused HEAD gets no body."""
        busy, idle = self.ask(), self.connect()
        self.stop()
        idle.receive(b"HEAD / HTTP/1.1\r\n\r\n")
        self.assertTrue(idle.take().endswith(b"\r\n\r\n"))
        self.assertFalse(busy.closed)

    def test_retry_after_is_a_second_at_least(self) -> None:
        """Retry-After is never 0, which would bring the client back to the same server."""
        self.service.drain_timeout = 0.2
        self.ask()
        idle = self.connect()
        self.stop()
        idle.receive(get())
        self.assertIn(b"Retry-After: 1\r\n", idle.take())

    def test_idle_stays(self) -> None:
        """An idle keep-alive connection stays while anything is in flight, then is half-closed and lingers."""
        busy, idle = self.ask(), self.ask(get("/now"))
        ended = self.stop()
        self.clock.advance(5)
        self.assertFalse(idle.half_closed or idle.disconnecting)
        self.resource.answer()
        self.assertTrue(idle.half_closed)
        self.assertFalse(idle.disconnecting)
        busy.leave()
        idle.leave()
        self.check_ended(ended, finished=2)

    def test_nothing_in_flight(self) -> None:
        """With nothing in flight, idle connections are finished at once."""
        idle = self.ask(get("/now"))
        ended = self.stop()
        self.assertTrue(idle.half_closed)
        idle.leave()
        self.check_ended(ended)

    def test_half_sent(self) -> None:
        """A request of which a part is here when the drain begins is waited for, and served."""
        whole = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
        for length in range(1, len(whole)):
            self.setUp()
            transport = self.ask(whole[:length])
            ended = self.stop()
            self.clock.advance(0.9)
            transport.receive(whole[length:])
            self.resource.answer()
            self.assertEqual(self.resource.bodies, [b"body"])
            output = transport.take()
            self.assertEqual(statuses(output), [200], whole[:length])
            self.assertIn(b"Connection: close\r\n", output)
            transport.leave()
            self.check_ended(ended, finished=1, refused=0)

    def test_slow_upload(self) -> None:
        """A request may take longer than the linger to arrive, if its bytes keep coming."""
        transport = self.ask(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n")
        ended = self.stop()
        for _ in range(6):
            self.clock.advance(0.8)
            transport.receive(b"x")
        self.assertEqual(self.resource.bodies, [b"xxxxxx"])
        self.resource.answer()
        transport.leave()
        self.check_ended(ended, finished=1, refused=0)

    def test_stalled(self) -> None:
        """A client that stops in the middle of its request for the linger's time is told 503, not cut."""
        for part in (b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nxx", get()[:20]):
            self.setUp()
            transport = self.ask(part)
            busy = self.ask()
            ended = self.stop()
            self.clock.advance(1.1)
            output = transport.take()
            self.assertEqual(statuses(output), [503])
            self.assertIn(b"Connection: close\r\n", output)
            self.assertTrue(transport.half_closed)
            self.resource.answer()
            for client in (transport, busy):
                client.leave()
            self.check_ended(ended, refused=1, cut=0)

    def test_stalled_half_line(self) -> None:
        """Half a request line that does not go on for the linger's time is no request: its connection is closed."""
        transport = self.ask(b"GET ")
        ended = self.stop()
        self.clock.advance(0.9)
        self.assertFalse(transport.half_closed)
        self.clock.advance(0.2)
        self.assertTrue(transport.half_closed)
        self.assertEqual(transport.take(), b"")
        transport.leave()
        self.check_ended(ended, cut=0, finished=0)

    def test_half_line_that_stalls_later(self) -> None:
        """A request of which half a line was here, and which stalls later, is told 503 as well."""
        transport, busy = self.ask(b"GET "), self.ask()
        ended = self.stop()
        self.clock.advance(5)
        transport.receive(b"/ HTTP/1.1\r\n")
        self.clock.advance(0.9)
        self.assertEqual(transport.take(), b"")
        self.clock.advance(0.2)
        self.assertEqual(statuses(transport.take()), [503])
        self.resource.answer()
        transport.leave()
        busy.leave()
        self.check_ended(ended, refused=1, cut=0)

    def test_half_line_client_gone(self) -> None:
        """A client that leaves in the middle of a request line holds nothing up."""
        transport = self.ask(b"GET ")
        ended = self.stop()
        transport.leave()
        self.check_ended(ended, cut=0)

    def test_new_half_sent(self) -> None:
        """A request that begins while draining is refused when it is there, or when the drain ends."""
        busy, whole, half = self.ask(), self.connect(), self.connect()
        ended = self.stop()
        for client in (whole, half):
            client.receive(get()[:20])
        self.clock.advance(3)
        whole.receive(get()[20:])
        self.assertEqual(statuses(whole.take()), [503])
        self.assertEqual(half.take(), b"")
        self.resource.answer()
        self.assertEqual(statuses(half.take()), [503])
        for client in (busy, whole, half):
            client.leave()
        self.check_ended(ended, finished=1, refused=2)

    def test_new_half_sent_is_waited_for(self) -> None:
        """Early in a drain a client in the middle of asking keeps its connection until it has asked."""
        busy, idle = self.ask(), self.connect()
        ended = self.stop()
        idle.receive(get()[:10])
        self.resource.answer()
        self.assertFalse(idle.half_closed)
        idle.receive(get()[10:])
        self.assertEqual(statuses(idle.take()), [503])
        for client in (busy, idle):
            client.leave()
        self.check_ended(ended, finished=1, refused=1)

    def test_streaming(self) -> None:
        """A response that streams goes on to its end; the connection closes after it, though it did not say so."""
        transport = self.ask()
        request = self.resource.requests[0]
        request.write(b"one")
        ended = self.stop()
        self.clock.advance(5)
        request.write(b"two")
        self.assertFalse(transport.half_closed)
        request.finish()
        self.assertTrue(transport.take().endswith(b"3\r\ntwo\r\n0\r\n\r\n"))
        self.assertTrue(transport.half_closed)
        transport.leave()
        self.check_ended(ended, finished=1)

    def test_accepted_from_the_queue(self) -> None:
        """A connection made as the drain begins is waited for, until it asks and is refused."""
        transport = self.connect()
        ended = self.stop()
        self.assertFalse(transport.half_closed)
        transport.receive(get())
        self.assertEqual(statuses(transport.take()), [503])
        transport.leave()
        self.check_ended(ended, refused=1)

    def test_lively(self) -> None:
        """A client that has just asked is given a moment to ask again, and be refused, before it is half-closed."""
        asking, resting = self.ask(get("/now")), self.ask(get("/now"))
        asking.take()
        self.clock.advance(0.05)
        ended = self.stop()
        self.assertFalse(asking.half_closed or resting.half_closed)
        self.clock.advance(0.09)
        asking.receive(get("/now"))
        self.assertEqual(statuses(asking.take()), [503])
        self.assertFalse(resting.half_closed)
        self.clock.advance(0.02)
        self.assertTrue(resting.half_closed)
        for client in (asking, resting):
            client.leave()
        self.check_ended(ended, finished=2, refused=1)

    def test_closing_already(self) -> None:
        """A connection that the site is closing when the drain begins goes on closing."""
        transport = self.ask(get("/now", "Connection: close"))
        self.clock.advance(0.5)
        ended = self.stop()
        self.clock.advance(0.4)
        self.assertFalse(transport.closed)
        self.clock.pump([0.1, 0])
        self.check_ended(ended, finished=1)

    def test_client_gone(self) -> None:
        """A client that leaves ends its part of the drain."""
        transport = self.ask()
        ended = self.stop()
        transport.leave()
        self.check_ended(ended, undelivered=1, cut=0)


class ConnectionDeadlineTests(WebTests):
    """At the deadline."""

    def test_not_begun(self) -> None:
        """A request that has no response yet gets 503, and its resource learns as if its client had gone."""
        transport = self.ask()
        request = self.resource.requests[0]
        producer = Producer()
        request.registerProducer(producer, True)
        request.setHeader(b"Content-Length", b"999")
        request.setHeader(b"X-Prepared", b"yes")
        request.setETag(b"tag")
        ended = self.stop()
        self.clock.advance(10)
        output = transport.take()
        self.assertEqual(statuses(output), [503])
        self.assertIn(b"Connection: close\r\n", output)
        self.assertNotIn(b"999", output)
        self.assertNotIn(b"X-Prepared", output)
        self.assertTrue(transport.half_closed)
        self.assertTrue(producer.stopped)
        self.assertEqual([f.type for f in self.resource.failures], [DrainTimeout])
        # The resource did not notice.
        self.resource.answer()
        self.assertEqual(transport.take(), b"")
        transport.leave()
        self.check_ended(ended, cut=1, finished=0)
        self.assertIs(self.drain.phase, Phase.TIMED_OUT)

    def test_streaming(self) -> None:
        """A response that has begun is cut short, and its producer stopped."""
        transport = self.ask()
        request = self.resource.requests[0]
        producer = Producer()
        request.registerProducer(producer, True)
        request.write(b"one")
        ended = self.stop()
        self.clock.advance(10)
        request.write(b"two")
        output = transport.take()
        self.assertIn(b"one", output)
        self.assertNotIn(b"two", output)
        self.assertFalse(output.endswith(b"0\r\n\r\n"))
        self.assertTrue(producer.stopped)
        self.assertTrue(transport.half_closed)
        self.assertEqual(len(self.resource.failures), 1)
        transport.leave()
        self.check_ended(ended, cut=1)

    def begin_answer(self, request: bytes, code: int = 200, length: int | None = None) -> MemoryTransport:
        """Begin an answer that the deadline cuts."""
        transport = self.ask(request)
        answer = self.resource.requests[-1]
        answer.setResponseCode(code)
        if length is not None:
            answer.setHeader("Content-Length", str(length))
        answer.write(b"begun")
        self.stop()
        self.clock.advance(10)
        return transport

    def test_without_length(self) -> None:
        """An answer that only the end of its connection would end is reset, so that the client sees it is cut."""
        transport = self.begin_answer(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(transport.aborted)
        self.assertFalse(transport.half_closed)

    def test_with_length(self) -> None:
        """An answer whose end the client can tell is not reset: it sees by itself that the rest is missing."""
        old = b" / HTTP/1.0\r\n\r\n"
        for request, code, length in (
            (get(), 200, None),
            (b"GET" + old, 200, 100),
            (b"HEAD" + old, 200, None),
            (b"GET" + old, 304, None),
        ):
            self.setUp()
            transport = self.begin_answer(request, code, length)
            self.assertEqual((transport.aborted, transport.is_closing()), (False, True), (request, code))

    def test_half_sent(self) -> None:
        """A request that still comes in gets 503 too, once."""
        self.service.drain_timeout = 0.5
        transport = self.ask(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nx")
        ended = self.stop()
        self.clock.advance(0.5)
        transport.receive(b"xx" + get())
        self.assertEqual(statuses(transport.take()), [503])
        transport.leave()
        self.check_ended(ended, cut=1)

    def test_pipelined(self) -> None:
        """Those behind a request that is cut are answered as well."""
        transport = self.ask(get() + get())
        ended = self.stop()
        self.clock.advance(10)
        self.assertEqual(statuses(transport.take()), [503, 503])
        transport.leave()
        self.check_ended(ended, cut=1, refused=1)

    def test_second_signal(self) -> None:
        """A cut by an impatient second signal is answered the same way."""
        transport = self.ask()
        self.stop()
        self.service.cut("a second signal")
        self.assertEqual(statuses(transport.take()), [503])

    def test_client_stays(self) -> None:
        """A client that does not close is left a second after the deadline."""
        self.ask()
        ended = self.stop()
        self.clock.pump([10, 0.5, 0.4])
        self.assertNoResult(ended)
        self.clock.pump([0.2, 0])
        self.check_ended(ended, cut=1)


class HTTP2Tests(TestCase):
    """A site in memory, spoken to in HTTP/2."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.draws = 0.4
        self.service = DrainingService(self.drain, drain_timeout=10, random_number=lambda: self.draws)
        self.resource = Hold()
        self.site = DrainingSite(self.resource, drain=self.drain)
        self.service.listen(TCP4ServerEndpoint(MemoryReactorClock(), 0), self.site)
        self.client = HTTP2Client(self.site, self.clock)
        self.addCleanup(self.client.transport.leave)

    async def test_drain(self) -> None:
        """Streams in flight finish, new ones get 503 and Retry-After; then GOAWAY."""
        self.client.ask(1)
        self.client.ask(3, "/now")
        ended = self.service.stopService()
        self.client.ask(5)
        self.assertEqual(await self.client.statuses(), {3: b"200", 5: b"503"})
        (refusal,) = [e for e in self.client.events if isinstance(e, h2.events.ResponseReceived) and e.stream_id == 5]
        self.assertEqual(dict(refusal.headers)[b"retry-after"], b"10")
        self.assertNotIn(b"connection", dict(refusal.headers))
        self.assertFalse(self.client.going_away())
        self.resource.answer()
        # Finished, but Twisted has not sent it yet.
        self.assertEqual(self.drain.in_flight, 0)
        self.assertFalse(self.client.transport.half_closed)
        self.assertEqual((await self.client.statuses())[1], b"200")
        self.assertEqual(self.client.ended(), {1, 3, 5})
        self.assertTrue(self.client.going_away())
        self.assertTrue(self.client.transport.half_closed)
        self.client.transport.leave()
        statistics = self.successResultOf(ended)
        self.assertEqual((statistics.finished, statistics.refused, statistics.cut), (2, 1, 0))

    async def test_idle(self) -> None:
        """A connection without a stream is closed at once."""
        self.clock.advance(1)
        ended = self.service.stopService()
        await self.client.listen()
        self.assertTrue(self.client.going_away())
        self.client.transport.leave()
        self.successResultOf(ended)

    async def test_lame_duck(self) -> None:
        """In a lame duck the client may be told behind an answer to ask elsewhere, once nothing else is in flight.

        What it asks then is served; the drain says how far it has come, and closes.
        """
        self.client.ask(1)
        self.client.ask(3)
        self.service.end("a signal", lame_duck=10)
        self.clock.advance(5)
        self.resource.answer(0)
        self.assertEqual(await self.client.statuses(), {1: b"200"})
        self.assertFalse(self.client.going_away())
        self.resource.answer(1)
        await self.client.listen()
        self.assertEqual(self.client.ended(), {1, 3})
        self.assertEqual([event.last_stream_id for event in self.client.goodbyes()], [2**31 - 1])
        self.assertIs(self.client.events[-1], self.client.goodbyes()[0])
        self.assertFalse(self.client.transport.half_closed)
        self.client.ask_in_spite(5, "/now")
        # Its head, its body and its end; it is not told again.
        self.assertEqual([frame.stream_id for frame in await self.client.frames()], [5, 5, 5])
        self.clock.advance(5)
        (last,) = await self.client.frames()
        assert isinstance(last, GoAwayFrame)
        self.assertEqual(last.last_stream_id, 5)
        self.assertTrue(self.client.transport.half_closed)
        self.client.transport.leave()
        self.assertEqual(self.drain.counts.finished, 3)

    async def test_lame_duck_not_drawn(self) -> None:
        """A client that is not drawn is told nothing, until the drain begins."""
        self.service.end("a signal", lame_duck=10)
        self.clock.advance(3)
        self.client.ask(1, "/now")
        await self.client.listen()
        self.assertEqual((self.client.ended(), self.client.going_away()), ({1}, False))
        self.clock.advance(7)
        await self.client.listen()
        self.assertEqual([event.last_stream_id for event in self.client.goodbyes()], [1])

    async def test_lame_duck_more_has_arrived(self) -> None:
        """Not while the client's next request waits to be read."""
        self.service.end("a signal", lame_duck=10)
        self.clock.advance(5)
        connection = self.client.transport.protocol.connection

        def read_waiting() -> bool:
            self.client.ask(3)
            return False

        connection.read_waiting = read_waiting
        self.client.ask(1, "/now")
        await self.client.listen()
        self.assertEqual((self.client.ended(), self.client.going_away()), ({1}, False))
        del connection.read_waiting
        self.resource.answer()
        await self.client.listen()
        self.assertEqual((self.client.ended(), self.client.going_away()), ({1, 3}, True))

    async def test_deadline(self) -> None:
        """At the deadline a stream without a response gets 503; one that has begun, or is half sent, is reset."""
        self.client.ask(1)
        self.client.ask(3)
        self.client.ask(5, method="POST", whole=False)
        producer = Producer()
        self.resource.requests[1].registerProducer(producer, True)
        self.resource.requests[1].write(b"begun")
        await self.client.listen()
        self.service.drain_timeout = 0.5
        ended = self.service.stopService()
        self.clock.advance(0.5)
        self.assertEqual(await self.client.statuses(), {1: b"503", 3: b"200"})
        self.assertEqual(self.client.reset(), {3, 5})
        self.assertTrue(producer.stopped)
        self.assertEqual([failure.type for failure in self.resource.failures], [DrainTimeout, DrainTimeout])
        self.assertTrue(self.client.going_away())
        self.client.transport.leave()
        self.assertEqual(self.successResultOf(ended).cut, 3)

    async def answer_much(self) -> None:
        """Have an answer that is larger than what the client allows for now."""
        self.client.ask(1)
        (request,) = self.resource.requests
        request.write(b"x" * 200_000)
        request.finish()
        await self.client.listen()
        self.assertEqual(self.client.ended(), set())

    async def test_no_room_at_the_deadline(self) -> None:
        """An answer for which its client has made no room by the deadline counts as cut."""
        await self.answer_much()
        ended = self.service.stopService()
        self.clock.pump([10, 1.1, 1.1])
        statistics = self.successResultOf(ended)
        self.assertEqual((statistics.cut, statistics.undelivered), (1, 0))

    async def test_room_in_the_drain(self) -> None:
        """One for which it makes room in time arrives whole."""
        await self.answer_much()
        ended = self.service.stopService()
        self.clock.advance(9)
        for stream in (None, 1):
            self.client.h2.increment_flow_control_window(1_000_000, stream)
        self.client.flush()
        await self.client.listen()
        self.assertEqual(self.client.ended(), {1})
        self.client.transport.leave()
        statistics = self.successResultOf(ended)
        self.assertEqual((statistics.cut, statistics.undelivered), (0, 0))

    async def test_gone_with_an_answer(self) -> None:
        """If the client goes before that, its answer was not delivered."""
        await self.answer_much()
        self.client.ask(3)
        self.client.transport.leave()
        # The second was still being served.
        self.assertEqual((self.drain.counts.cut, self.drain.counts.undelivered), (0, 2))

    async def test_longer_than_the_idle_timer(self) -> None:
        """A stream that is being served is not idle, however long that takes; the connection is, without a stream."""
        self.client.ask(1)
        self.clock.pump([50] * 5)
        self.resource.answer()
        self.assertEqual(await self.client.statuses(), {1: b"200"})
        self.assertEqual(self.client.ended(), {1})
        self.clock.pump([50] * 2)
        await self.client.listen()
        self.assertTrue(self.client.going_away())
        self.assertTrue(self.client.transport.closed)

    async def test_idle_in_vain(self) -> None:
        """If the timer's close has no effect, as with TLS if the client does not answer, it is closed without it."""
        transport, closes = self.client.transport, []
        close = transport.loseConnection
        transport.loseConnection = lambda: closes.append(close)  # type: ignore[method-assign] # see above
        self.clock.pump([60, 15])
        self.assertEqual((len(closes), transport.aborted), (2, False))
        self.assertEqual(self.drain.counts.undelivered, 0)

    async def test_idle_in_the_drain(self) -> None:
        """In a drain the idle timer closes nothing: an idle connection stays to refuse."""
        busy = HTTP2Client(self.site, self.clock)
        self.addCleanup(busy.transport.leave)
        busy.ask(1)
        self.service.drain_timeout = 1000
        self.service.stopService()
        self.clock.pump([50] * 5)
        self.client.ask(1)
        self.assertEqual(await self.client.statuses(), {1: b"503"})
        self.assertFalse(self.client.transport.closed)

    async def test_stalled(self) -> None:
        """A stream that stops being sent is reset, and holds nothing up; one that goes on is served."""
        self.client.ask(1, method="POST", whole=False)
        ended = self.service.stopService()
        self.clock.advance(0.9)
        self.client.h2.send_data(1, b"x")
        self.client.flush()
        self.clock.advance(0.9)
        self.client.ask(3, method="POST", whole=False)
        self.client.h2.send_data(1, b"x", end_stream=True)
        self.client.flush()
        self.assertEqual(self.resource.bodies, [b"xx"])
        self.clock.advance(1.1)
        self.resource.answer()
        self.assertEqual(await self.client.statuses(), {1: b"200"})
        self.assertEqual(self.client.reset(), {3})
        self.client.transport.leave()
        statistics = self.successResultOf(ended)
        self.assertEqual((statistics.finished, statistics.refused, statistics.undelivered), (1, 1, 0))

    async def test_client_resets(self) -> None:
        """A stream that its client gives up is not waited for."""
        self.client.ask(1)
        ended = self.service.stopService()
        self.client.h2.reset_stream(1)
        self.client.flush()
        await self.client.listen()
        self.assertTrue(self.client.going_away())
        self.client.transport.leave()
        self.assertEqual(self.successResultOf(ended).undelivered, 1)
