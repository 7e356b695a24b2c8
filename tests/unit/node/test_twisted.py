"""What ``node`` relies on in Twisted's private names, on Twisted's real classes: it fails when Twisted changes it."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from twisted_node.node._twisted import StandardTransport

REACTOR: Any = reactor


class RememberingInput(Protocol):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.came: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.chunks.append(data)
        if not self.came.called:
            self.came.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class StandardTransportTests(TestCase):
    """Two pipes in the place of standard input and output."""

    def setUp(self) -> None:
        self.reading, self.sending = os.pipe()
        self.receiving, self.writing = os.pipe()
        self.protocol = RememberingInput()
        self.transport: Any = None
        self.addCleanup(self.close)

    def connect(self, transport: Any) -> None:
        self.transport = transport(self.protocol, self.reading, self.writing, REACTOR)

    async def close(self) -> None:
        if not self.protocol.lost.called:
            self.transport.connectionLost(Failure(ConnectionError()))
        for descriptor in (self.reading, self.sending, self.receiving, self.writing):
            os.close(descriptor)

    async def test_read_size(self) -> None:
        """A pipe is read 64 KiB at a time."""
        os.write(self.sending, b"x" * 65536)
        self.connect(StandardTransport)
        await self.protocol.came
        self.assertEqual([len(chunk) for chunk in self.protocol.chunks], [65536])

    async def test_read_size_of_twisted(self) -> None:
        """Twisted's own reads less, so that the way around it is still worth something."""
        os.write(self.sending, b"x" * 65536)
        self.connect(StandardIO)
        await self.protocol.came
        self.assertLess(len(self.protocol.chunks[0]), 65536)

    def test_read_waiting(self) -> None:
        """What was sent is read in this turn; not while the writer's buffer is full."""
        self.connect(StandardTransport)
        os.write(self.sending, b"sent")
        self.transport._writer.producerPaused = True
        self.transport.read_waiting()
        self.assertEqual(self.protocol.chunks, [])
        self.transport._writer.producerPaused = False
        self.transport.read_waiting()
        self.assertEqual(self.protocol.chunks, [b"sent"])

    def test_unsent(self) -> None:
        """What the pipe has not taken is known: whether there is some, and how many lines it ends."""
        self.connect(StandardTransport)
        self.assertFalse(self.transport.has_unsent())
        self.transport.write(b"one\n")
        self.transport.write(b"two\nthree")
        self.assertTrue(self.transport.has_unsent())
        self.assertEqual(self.transport.unsent_lines(), 2)
        self.transport._writer.doWrite()
        self.assertEqual((self.transport.has_unsent(), self.transport.unsent_lines()), (False, 0))
