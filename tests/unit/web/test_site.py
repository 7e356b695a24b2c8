"""twisted.web's Site, drained, in memory."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tests.support.transports import MemoryTransport
from tests.support.web import Producer, WebTests, get, statuses
from twisted_node import Drain, DrainTimeout, Phase
from twisted_node.errors import MisuseError
from twisted_node.server._connections import Connections
from twisted_node.web._site import DrainingSite


class ServingTests(WebTests):
    """Before a drain it is a Site."""

    def test_arguments(self) -> None:
        """It takes what Site takes, and makes the requests that it is told to."""

        class Mine(Request):
            pass

        site = self.make_site(self.resource, requestFactory=Mine, timeout=3)
        transport = self.connect(site)
        transport.receive(get())
        self.assertIsInstance(self.resource.requests[0], Mine)
        self.assertEqual(site.timeOut, 3)
        self.assertIs(site.reactor, self.clock)

    def test_request_factory(self) -> None:
        """A request may be made by any callable; it keeps its class, and is followed all the same."""

        class Mine(Request):
            pass

        def make(*args: Any, **options: Any) -> Mine:
            return Mine(*args, **options)

        site = self.make_site(self.resource, requestFactory=make)
        transport = self.connect(site)
        transport.receive(get())
        (request,) = self.resource.requests
        self.assertIsInstance(request, Mine)
        self.assertIn("<Mine at ", repr(request))
        self.assertEqual(self.drain.in_flight, 1)
        self.stop()
        self.clock.advance(10)
        self.assertEqual(statuses(transport.take()), [503])
        request.write(b"too late")
        request.finish()
        self.assertEqual(transport.take(), b"")

    def test_keep_alive(self) -> None:
        """Answers say nothing about closing, and the connection stays."""
        transport = self.ask(get("/now"))
        self.assertNotIn(b"close", transport.take())
        transport.receive(get("/now"))
        self.assertEqual(statuses(transport.take()), [200])
        self.assertFalse(transport.disconnecting)

    def test_client_closes(self) -> None:
        """A client that asks for it is half-closed, and then read and ignored until it closes or its linger is over."""
        for leaves in (True, False):
            transport = self.ask(get("/now", "Connection: close"))
            self.assertIn(b"Connection: close", transport.take())
            self.assertTrue(transport.half_closed)
            transport.receive(get("/now"))
            self.clock.advance(0.9)
            self.assertFalse(transport.closed)
            self.assertEqual(transport.take(), b"")
            if leaves:
                transport.leave()
            else:
                self.clock.pump([0.1, 0])
            self.assertTrue(transport.closed)
        self.check_ended(self.stop(), finished=2)

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

    def test_without_service(self) -> None:
        """Without a service it does not serve, which would cut its requests unseen; whoever stands in for one may."""
        drain = Drain(self.clock, self.clock.seconds)
        site = DrainingSite(self.resource, drain=drain)
        self.assertRaisesRegex(MisuseError, "^site: ", site.doStart)
        site.connections = Connections(self.clock)
        transport = self.connect(site)
        transport.receive(get("/now") + get())
        self.assertEqual(drain.in_flight, 1)
        drain.begin(5)
        self.resource.answer()
        self.assertEqual(statuses(transport.take()), [200, 200])
        self.assertTrue(transport.half_closed)
        transport.leave()


class DrainingSiteTests(WebTests):
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

    def test_pipelined(self) -> None:
        """All pipelined requests are answered: what runs is served, those behind it are refused, the last says so."""
        transport = self.ask(get() + get("/now") + get("/now"))
        ended = self.stop()
        self.resource.answer()
        output = transport.take()
        self.assertEqual(statuses(output), [200, 503, 503])
        first, last = output.split(b"HTTP/1.1 503 ")[:2], output.rsplit(b"HTTP/1.1", 1)[1]
        self.assertNotIn(b"Connection: close", b"".join(first))
        self.assertIn(b"Connection: close", last)
        transport.leave()
        self.check_ended(ended, finished=1, refused=2)

    def test_pipelined_while_draining(self) -> None:
        """Requests that come together while draining are refused one by one; an empty line behind them is none."""
        busy, idle = self.ask(), self.connect()
        self.stop()
        idle.receive(get() + get() + get() + b"\r\n")
        output = idle.take()
        self.assertEqual(statuses(output), [503, 503, 503])
        self.assertEqual(output.count(b"Connection: close"), 1)
        self.assertIn(b"Connection: close", output.rsplit(b"HTTP/1.1", 1)[1])
        self.assertTrue(idle.half_closed)
        self.assertFalse(busy.half_closed)

    def test_pipelined_half(self) -> None:
        """Half a request behind one in flight is refused at the end, not dropped."""
        transport = self.ask(get() + get()[:20])
        ended = self.stop()
        self.clock.advance(2)
        self.resource.answer()
        self.assertEqual(statuses(transport.take()), [200, 503])
        transport.leave()
        self.check_ended(ended, finished=1, refused=1)

    def test_http_1_0(self) -> None:
        """An old client is answered and closed the same way."""
        transport = self.ask(b"GET / HTTP/1.0\r\n\r\n")
        self.stop()
        self.resource.answer()
        self.assertIn(b"200 OK", transport.take())
        self.assertTrue(transport.half_closed)

    def test_bad_request(self) -> None:
        """What is no request gets one 400, and a close that does not lose it."""
        busy, idle = self.ask(), self.connect()
        ended = self.stop()
        idle.receive(b"nonsense\r\n")
        self.assertEqual(statuses(idle.take()), [400])
        self.assertTrue(idle.half_closed)
        idle.leave()
        self.resource.answer()
        busy.leave()
        self.check_ended(ended, finished=1, refused=0)

    def test_bad_header(self) -> None:
        """A request with a header that is none gets one 400, and is not served besides."""
        busy, new, begun = self.ask(), self.connect(), self.connect()
        begun.receive(b"POST /order HT")
        ended = self.stop()
        begun.receive(b"TP/1.1\r\nHost: x\r\nbad header\r\nContent-Length: 0\r\n\r\n")
        new.receive(b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n" + get())
        self.assertEqual((statuses(begun.take()), statuses(new.take())), ([400], [400]))
        for transport in (begun, new):
            self.assertTrue(transport.half_closed)
            transport.leave()
        self.assertEqual(len(self.resource.requests), 1)
        self.resource.answer()
        busy.leave()
        self.check_ended(ended)

    def test_bad_request_line(self) -> None:
        """A request line of no known version gets its 400, too."""
        busy = self.ask()
        others = [self.connect() for _ in range(3)]
        ended = self.stop()
        for transport, data in zip(others, (b"GET / HTTP/9\r\n\r\n", b"GET /\r\n\r\n", b"\r" + get()), strict=True):
            transport.receive(data)
            self.assertEqual(statuses(transport.take()), [400], data)
            transport.leave()
        self.resource.answer()
        busy.leave()
        self.check_ended(ended)

    def test_expect(self) -> None:
        """A client that asks whether it may send its body is refused right away."""
        busy, idle = self.ask(), self.connect()
        self.stop()
        idle.receive(b"PUT / HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(statuses(idle.take()), [503])
        self.assertTrue(idle.half_closed)
        self.assertFalse(busy.half_closed)

    def test_expect_admitted(self) -> None:
        """A request that began before the drain is asked for its body."""
        transport = self.ask(b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n")
        self.stop()
        transport.receive(b"\r\n")
        self.assertEqual(statuses(transport.take()), [100])
        transport.receive(b"xx")
        self.resource.answer()
        self.assertEqual(statuses(transport.take()), [200])

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


class SiteDeadlineTests(WebTests):
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


class AccessLogTests(WebTests):
    """The access log."""

    def test_logs_to_the_end(self) -> None:
        """Requests that end after the port has closed are logged: those served, those refused, those cut."""
        path = Path(self.mktemp())
        site = DrainingSite(self.resource, drain=self.drain, logPath=str(path))
        self.service.listen(TCP4ServerEndpoint(MemoryReactorClock(), 0), site)
        site.doStart()
        clients = [self.connect(site) for _ in range(4)]
        clients[0].receive(get("/served"))
        clients[1].receive(get("/cut"))
        clients[2].receive(b"GET /half?x HTTP/1.1\r\n")
        ended = self.stop()
        site.doStop()
        clients[3].receive(get("/refused"))
        self.resource.answer()
        self.clock.advance(10)
        for client in clients:
            client.leave()
        self.check_ended(ended, finished=1, refused=2, cut=1)
        logged = sorted(re.findall(r'"GET (\S+) \S+" (\d+)', path.read_text()))
        self.assertEqual(logged, [("/cut", "503"), ("/half?x", "503"), ("/refused", "503"), ("/served", "200")])
        self.assertIsNone(site._logFile)

    def test_log_file(self) -> None:
        """A log file that somebody sets is used as with Site."""
        stream = io.StringIO()
        self.site.logFile = stream
        self.ask(get("/now")).leave()
        self.assertIn("/now", stream.getvalue())
        self.site._logFile = None


class KleinTests(WebTests):
    """Klein's resource works in it."""

    def test_klein(self) -> None:
        """A Klein route in flight finishes; at the deadline its Deferred is cancelled and the client told 503."""
        app = Klein()
        waiting: list[Deferred[bytes]] = []

        @app.route("/<name>")
        def greet(request: Any, name: str) -> Any:
            waiting.append(Deferred())
            return succeed(b"now " + name.encode()) if name == "bob" else waiting[-1]

        site = self.make_site(app.resource())
        clients = [self.connect(site) for _ in range(3)]
        clients[0].receive(get("/bob"))
        self.assertIn(b"now bob", clients[0].take())
        clients[1].receive(get("/ann"))
        clients[2].receive(get("/eve"))
        ended = self.stop()
        clients[0].receive(get("/bob"))
        self.assertEqual(statuses(clients[0].take()), [503])
        waiting[1].callback(b"hello ann")
        output = clients[1].take()
        self.assertIn(b"hello ann", output)
        self.assertIn(b"Connection: close", output)
        self.clock.advance(10)
        self.assertEqual(statuses(clients[2].take()), [503])
        for client in clients:
            client.leave()
        self.check_ended(ended, finished=2, refused=1, cut=1)
        self.assertEqual(self.flushLoggedErrors(), [])


class InterfaceTests(SynchronousTestCase):
    """What shows through."""

    def test_alpn(self) -> None:
        """It offers what Site offers to TLS."""
        site = DrainingSite(Resource(), drain=Drain(Clock()))
        self.assertEqual(site.acceptableProtocols(), Site(Resource()).acceptableProtocols())
