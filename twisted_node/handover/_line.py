"""The line between a process and its successor: a pair of unix sockets, and one line of text for each thing said.

The successor says ``ready PID VERSION PLACES`` (the places of the sockets that it listens with, among those that it was
handed), or ``failed REASON``; and ``stop SECONDS`` when it is stopped itself. Its predecessor says ``go``, and ``ended
STATUS``. The end of a line is the end of the process at its other end.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakSet

from twisted.internet.interfaces import IAddress, IWriteDescriptor
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

__all__ = ["Line", "close_kept", "close_lines", "join_places", "keep_until_end", "one_line", "open_line", "read_places"]

_log = Logger()

#: Bytes in a line: all that is said is short.
_LONGEST_LINE = 4096

#: All lines of this process, and the descriptors that keep one until its end, for a child that is forked.
_lines: WeakSet[Line] = WeakSet()
_kept: set[int] = set()


class Line(LineOnlyReceiver):
    """One end of a line.

    Args:
        words: what to call with the rest of a line, by its first word. One that raises ValueError, or that is not
            among them, ends the line.
        ended: is called when the line has ended.
    """

    delimiter = b"\n"
    MAX_LENGTH = _LONGEST_LINE
    transport: Any

    def __init__(self, words: Mapping[str, Callable[[str], object]], ended: Callable[[], object]) -> None:
        self._words = words
        self._ended = ended
        _lines.add(self)

    def say(self, *words: object) -> None:
        """Say something, in this turn: it may be the last one."""
        self.transport.write(" ".join(map(str, words)).encode() + b"\n")
        if IWriteDescriptor.providedBy(self.transport):
            # Otherwise it would be written in the next turn.
            self.transport.doWrite()

    def end(self) -> None:
        """End the line, once all that was said is out."""
        if self.transport is not None:
            self.transport.loseConnection()

    def lineReceived(self, line: bytes) -> None:
        """Hear something."""
        try:
            word, _, rest = line.decode().partition(" ")
            if word not in self._words:
                raise ValueError(word)
            self._words[word](rest)
        except ValueError as error:
            _log.warn("not understood on the line between two processes: {line}", line=line, error=error)
            self.end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Learn that the line has ended."""
        self._ended()

    def close_copy(self) -> None:
        """Close the line in a child that was forked."""
        connection: socket.socket | None = getattr(self.transport, "socket", None)
        if connection is not None:
            connection.close()


def open_line(reactor: Any, descriptor: int, line: Line) -> None:
    """Have a reactor serve a line, on a copy of its descriptor.

    Args:
        reactor: provides ``IReactorSocket``.
        descriptor: of the line's socket.
        line: the protocol.
    """
    os.set_blocking(descriptor, False)
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, _OneLine(line))


class _OneLine(Factory):
    noisy = False

    def __init__(self, line: Line) -> None:
        self._line = line

    def buildProtocol(self, addr: IAddress | None) -> Line:
        return self._line


def keep_until_end(descriptor: int) -> None:
    """Keep a line's descriptor open until the very end of this process, so that the other one sees that, not less."""
    _kept.add(descriptor)


def close_kept(descriptor: int) -> None:
    """Close a line's descriptor before the end."""
    _kept.discard(descriptor)
    os.close(descriptor)


def close_lines() -> None:
    """Close all lines in a child that was forked."""
    for line in list(_lines):
        line.close_copy()
    while _kept:
        os.close(_kept.pop())


def one_line(text: object) -> str:
    """Make a text fit to be said."""
    return " ".join(str(text).split())[: _LONGEST_LINE // 8]


def join_places(places: Iterable[int]) -> str:
    """Write the places of sockets; ``-`` for none."""
    return ",".join(map(str, sorted(places))) or "-"


def read_places(text: str) -> frozenset[int]:
    """Read the places of sockets.

    Raises:
        ValueError: there is something else in the text.
    """
    return frozenset() if text == "-" else frozenset(int(place) for place in text.split(","))
