"""Streams of a node's own, apart from those that others hold."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from twisted_node.node._streams import _own


class OwnTests(SynchronousTestCase):
    """A file descriptor for the node alone."""

    def own(self, descriptor: int, flags: int) -> int:
        """Take a descriptor; all are closed after the test."""
        self.addCleanup(os.close, descriptor)
        own = _own(descriptor, flags)
        self.addCleanup(os.close, own)
        return own

    def test_pipe(self) -> None:
        """A pipe is opened again, so that what the node does to it, others do not notice."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.set_blocking(writing, True)
        own = self.own(writing, os.O_WRONLY)
        self.assertEqual((os.get_blocking(own), os.get_blocking(writing)), (False, True))
        os.write(own, b"line")
        self.assertEqual(os.read(reading, 10), b"line")

    def test_terminal(self) -> None:
        """So is a terminal."""
        leader, terminal = os.openpty()
        self.addCleanup(os.close, leader)
        own = self.own(terminal, os.O_WRONLY)
        self.assertEqual((os.get_blocking(own), os.get_blocking(terminal)), (False, True))

    def test_file(self) -> None:
        """A file is not: whoever writes to it next goes on where the node was."""
        path = self.mktemp()
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        own = self.own(file, os.O_WRONLY)
        os.write(own, b"one ")
        os.write(file, b"two")
        with open(path, "rb") as written:
            self.assertEqual(written.read(), b"one two")

    def test_named_pipe(self) -> None:
        """Nor is a named pipe, whose writer may have gone: the end of its input would never come."""
        path = self.mktemp()
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writing = os.open(path, os.O_WRONLY)
        own = self.own(reading, os.O_RDONLY)
        os.write(writing, b"line")
        os.close(writing)
        self.assertEqual([os.read(own, 10), os.read(own, 10)], [b"line", b""])
