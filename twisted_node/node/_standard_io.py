"""Standard input and output as the transport of a node.

Standard output is the product: it carries messages and nothing else. So the two streams are taken away from the rest of
the process first: what anybody else prints goes to standard error, and what anybody else reads is empty.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReactorFDSet,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_node.errors import MisuseError
from twisted_node.node._node import Node
from twisted_node.node._protocol import DEFAULT_MAX_LINE, NodeFactory, NodeProtocol
from twisted_node.server._twisted import read_waiting, unsent_bytes

__all__ = ["StandardStreams", "StandardStreamsFactory", "free_standard_output", "take_standard_streams"]


def take_standard_streams() -> tuple[int, int]:
    """Take standard input and output for the node alone.

    Afterwards file descriptor 0 is empty and 1 is standard error. A closed standard input counts as an empty one.

    Returns:
        New file descriptors: to read from, and to write to.

    Raises:
        MisuseError: standard output is closed.
    """
    # Python leaves these None for what was closed at its start; the number may mean something else by now.
    if sys.__stdout__ is None:
        raise MisuseError("standard output is closed: there is nowhere to answer")
    nothing = os.open(os.devnull, os.O_RDONLY)
    reading = nothing if sys.__stdin__ is None else _own(0, os.O_RDONLY)
    writing = _own(1, os.O_WRONLY)
    if sys.__stdin__ is not None:
        os.dup2(nothing, 0)
        os.close(nothing)
    free_standard_output()
    return reading, writing


def free_standard_output() -> None:
    """Have what anybody prints, and the logs of twistd and twist, go to standard error."""
    if sys.__stdout__ is not None:
        sys.__stdout__.flush()
        os.dup2(2 if sys.__stderr__ is not None else os.open(os.devnull, os.O_WRONLY), 1)


def _own(descriptor: int, flags: int) -> int:
    """Open a stream anew if that can be done.

    We make it non-blocking, and that goes with the open file, which other processes, and standard error, may share: on
    a terminal, long log lines would be lost by it. A regular file is shared on purpose, for its position. A pipe with a
    name would never tell of its end, if its writer has closed before.
    """
    path = f"/proc/self/fd/{descriptor}"
    with suppress(OSError):
        if os.isatty(descriptor) or os.readlink(path).startswith("pipe:"):
            return os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK)
    return os.dup(descriptor)


#: In bytes; as sockets do.
_READ_SIZE = 65536


def read_from(descriptor: int, take: Callable[[bytes], object]) -> Exception | None:
    """Read once from a file descriptor; return the reason if nothing more will come, as a reactor wants it."""
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


# Twisted picks the class by platform, which its types do not say.
_StandardIO: Any = StandardIO


class _StandardTransport(_StandardIO):  # type: ignore[misc] # Any, see above
    """Standard input and output, with what a socket's transport has besides."""

    def __init__(self, protocol: Any, reading: int, writing: int, reactor: Any) -> None:
        super().__init__(protocol, reading, writing, reactor)
        # Twisted forgets it when nothing can be written any more.
        self._output = self._writer
        mode = os.fstat(writing).st_mode
        self.has_reader = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(writing)
        # Twisted reads 8 KiB at a time here; with a pipe's 64 KiB a request costs 0.4 microseconds less.
        self._reader.doRead = self._read

    def _read(self) -> object:
        return read_from(self._reader.fd, self._reader.dataReceived)

    def unsent_lines(self) -> int:
        """Count the lines that have not been written whole."""
        unsent: list[bytes] = [self._output.dataBuffer[self._output.offset :], *self._output._tempDataBuffer]
        return sum(data.count(b"\n") for data in unsent)

    def abortConnection(self) -> None:
        """Drop what is unsent, and close."""
        self.connectionLost(Failure(ConnectionAborted()))


class _StandardClose:
    """The end of standard output: flush. There is no half-close, and nobody to linger for."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def begin(self, *, client_has_closed: bool = False) -> None:
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def has_unsent(self) -> bool:
        return unsent_bytes(self._transport._writer) > 0

    def end(self) -> bool:
        lost = self.has_unsent()
        self._transport.abortConnection()
        return lost

    def client_closed(self) -> None:
        """Do nothing: output goes on when input has ended."""

    def closed(self) -> None:
        """Do nothing: no timer runs."""


class StandardProtocol(NodeProtocol):
    """The node's connection to whoever started it: trusted like a control endpoint, and a way to other nodes."""

    routes = True
    #: Called at the end of input, or when nobody reads the answers any more; with the reason.
    on_end: Callable[[str], object]

    def connectionMade(self) -> None:
        """Stay beyond any drain, until input ends; and be the way to other nodes."""
        self.kept = True
        self.node.calls.open(self)
        super().connectionMade()
        self.node.start()

    def make_close(self) -> _StandardClose:
        """Make what ends this connection."""
        return _StandardClose(self.transport)

    def is_lively(self) -> bool:
        """Say no: nobody makes another connection instead of this one."""
        return False

    def read_waiting(self) -> None:
        """Read what has been sent already, unless answers pile up."""
        if not getattr(self.transport._writer, "producerPaused", False):
            read_waiting(self.transport._reader)

    def readConnectionLost(self) -> None:
        """Learn of the end of input; what is in flight is still answered."""
        super().readConnectionLost()
        self.node.calls.end("standard input ended")
        self.on_end("standard input ended")

    def writeConnectionLost(self) -> None:
        """Learn that nothing can be written any more. Twisted would say nothing further by itself."""
        drain, lines = self.node.drain, self.transport.unsent_lines()
        if self.transport.has_reader:
            drain.count_undelivered(lines)
        else:
            # Nobody has gone: the disk is full, say.
            drain.count_cut(max(1, lines))
        reason = "nobody reads standard output" if self.transport.has_reader else "standard output cannot be written"
        self.transport.connectionLost(Failure(ConnectionLost()))
        self.on_end(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave; no reply comes any more."""
        super().connectionLost(reason)
        self.node.calls.end("standard output was closed")


class StandardStreamsFactory(NodeFactory):
    """Makes the one connection over standard input and output.

    Args:
        node: takes the lines.
        on_end: called with a reason when input has ended, or nobody reads the output.
        max_line: as in ``NodeProtocol``, in bytes.
    """

    def __init__(self, node: Node, on_end: Callable[[str], object], *, max_line: int = DEFAULT_MAX_LINE) -> None:
        super().__init__(node, control=True, max_line=max_line)
        self.on_end = on_end

    def buildProtocol(self, addr: IAddress | None) -> StandardProtocol:
        """Make the connection."""
        protocol = StandardProtocol(self.node, self.connections, control=True, max_line=self.max_line)
        protocol.on_end = self.on_end
        return protocol


@implementer(IStreamServerEndpoint)
class StandardStreams:
    """The endpoint of standard input and output: listening to it makes one connection.

    Args:
        reactor: reads and writes.
        reading: the file descriptor to read from.
        writing: the one to write to.
    """

    def __init__(self, reactor: IReactorFDSet, reading: int, writing: int) -> None:
        self._reactor = reactor
        self._descriptors = reading, writing

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Connect; fires with a port that has nothing to close."""
        reading, writing = self._descriptors
        protocol = factory.buildProtocol(_StandardAddress())
        _StandardTransport(protocol, reading, writing, self._reactor)
        port: IListeningPort = _NoPort()
        return succeed(port)


@implementer(IAddress)
class _StandardAddress:
    """Where standard input comes from, which nobody knows."""

    def __str__(self) -> str:
        return "standard input"


@implementer(IListeningPort)
class _NoPort:
    """Nothing listens: the one connection is made already."""

    def startListening(self) -> None:
        """Do nothing."""

    def stopListening(self) -> None:
        """Do nothing."""

    def getHost(self) -> IAddress:
        """Name the streams."""
        return _StandardAddress()
