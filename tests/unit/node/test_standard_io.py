"""Standard input and output, read and written in this process."""

from __future__ import annotations

import os

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.process import ProcessReader
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT
from twisted_node import Drain, DrainingService, Node
from twisted_node.node._standard_io import StandardStreams, StandardStreamsFactory
from twisted_node.node._twisted import read_from


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


class SharedStreamTests(SynchronousTestCase):
    """A stream that others read, too."""

    def test_shared(self) -> None:
        """Another process that reads the same stream may have been faster; then there is nothing to read."""
        ends = [*os.pipe(), *os.pipe()]
        for end in ends:
            self.addCleanup(os.close, end)
        reading, writing, _, output = ends
        reactor = MemoryReactorClock()
        service = DrainingService(Drain(reactor, reactor.seconds))
        node = Node()
        node.bind(service.drain)
        service.listen(StandardStreams(reactor, os.dup(reading), os.dup(output)), StandardStreamsFactory(node, list))
        service.startService()
        (reader,) = (reader for reader in reactor.getReaders() if isinstance(reader, ProcessReader))
        self.assertIsNone(reader.doRead())
        os.write(writing, INIT)
        self.assertIsNone(reader.doRead())
        self.assertEqual(node.node_id, "n1")
