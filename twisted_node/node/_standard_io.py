"""Standard input and output as a connection to the node, and as an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReactorFDSet,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_node.node._factory import ServedFactory
from twisted_node.node._framing import DEFAULT_MAX_LINE
from twisted_node.node._node import Node, requests_of
from twisted_node.node._protocol import NodeProtocol
from twisted_node.node._requests import Requests
from twisted_node.node._twisted import StandardTransport
from twisted_node.server._connections import Connections

__all__ = ["StandardProtocol", "StandardStreams", "StandardStreamsFactory"]


class _StandardClose:
    """How standard output closes: what is left is written. It has no half-close, and nobody to wait for.

    Args:
        transport: a ``StandardTransport``.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def begin(self, *, client_has_closed: bool = False) -> None:
        """Write what is left, and close."""
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def read_waiting(self) -> bool:
        """Read what has been sent already, unless answers pile up; return whether some is known to be left."""
        return bool(self._transport.read_waiting())

    def has_unsent(self) -> bool:
        """Return whether some output is still in this process."""
        return bool(self._transport.has_unsent())

    def close_now(self) -> None:
        """Close now; output that is still in this process is lost."""
        self._transport.abortConnection()

    def client_closed(self) -> None:
        """Do nothing: output goes on when input has ended."""

    def closed(self) -> None:
        """Do nothing: no timer runs."""


class StandardProtocol(NodeProtocol):
    """The node's connection to whoever started it: trusted like a control endpoint, and a way to other nodes.

    Args:
        requests: those of the node; takes the lines.
        connections: all connections of the server.
        on_end: called with the reason when input has ended, or when nobody reads the answers any more.
        max_line: as in ``NodeProtocol``, in bytes.
    """

    routes = True
    # Nobody makes another connection instead of this one.
    asks_again_within = 0.0

    def __init__(
        self, requests: Requests, connections: Connections, on_end: Callable[[str], object], *, max_line: int
    ) -> None:
        super().__init__(requests, connections, control=True, max_line=max_line)
        self._on_end = on_end

    def __str__(self) -> str:
        return "standard output"

    def connectionMade(self) -> None:
        """Stay open beyond a drain that a message began, until input ends; and be the way to other nodes."""
        self.requests.calls.open(self)
        super().connectionMade()
        self.keep_open()
        self.requests.start_own_work()

    def make_close(self) -> _StandardClose:
        """Make what ends this connection."""
        return _StandardClose(self.transport)

    def readConnectionLost(self) -> None:
        """Learn of the end of input; what is in flight is still answered."""
        super().readConnectionLost()
        self.requests.calls.end("standard input ended")
        self._on_end("standard input ended")

    def writeConnectionLost(self) -> None:
        """Learn that nothing can be written any more. Twisted would say nothing further by itself."""
        drain, lines = self.requests.drain, self.transport.unsent_lines()
        if self.transport.has_reader:
            drain.count_undelivered(lines)
        else:
            # Nobody has gone: the disk is full, say.
            drain.count_cut(max(1, lines))
        reason = "nobody reads standard output" if self.transport.has_reader else "standard output cannot be written"
        self.transport.connectionLost(Failure(ConnectionLost()))
        self._on_end(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave; no reply comes any more."""
        super().connectionLost(reason)
        self.requests.calls.end("standard output was closed")


class StandardStreamsFactory(ServedFactory):
    """Makes the one connection over standard input and output.

    Args:
        node: answers.
        on_end: called with a reason when input has ended, or nobody reads the output.
        max_line: as in ``NodeProtocol``, in bytes.
    """

    def __init__(self, node: Node, on_end: Callable[[str], object], *, max_line: int = DEFAULT_MAX_LINE) -> None:
        super().__init__(node, max_line=max_line)
        self._on_end = on_end

    def buildProtocol(self, addr: IAddress | None) -> StandardProtocol:
        """Make the connection; raises what :meth:`startFactory` does."""
        connections = self._served_connections()
        return StandardProtocol(requests_of(self.node), connections, self._on_end, max_line=self.max_line)


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
        StandardTransport(protocol, reading, writing, self._reactor)
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
