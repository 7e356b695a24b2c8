"""Standard input and output, read and written in this process."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.process import ProcessReader
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, bodies, message
from twisted_node import Drain, DrainingService, Node
from twisted_node.node._standard_io import StandardStreams, StandardStreamsFactory
from twisted_node.node._twisted import read_from
from twisted_node.node._workload import answer_requests
from twisted_node.server._states import ServiceState


class ReadTests(SynchronousTestCase):
    """Reading from standard input."""

    def read(self, descriptor: int) -> tuple[list[bytes], Exception | None]:
        """Read once."""
        taken: list[bytes] = []
        return taken, read_from(descriptor, taken.append)

    def test_pipe(self) -> None:
        """What is there is taken, nothing is nothing, and the end is told."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.set_blocking(reading, False)
        os.write(writing, b"line")
        self.assertEqual(self.read(reading), ([b"line"], None))
        self.assertEqual(self.read(reading), ([], None))
        os.close(writing)
        taken, reason = self.read(reading)
        self.assertEqual(taken, [])
        self.assertIsInstance(reason, ConnectionDone)

    def test_error(self) -> None:
        """A descriptor that cannot be read is lost."""
        _, reason = self.read(-1)
        self.assertIsInstance(reason, ConnectionLost)


class StreamsTests(SynchronousTestCase):
    """A service on two pipes."""

    def setUp(self) -> None:
        ends = [*os.pipe(), *os.pipe()]
        for end in ends:
            self.addCleanup(os.close, end)
        reading, self.writing, self.output, output = ends
        os.set_blocking(self.output, False)
        self.reactor = MemoryReactorClock()
        drain = Drain(self.reactor, self.reactor.seconds)
        self.service = DrainingService(drain, lame_duck=10, random_number=lambda: 0.0)
        self.node = Node()
        answer_requests(self.node)
        self.node.bind(drain)
        streams = StandardStreams(self.reactor, os.dup(reading), os.dup(output))
        self.service.listen(streams, StandardStreamsFactory(self.node, list))
        self.service.startService()
        (self.reader,) = (reader for reader in self.reactor.getReaders() if isinstance(reader, ProcessReader))

    def test_shared(self) -> None:
        """Another process that reads the same stream may have been faster; then there is nothing to read."""
        self.assertIsNone(self.reader.doRead())
        os.write(self.writing, INIT)
        self.assertIsNone(self.reader.doRead())
        self.assertEqual(self.node.node_id, "n1")

    def ask(self) -> str:
        """One request in, the type of its answer."""
        os.write(self.writing, message("tcp_request"))
        self.reader.doRead()
        for writer in self.reactor.getWriters():
            writer.doWrite()
        (body,) = bodies(os.read(self.output, 1000))
        answer: str = body["type"]
        return answer

    def test_lame_duck(self) -> None:
        """No lame duck sends standard input away: it is read, and refused, until the drain has ended."""
        self.node.node_id = "n1"
        work: Deferred[None] = Deferred()
        self.service.drain.track("work of the program", work)
        self.service.stopService()
        self.reactor.advance(9)
        self.assertEqual(self.ask(), "tcp_request_ok")
        self.reactor.advance(5)
        self.assertEqual(self.ask(), "tcp_request_error")
        work.callback(None)
        self.assertIs(self.service.state, ServiceState.CLOSING)
        self.assertRaises(BlockingIOError, os.read, self.output, 1)
        for writer in self.reactor.getWriters():
            self.assertIsInstance(writer.doWrite(), ConnectionDone)
