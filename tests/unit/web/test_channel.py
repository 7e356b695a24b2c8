"""The parser of HTTP/1: which answer is the last, and how its connection closes."""

from __future__ import annotations

from tests.support.web import WebTests, get, statuses


class ServingChannelTests(WebTests):
    """Before a drain."""

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


class LameDuckChannelTests(WebTests):
    """In a lame duck of 10 s of which half is over; the test says who is sent away."""

    def setUp(self) -> None:
        super().setUp()
        self.transport = self.connect()
        self.begun = self.ask()

    def begin(self) -> None:
        self.stop(lame_duck=10, draws=0.4)
        self.clock.advance(5)

    def test_drawn(self) -> None:
        """An answer that is drawn says that the connection closes, and it does."""
        self.begin()
        self.transport.receive(get("/now"))
        output = self.transport.take()
        self.assertEqual(statuses(output), [200])
        self.assertIn(b"Connection: close\r\n", output)
        self.assertEqual((self.transport.half_closed, self.transport.closed), (True, False))

    def test_not_drawn(self) -> None:
        """Another says nothing, and the connection stays."""
        self.begin()
        self.draws = 0.6
        self.transport.receive(get("/now"))
        self.assertNotIn(b"close", self.transport.take())
        self.assertFalse(self.transport.is_closing())

    def test_pipelined(self) -> None:
        """Of several that come together the last may say so."""
        self.begin()
        self.transport.receive(get("/now") * 3)
        output = self.transport.take()
        self.assertEqual(statuses(output), [200, 200, 200])
        self.assertIn(b"Connection: close", output.rsplit(b"HTTP/1.1", 1)[1])
        self.assertEqual(output.count(b"Connection: close"), 1)

    def test_head_is_written(self) -> None:
        """It is drawn when the head is written: one that has begun to be answered stays, until the drain."""
        self.resource.requests[0].write(b"begun ")
        self.begin()
        self.resource.requests[0].finish()
        self.assertNotIn(b"close", self.begun.take())
        self.assertFalse(self.begun.is_closing())
        self.clock.advance(5)
        self.assertTrue(self.begun.half_closed)

    def test_idle(self) -> None:
        """One that does not ask is closed right before the drain, whatever is in flight, and so is one in flight."""
        self.begin()
        self.clock.advance(4.9)
        self.assertFalse(self.transport.is_closing())
        self.clock.advance(0.1)
        self.assertTrue(self.transport.half_closed)
        self.assertEqual(self.transport.take(), b"")
        self.assertFalse(self.begun.is_closing())
        self.resource.answer()
        self.assertIn(b"Connection: close", self.begun.take())
        self.assertTrue(self.begun.half_closed)


class DrainingChannelTests(WebTests):
    """While draining."""

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
