"""Lines from a transport to the node, and answers back."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.support.lines import INIT, bodies, message
from tests.support.memory import House, LineClient, Sink
from twisted_node import Node
from twisted_node.node._factory import NodeFactory
from twisted_node.node._framing import HalfLines
from twisted_node.node._workload import answer_requests
from twisted_node.server._client_waits import FIRST_WORDS
from twisted_node.testing import MemoryServer

STATUS = message("tcp_drain_status")


def ok(msg_id: int, number: int, latency_ms: float = 0) -> bytes:
    """The answer to a tcp_request, literally."""
    return (
        f'{{"src": "n1", "dest": "c1", "body": {{"type": "tcp_request_ok", "in_reply_to": {msg_id},'
        f' "result": "processed", "duration_ms": {latency_ms}, "msg_id": {number}}}}}\n'
    ).encode()


class LineTests(SynchronousTestCase):
    """Bytes in, bytes out."""

    def setUp(self) -> None:
        self.house = House()

    def talk(self, *chunks: bytes, **options: Any) -> bytes:
        client = self.house.connect(**options)
        for chunk in chunks:
            client.send(chunk)
        return client.take()

    def codes(self, *chunks: bytes, **options: Any) -> list[Any]:
        """The type of each answer, or its error code."""
        return [body.get("code", body["type"]) for body in bodies(self.talk(*chunks, **options))]

    def test_lines(self) -> None:
        """Each line gets its answer, in order if they are immediate."""
        self.assertEqual(
            self.talk(message("tcp_request", 1) + message("tcp_request", 2, latency_ms=0)), ok(1, 0) + ok(2, 1)
        )

    def test_one_write(self) -> None:
        """What one chunk is answered leaves in one write."""
        client = self.house.connect()
        writes: list[bytes] = []
        client.transport.write = writes.append  # type: ignore[method-assign] # to see the calls
        client.send(message("tcp_request", 1) * 3 + b"half")
        self.assertEqual([write.count(b"\n") for write in writes], [3])

    def test_carriage_return(self) -> None:
        """A line may end as it does on Windows."""
        self.assertEqual(self.talk(message("tcp_request", 1).replace(b"\n", b"\r\n") * 2), ok(1, 0) + ok(1, 1))

    def test_half_lines(self) -> None:
        """A line may come in any number of pieces."""
        line = message("tcp_request", 1)
        self.assertEqual(self.talk(*(bytes([byte]) for byte in line)), ok(1, 0))
        self.assertEqual(self.talk(line[:9], line[9:20], line[20:] + line[:9], line[9:]), ok(1, 1) + ok(1, 2))

    def test_blank_line(self) -> None:
        """A blank line on a socket is an unreadable one."""
        self.assertEqual(self.codes(b"\n\r\n" + STATUS), [12, 12, "tcp_drain_status_ok"])

    def test_last_line_without_newline(self) -> None:
        """The end of input ends the last line too."""
        client = self.house.connect()
        client.send(message("tcp_request", 1) + message("tcp_request", 2).rstrip())
        self.assertEqual(client.take(), ok(1, 0))
        client.close_half()
        self.assertEqual((client.take(), client.transport.closed), (ok(2, 1), True))

    def test_utf8(self) -> None:
        """Names that are not ASCII come back as they were."""
        line = '{"src":"ü😀","dest":"n1","body":{"type":"tcp_request","msg_id":1}}\n'.encode()
        for cut in range(len(line)):
            answer = self.talk(line[:cut], line[cut:])
            self.assertIn('"dest": "ü😀"'.encode(), answer)

    def test_deep_nesting(self) -> None:
        """A line nested however deep costs an error, and the next line nothing."""
        line = b'{"src":"c1","dest":"n1","body":{"type":"tcp_request","x":' + b"[" * 200_000 + b"\n"
        closed = line[:-1] + b"]" * 200_000 + b"}}\n"
        self.assertEqual(self.codes(line + closed + STATUS), [12, 12, "tcp_drain_status_ok"])

    def test_longest_line(self) -> None:
        """A line of max_line bytes is taken, whole or in pieces; one of a byte more is not."""
        line = message("tcp_request", 1).rstrip().ljust(200)
        for chunks in ([line + b"\n"], [line[:150], line[150:] + b"\n"], [line, b"\n"]):
            self.assertEqual(self.codes(*chunks, max_line=200), ["tcp_request_ok"])
        line += b" "
        for chunks in ([line + b"\n"], [line[:150], line[150:] + b"\n"], [line, b"\n"]):
            self.assertEqual(self.codes(*chunks, max_line=200), [12])

    def test_over_long_line(self) -> None:
        """A line that is too long is told once, skipped to its end, and the next one is unharmed."""
        junk = b"x" * 1000
        for chunks in (
            [junk + b"\n" + STATUS],
            [junk, b"\n" + STATUS],
            [junk, junk, junk + b"\n" + STATUS],
            [b"x", junk, b"x", b"x\n", STATUS],
            [junk, STATUS.rstrip(), b"\n" + STATUS],
        ):
            self.assertEqual(self.codes(*chunks, max_line=200), [12, "tcp_drain_status_ok"], chunks)

    def test_two_over_long_lines(self) -> None:
        """Each is told."""
        junk = b"x" * 1000
        self.assertEqual(self.codes(junk, b"\n" + junk, b"\n" + STATUS, max_line=200), [12, 12, "tcp_drain_status_ok"])

    def test_over_long_line_text(self) -> None:
        """The error says how long a line may be."""
        self.assertEqual(
            self.talk(b"x" * 300, max_line=200),
            b'{"src": "n1", "dest": "", "body": {"type": "error", "code": 12,'
            b' "text": "line longer than 200 bytes", "msg_id": 0}}\n',
        )

    def test_half_lines_of_all(self) -> None:
        """When half lines take too much together, the client with the longest is told; its next line is unharmed."""
        factory = self.house.factory(half_lines=HalfLines(1000))
        small, large = LineClient(factory), LineClient(factory)
        large.send(b"x" * 600)
        small.send(STATUS[:20] + b" " * 300)
        self.assertEqual(large.take(), b"")
        small.send(b" " * 100)
        self.assertEqual(
            large.take(),
            b'{"src": "n1", "dest": "", "body": {"type": "error", "code": 12,'
            b' "text": "line given up: too many clients have sent long half lines", "msg_id": 0}}\n',
        )
        large.send(b"x" * 5000 + b"\n" + STATUS)
        self.assertEqual([each["type"] for each in bodies(large.take())], ["tcp_drain_status_ok"])
        small.send(STATUS[20:])
        self.assertEqual([each["type"] for each in bodies(small.take())], ["tcp_drain_status_ok"])

    def test_half_lines_of_the_gone(self) -> None:
        """Half lines of clients that have gone take nothing."""
        factory = self.house.factory(half_lines=HalfLines(1000))
        for _ in range(100):
            client = LineClient(factory)
            client.send(b"x" * 900)
            client.leave()
            self.assertEqual(client.take(), b"")

    def test_half_lines_while_draining(self) -> None:
        """A client whose half line was given up is not waited for."""
        factory = self.house.factory(half_lines=HalfLines(1000))
        small, large = LineClient(factory), LineClient(factory)
        large.send(b"x" * 600)
        self.house.drain.begin(10)
        self.house.connections.begin_drain()
        self.house.connections.finish()
        self.assertFalse(large.transport.is_closing())
        small.send(b"x" * 500)
        self.assertTrue(large.transport.is_closing())
        self.assertEqual([each["code"] for each in bodies(large.take())], [12])

    def test_over_long_last_line(self) -> None:
        """An over-long line that the end of input cuts off is told no second time."""
        client = self.house.connect(max_line=200)
        client.send(b"x" * 300)
        client.close_half()
        self.assertEqual(len(bodies(client.take())), 1)
        self.assertTrue(client.transport.closed)

    def test_memory(self) -> None:
        """Half a line takes the memory of its bytes, also if they trickle in one by one."""
        client = self.house.connect(max_line=100_000)
        for _ in range(50_000):
            client.send(b"x")
        self.assertLess(held(client.protocol), 70_000)
        client.send(b"x" * 50_001)
        self.assertLess(held(client.protocol), 1_000)
        for _ in range(100):
            client.send(b"x" * 65_536)
        self.assertLess(held(client.protocol), 1_000)


def held(protocol: Any) -> int:
    """How many bytes of input a connection holds, with what Python needs for them."""
    return sys.getsizeof(protocol._framing._half_line) + sys.getsizeof(protocol._framing._chunk)


#: Lines of every sort; None stands for one that is too long.
LINES = st.lists(
    st.sampled_from(
        [
            INIT,
            STATUS,
            message("tcp_request", 1, latency_ms=0),
            message("tcp_request", 2, latency_ms=5),
            message("tcp_request", 3, data="ü😀 " * 5),
            message("tcp_request", 4, latency_ms=-1),
            message("nothing", 5),
            message("tcp_shutdown", 6, drain_timeout_ms=50),
            b"\n",
            b"\r\n",
            b"junk\n",
            b'{"src":"c1"}\n',
            b"x" * 250 + b"\n",
            message("tcp_request", 7).rstrip().ljust(200) + b"\n",
            message("tcp_request", 8).rstrip().ljust(201) + b"\n",
            b"[" * 100 + b"\n",
        ]
    ),
    max_size=12,
)


#: Plain requests: names and numbers of every sort.
PLAIN = st.builds(
    lambda src, msg_id, latency_ms, data: message("tcp_request", msg_id, src, latency_ms=latency_ms, data=data),
    st.sampled_from(["c1", "c2", "", "%d %s", "ü\n", '", "msg_id": -1', "x" * 1024]),
    st.integers(-(2**65), 2**65),
    st.sampled_from([0, 0.0, 5, 2.5, -0.0]),
    st.text(max_size=5),
)

_REQUEST = b'{"src":"c1","dest":"n1","body":{"type":"tcp_request","msg_id":1}}'

#: Lines that look like plain requests, and are something else; or look like something else, and are one.
ODD_LINES = (
    [_REQUEST + ending + b"\n" for ending in (b"", b"\r", b" ", b"}", b"{", b"{}", _REQUEST, b" " + _REQUEST, b"\r{")]
    + [beginning + _REQUEST + b"\n" for beginning in (b" ", b"}", b"{", b"\r", b"\xef\xbb\xbf")]
    + [
        _REQUEST.replace(old, new) + b"\n"
        for old, new in (
            (b'"msg_id":1', b'"msg_id":1.0'),
            (b'"msg_id":1', b'"msg_id":true'),
            (b'"msg_id":1', b'"msg_id":null'),
            (b'"msg_id":1', b'"msg_id":"1"'),
            (b'"msg_id":1', b'"msg_id":1,"msg_id":2'),
            (b'"msg_id":1', b'"msg_id":1,"in_reply_to":null'),
            (b'"msg_id":1', b'"msg_id":1,"in_reply_to":1'),
            (b'"msg_id":1', b'"msg_id":1,"latency_ms":-1'),
            (b'"msg_id":1', b'"msg_id":1,"latency_ms":"5"'),
            (b'"msg_id":1', b'"msg_id":1,"x":' + b"[" * 2000 + b"]" * 2000),
            (b'"msg_id":1', b'"msg_id":' + b"9" * 400),
            (b'"msg_id":1', b'"msg_id":' + b"9" * 5000),
            (b',"msg_id":1', b""),
            (b'"type":"tcp_request",', b""),
            (b'"type":"tcp_request"', b'"type":5'),
            (b'"tcp_request"', b'"tcp_drain_status"'),
            (b'"tcp_request"', b'"tcp_shutdown"'),
            (b'"tcp_request"', b'"init","node_id":"n1"'),
            (b'"tcp_request"', b'"nothing"'),
            (b'"dest":"n1",', b""),
            (b'"n1"', b"null"),
            (b'"n1"', b'"' + b"x" * 1025 + b'"'),
            (b'"c1"', b'"' + b"x" * 1025 + b'"'),
            (b'"c1"', b'"\xff"'),
            (b'"src":"c1",', b""),
            (b'"src":"c1",', b'"src":"c1","src":"c2",'),
            (b'"body"', b'"body":{"type":"nothing"},"body"'),
        )
    ]
    + [b"\n", b"{}\n", b"}\n", b"{\n", b'"\n', b"[]\n"]
)
ODD = st.sampled_from(ODD_LINES)


class ChunkTests(SynchronousTestCase):
    """However the network cuts the input."""

    @given(LINES, st.lists(st.integers(min_value=1, max_value=400)), st.booleans())
    @settings(deadline=None)
    def test_any_cut(self, lines: list[bytes], sizes: list[int], newline: bool) -> None:
        """Any way of cutting the input into chunks gives the same output."""
        text = b"".join(lines) if newline else b"".join(lines)[:-1]
        whole = self.output([text] if text else [])
        chunks = []
        rest = text
        for size in sizes:
            chunks.append(rest[:size])
            rest = rest[size:]
        self.assertEqual(self.output([chunk for chunk in [*chunks, rest] if chunk]), whole)
        self.assertEqual(self.output([bytes([byte]) for byte in text]), whole)

    @given(st.lists(st.one_of(PLAIN, ODD, PLAIN), max_size=12), st.sampled_from([1, 3, 100_000]))
    @settings(deadline=None)
    def test_at_once_or_one_by_one(self, lines: list[bytes], max_in_flight: int) -> None:
        """Lines that are served at once get what they would have got one by one, to the byte."""
        self.check_both_ways(lines, max_in_flight)

    def test_odd_lines(self) -> None:
        """So do those that only look like plain requests."""
        plain = _REQUEST + b"\n"
        for line in ODD_LINES:
            self.check_both_ways([line], 100_000)
            self.check_both_ways([plain, line, plain], 100_000)

    def test_request_over_two_lines(self) -> None:
        """A request that goes over two lines is two lines that are none, beside plain ones too."""
        for cut in (1, _REQUEST.index(b",") + 1, len(_REQUEST) - 1):
            lines = _REQUEST, _REQUEST[:cut], _REQUEST[cut:], _REQUEST
            self.check_both_ways([line + b"\n" for line in lines], 100_000)

    def check_both_ways(self, lines: list[bytes], max_in_flight: int) -> None:
        outputs = []
        for at_once in (True, False):
            house, sink = House(max_in_flight=max_in_flight), Sink()
            if at_once:
                house.requests.receive_lines(b"".join(lines), sink)
            else:
                for line in lines:
                    house.requests.receive(line[:-1], sink)
            house.clock.advance(1)
            counts = house.drain.counts
            outputs.append((sink.output, sink.in_flight, house.drain.phase, counts))
        self.assertEqual(*outputs)

    def output(self, chunks: list[bytes]) -> bytes:
        house = House(None)
        client = house.connect(control=True, max_line=200)
        for chunk in chunks:
            client.send(chunk)
        client.close_half()
        house.clock.advance(1)
        self.assertTrue(client.transport.closed)
        return client.take()


class ConnectionTests(SynchronousTestCase):
    """A connection's life."""

    def setUp(self) -> None:
        self.house = House()

    def test_interfaces(self) -> None:
        """It can be half-closed, and it is a producer."""
        protocol = self.house.connect().protocol
        verifyObject(IHalfCloseableProtocol, protocol)
        verifyObject(IPushProducer, protocol)

    def test_back_pressure(self) -> None:
        """While the client does not read its answers, it is not read from."""
        client = self.house.connect()
        producer: Any = client.transport.producer
        producer.pauseProducing()
        self.assertEqual(client.transport.producerState, "paused")
        producer.resumeProducing()
        self.assertEqual(client.transport.producerState, "producing")

    def test_back_pressure_within_a_chunk(self) -> None:
        """A client that does not read its answers has no more of its lines served, also of those that were read.

        Of short lines, which are all errors, the answers are a hundred times the size.
        """
        client, taken = self.house.connect(), 0
        producer: Any = client.transport.producer
        write = client.transport.write

        def fill(data: bytes) -> None:
            write(data)
            producer.pauseProducing()

        client.transport.write = fill  # type: ignore[method-assign] # it is full at once
        client.send(b"\n" * 65_000 + message("tcp_request", 1) + message("tcp_request", 2).rstrip())
        for _ in range(65):
            output = client.take()
            self.assertLess(len(output), 200_000)
            self.assertTrue(client.protocol.is_owed())
            self.assertEqual(client.transport.producerState, "paused")
            taken += output.count(b"\n")
            producer.resumeProducing()
        self.assertEqual(taken, 65_000)
        self.assertEqual([body["in_reply_to"] for body in bodies(client.take())], [1])
        self.assertFalse(client.protocol.is_owed())
        client.close_half()
        self.assertEqual(client.take(), b"")
        producer.resumeProducing()
        self.assertEqual([body["in_reply_to"] for body in bodies(client.take())], [2])
        self.assertTrue(client.transport.closed)

    def test_no_reading_after_the_end(self) -> None:
        """Input that has ended is not read again, however much the client catches up."""
        client = self.house.connect()
        client.send(message("tcp_request", 1, latency_ms=5))
        producer: Any = client.transport.producer
        producer.pauseProducing()
        client.close_half()
        producer.resumeProducing()
        self.assertEqual(client.transport.producerState, "paused")

    def test_late_answer(self) -> None:
        """An answer that comes later is written when it comes."""
        client = self.house.connect()
        client.send(message("tcp_request", 1, latency_ms=2.5))
        self.assertEqual(client.take(), b"")
        self.house.clock.advance(0.0025)
        self.assertEqual(client.take(), ok(1, 0, 2.5))

    def test_half_closed(self) -> None:
        """A client that has sent everything gets what it waits for, then the end."""
        client = self.house.connect()
        client.send(message("tcp_request", 1, latency_ms=5))
        client.close_half()
        self.assertFalse(client.transport.closed)
        self.house.clock.advance(0.005)
        self.assertEqual((client.take(), client.transport.closed), (ok(1, 0, 5), True))
        self.assertEqual(self.house.clock.getDelayedCalls(), [])

    def test_gone(self) -> None:
        """A client that has gone leaves its request running, for nobody."""
        client = self.house.connect()
        client.send(message("tcp_request", 1, latency_ms=5))
        client.leave()
        self.assertEqual((len(self.house.connections), self.house.drain.in_flight), (0, 1))
        self.house.clock.advance(0.005)
        self.assertEqual(client.take(), b"")
        self.assertEqual(self.house.drain.counts.undelivered, 1)

    def test_gone_in_the_middle_of_a_chunk(self) -> None:
        """A connection that is lost while its chunk is worked on takes nobody with it."""
        client = self.house.connect()
        self.house.node.handle("bomb")(lambda _: client.leave())
        client.send(message("tcp_request", 1) + message("bomb", 2) + message("tcp_request", 3))
        self.assertEqual((client.take(), self.house.drain.counts.undelivered), (b"", 3))
        self.assertEqual((len(self.house.connections), self.house.drain.in_flight), (0, 0))

    def test_chunk_within_a_chunk(self) -> None:
        """A chunk that is read while another connection's is worked on takes none of its answers.

        That happens when a drain ends in the middle of a chunk: what waits in the kernel is read at once.
        """

        class Nothing(msgspec.Struct):
            """A body without fields."""

        first, second = self.house.connect(), self.house.connect()
        self.house.node.handle("poke", Nothing)(lambda _: second.send(message("tcp_request", 9) * 2))
        first.send(message("tcp_request", 1) + message("poke", 2) + message("tcp_request", 3))
        self.assertEqual([body["in_reply_to"] for body in bodies(first.take())], [1, 2, 3])
        self.assertEqual([body["in_reply_to"] for body in bodies(second.take())], [9, 9])

    def test_control(self) -> None:
        """Only a control connection may shut down."""
        plain = self.house.connect()
        plain.send(message("tcp_shutdown"))
        self.assertEqual(bodies(plain.take())[0]["code"], 10)
        self.assertFalse(self.house.drain.refusing)
        control = self.house.connect(control=True)
        control.send(message("tcp_shutdown"))
        self.assertEqual(bodies(control.take())[0]["type"], "tcp_shutdown_ok")


class IdleTests(SynchronousTestCase):
    """Connections on which nothing happens."""

    def setUp(self) -> None:
        self.house = House()
        self.client = self.house.connect(idle_timeout=10)

    def is_closing(self) -> bool:
        return self.client.transport.half_closed

    def wait(self, seconds: float) -> bool:
        while seconds >= 1:
            self.house.clock.advance(1)
            seconds -= 1
        self.house.clock.advance(seconds)
        return self.is_closing()

    def test_idle(self) -> None:
        """A connection without a line for so long is closed gracefully."""
        self.assertFalse(self.wait(9.9))
        self.assertTrue(self.wait(0.1))
        self.assertFalse(self.client.transport.closed)
        self.client.close_half()
        self.assertTrue(self.client.transport.closed)
        self.assertEqual(self.house.clock.getDelayedCalls(), [])

    def test_not_read_from(self) -> None:
        """A connection that is not read from, because its client does not read, is not idle."""
        self.client.protocol.pauseProducing()
        self.assertFalse(self.wait(25))
        self.client.protocol.resumeProducing()
        self.assertTrue(self.wait(10))

    def test_line_in_the_kernel(self) -> None:
        """A line that has arrived in time counts, though the timer came before it was read."""
        waiting = [STATUS]

        def read_waiting() -> bool:
            while waiting:
                self.client.send(waiting.pop())
            return False

        connection = self.client.protocol.connection
        connection.read_waiting = read_waiting  # type: ignore[method-assign] # the kernel's part
        self.assertFalse(self.wait(19.9))
        self.assertTrue(self.wait(0.1))

    def test_lines(self) -> None:
        """Every line counts, also a wrong one."""
        for line in (STATUS, b"junk\n"):
            self.assertFalse(self.wait(9))
            self.client.send(line)
        self.assertFalse(self.wait(9))
        self.assertTrue(self.wait(1))

    def test_trickle(self) -> None:
        """Half a line that trickles in counts as none."""
        for _ in range(9):
            self.client.send(b"x")
            self.assertFalse(self.wait(1))
        self.client.send(b"x")
        self.assertTrue(self.wait(1))

    def test_in_flight(self) -> None:
        """A connection that waits for an answer is not idle, and has its time again after it."""
        answer: Deferred[None] = Deferred()
        self.house.node.handle("echo")(lambda _: answer)
        self.client.send(message("echo"))
        self.assertFalse(self.wait(29))
        answer.callback(None)
        self.assertFalse(self.wait(9.9))
        self.assertTrue(self.wait(0.1))

    def test_never(self) -> None:
        """Without a timeout, none is idle for too long."""
        client = self.house.connect()
        self.house.clock.advance(1_000_000)
        self.assertFalse(client.transport.half_closed)

    def test_gone(self) -> None:
        """A connection that is lost leaves no timer behind."""
        self.client.leave()
        self.assertEqual(self.house.clock.getDelayedCalls(), [])

    def test_draining(self) -> None:
        """A connection that a drain closes is closed once, whatever its idle timer says."""
        self.house.clock.advance(FIRST_WORDS * 2)
        self.house.connections.begin_drain()
        self.house.connections.finish()
        self.assertTrue(self.is_closing())
        self.house.clock.advance(1)
        self.assertTrue(self.client.transport.closed)
        self.assertEqual(self.house.clock.getDelayedCalls(), [])


class LameDuckTests(SynchronousTestCase):
    """A lame duck of 10 s; the test says who is sent away."""

    def setUp(self) -> None:
        self.number = 0.9
        self.server = MemoryServer(lame_duck=10, random_number=lambda: self.number)
        self.node = Node("n1")
        answer_requests(self.node)
        self.node.bind(self.server.drain)
        self.server.listen(NodeFactory(self.node))
        self.client = self.server.connect()

    def begin(self) -> None:
        """Half of the lame duck is over, and who asks is sent away."""
        self.server.stop()
        self.server.clock.advance(5)
        self.number = 0.4

    def check(self, answers: int, *, closed: bool) -> None:
        """The client has got so many answers, and no refusal; perhaps the end behind them."""
        types = [body["type"] for body in bodies(self.client.received)]
        self.assertEqual(types, ["tcp_request_ok"] * answers)
        self.assertEqual((self.client.closed, self.client.aborted), (closed, False))

    def test_answered(self) -> None:
        """The end comes right behind an answer, and behind the last of several that are given together."""
        self.begin()
        self.client.send(message("tcp_request") * 3)
        self.check(3, closed=True)

    def test_not_drawn(self) -> None:
        """A client that is not drawn stays."""
        self.begin()
        self.number = 0.6
        self.client.send(message("tcp_request"))
        self.check(1, closed=False)

    def test_later(self) -> None:
        """The end comes behind the last answer, once nothing is in flight."""
        self.begin()
        self.client.send(message("tcp_request", latency_ms=1000) + message("tcp_request", latency_ms=2000))
        self.client.send(message("tcp_request"))
        self.server.clock.advance(1)
        self.check(2, closed=False)
        self.server.clock.advance(1)
        self.check(3, closed=True)

    def test_half_a_line(self) -> None:
        """Not while half a request is here: it is answered first."""
        self.begin()
        line = message("tcp_request")
        self.client.send(line + line[:9])
        self.check(1, closed=False)
        self.client.send(line[9:])
        self.check(2, closed=True)

    def test_unanswered(self) -> None:
        """A line that gets no answer ends nothing."""
        self.begin()
        self.client.send(message("tcp_request", in_reply_to=1))
        self.check(0, closed=False)

    def test_slow_reader(self) -> None:
        """A client whose answer piles up gets the end behind it."""
        self.node.handle("big")(lambda _: {"type": "tcp_request_ok", "data": "x" * 200_000})
        self.begin()
        self.client.stop_reading()
        self.client.send(message("big"))
        self.client.start_reading()
        self.check(1, closed=True)

    def test_idle(self) -> None:
        """A client that does not ask gets the end right before the drain, and no refusal."""
        other = self.server.connect()
        other.send(message("tcp_request", latency_ms=60_000))
        self.begin()
        self.server.clock.advance(4.9)
        self.check(0, closed=False)
        self.server.clock.advance(0.1)
        self.check(0, closed=True)
        self.assertFalse(other.closed)

    def test_in_the_drain(self) -> None:
        """In the drain that follows, the end comes behind the last answer too, whatever else is in flight."""
        other = self.server.connect()
        other.send(message("tcp_request", latency_ms=60_000))
        self.begin()
        self.client.send(message("tcp_request", latency_ms=9_000))
        self.server.clock.advance(9)
        self.check(1, closed=True)
        self.assertFalse(other.closed)
