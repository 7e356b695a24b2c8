"""The line between a process and its successor."""

from __future__ import annotations

import os
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_node.handover import _line
from twisted_node.handover._line import (
    Line,
    close_kept,
    close_lines,
    join_places,
    keep_until_end,
    one_line,
    open_line,
    read_places,
)

# Its interfaces depend on the platform.
reactor: Any = _reactor


class LineTests(SynchronousTestCase):
    """One end."""

    def setUp(self) -> None:
        self.heard: list[str] = []
        self.line = Line({"go": self.heard.append, "number": int}, lambda: self.heard.append("the end"))
        self.transport = StringTransportWithDisconnection()
        self.transport.protocol = self.line

    def connect(self) -> None:
        self.line.makeConnection(self.transport)

    def test_heard(self) -> None:
        """A word is told with the rest of its line."""
        self.connect()
        self.line.dataReceived(b"go now, please\ngo\nnumber 7\n")
        self.assertEqual(self.heard, ["now, please", ""])

    def test_said(self) -> None:
        """What is said is out in the same turn."""
        self.connect()
        self.line.say("ended", 0)
        self.assertEqual(self.transport.value(), b"ended 0\n")

    def test_not_understood(self) -> None:
        """What is not understood ends the line."""
        for said in (b"come\n", b"number x\n", b"\xff\n", b"x" * 5000):
            self.setUp()
            self.connect()
            self.line.dataReceived(said)
            self.assertEqual(self.heard, ["the end"], said)

    def test_not_open(self) -> None:
        """One that was never opened can be ended."""
        self.line.end()
        self.line.close_copy()
        self.assertEqual(self.heard, [])


class CopyTests(TestCase):
    """Lines in a child that was forked, and at the end of a process."""

    def test_real(self) -> None:
        """On a real socket: a child closes its copies, and does not end the line."""
        self.patch(_line, "_kept", set())
        self.patch(_line, "_lines", set())
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        ended: Deferred[None] = Deferred()
        line = Line({}, lambda: ended.callback(None))
        open_line(reactor, ours.fileno(), line)
        keep_until_end(kept := ours.detach())
        line.say("hello")
        self.assertEqual(theirs.recv(100), b"hello\n")
        transport: Any = line.transport
        number = transport.socket.fileno()
        reactor.removeReader(transport)
        close_lines()
        for descriptor in (number, kept):
            self.assertRaises(OSError, os.fstat, descriptor)
        self.assertEqual(theirs.recv(100), b"", "these were the only copies")
        transport.connectionLost(Failure(ConnectionDone()))

    def test_close_kept(self) -> None:
        """One that failed is closed before the end."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        keep_until_end(kept := ours.detach())
        close_kept(kept)
        self.assertNotIn(kept, _line._kept)
        self.assertEqual(theirs.recv(1), b"")


class TextTests(SynchronousTestCase):
    """How things are written."""

    @given(st.frozensets(st.integers(0, 100)))
    def test_places(self, places: frozenset[int]) -> None:
        """Places are read as they were written."""
        self.assertEqual(read_places(join_places(places)), places)

    def test_places_written(self) -> None:
        """They are in order; none is a dash; anything else is an error."""
        self.assertEqual([join_places([3, 1]), join_places([])], ["1,3", "-"])
        self.assertRaises(ValueError, read_places, "")

    def test_one_line(self) -> None:
        """A text of several lines becomes one, of a length that fits."""
        self.assertEqual(one_line("a\n  b\tc"), "a b c")
        self.assertEqual(len(one_line("x" * 10_000)), 512)
