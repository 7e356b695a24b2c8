"""Everything of Twisted's that has no public way, and that ``node`` needs all the same: its transport for stdio.

Nothing else in ``node`` uses a private name of Twisted's. ``tests/unit/node/test_twisted.py`` fails when Twisted
changes what is relied on here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure

from twisted_node.server._twisted import read_waiting, unsent_bytes

__all__ = ["StandardTransport", "read_from"]

#: How many bytes to read at once, as many as Twisted reads from a socket. From a pipe it reads 8 KiB; with 64 KiB each
#: request takes 0.4 microseconds less.
_READ_SIZE = 65536


def read_from(descriptor: int, take: Callable[[bytes], object]) -> Exception | None:
    """Read once from a file descriptor, for a reactor.

    Args:
        descriptor: the file descriptor, non-blocking.
        take: called with what was read.

    Returns:
        Why nothing more will come; None if more may come.
    """
    try:
        data = os.read(descriptor, _READ_SIZE)
    except BlockingIOError:
        return None
    except OSError:
        return ConnectionLost()
    if not data:
        return ConnectionDone()
    take(data)
    return None


# Twisted chooses the class by platform, which its types do not say.
_StandardIO: Any = StandardIO


class StandardTransport(_StandardIO):  # type: ignore[misc] # Any, see above
    """Standard input and output, with what a socket's transport has besides.

    Args:
        protocol: gets what is read.
        reading: the file descriptor to read from.
        writing: the one to write to.
        reactor: reads and writes.
    """

    def __init__(self, protocol: Any, reading: int, writing: int, reactor: Any) -> None:
        super().__init__(protocol, reading, writing, reactor)
        # Twisted forgets its writer when nothing can be written any more.
        self._output = self._writer
        mode = os.fstat(writing).st_mode
        #: Whether somebody reads the output while we write it, rather than a file.
        self.has_reader = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(writing)
        self._reader.doRead = self._read

    def _read(self) -> object:
        return read_from(self._reader.fd, self._reader.dataReceived)

    def read_waiting(self) -> bool:
        """Read what has been sent already, unless answers pile up; return whether some is known to be left."""
        return not getattr(self._writer, "producerPaused", False) and read_waiting(self._reader)

    def has_unsent(self) -> bool:
        """Return whether some output is still in this process."""
        return unsent_bytes(self._writer) > 0

    def unsent_lines(self) -> int:
        """Count the lines that have not been written whole."""
        unsent: list[bytes] = [self._output.dataBuffer[self._output.offset :], *self._output._tempDataBuffer]
        return sum(data.count(b"\n") for data in unsent)

    def abortConnection(self) -> None:
        """Drop what is unsent, and close."""
        self.connectionLost(Failure(ConnectionAborted()))
