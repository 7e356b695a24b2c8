"""Lines from a transport to the node, and answers back, with back-pressure.

``LineReceiver`` is the base; its loop is not used. It copies the rest of its buffer for every line, and it can neither
skip an over-long line nor keep the lines after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_node.errors import ErrorCode, RequestError
from twisted_node.node._framing import Framing
from twisted_node.node._node import Node
from twisted_node.node._wire import UnreadableLine
from twisted_node.server._closing import Close, GracefulClose
from twisted_node.server._connections import Connections, IDrainingFactory
from twisted_node.server._twisted import read_waiting, restore_half_close, write_now

__all__ = ["DEFAULT_MAX_LINE", "NodeFactory", "NodeProtocol"]

#: The longest line taken, in bytes without its newline.
DEFAULT_MAX_LINE = 1_048_576


@implementer(IHalfCloseableProtocol, IPushProducer)
class NodeProtocol(LineReceiver, TimeoutMixin):
    """One connection to a node.

    It never holds more input than ``max_line`` bytes and one read. It is its own transport's producer: while answers
    pile up because the client does not read, the client is not read from.

    Args:
        node: takes the lines.
        connections: where to register.
        control: whether the client may call what needs control.
        max_line: bytes; a longer line is skipped to its end.
        idle_timeout: seconds after which a connection with nothing in flight and no whole line is closed; 0 for never.
    """

    delimiter = b"\n"
    routes = False
    # Whatever the endpoint made: TCP, unix, TLS, a wrapper of these.
    transport: Any
    #: Called when the connection is lost; for its factory's count.
    on_lost: Callable[[], None] | None = None

    def __init__(
        self,
        node: Node,
        connections: Connections,
        *,
        control: bool = False,
        max_line: int = DEFAULT_MAX_LINE,
        idle_timeout: float = 0,
    ) -> None:
        self.node = node
        self.connections = connections
        self.control = control
        self.MAX_LENGTH = max_line
        self.idle_timeout = idle_timeout
        self.in_flight = 0
        self.gone = False
        self.kept = False
        # While lines are worked on, their answers collect here; they leave in one write.
        self._answers: list[bytes] | None = None
        self._framing = Framing(max_line)
        self._paused = False
        self._heard = False
        self._silent = True
        self._asked_at = 0.0
        self._input_ended = False
        self._finishing = False

    # What Twisted calls.

    def connectionMade(self) -> None:
        """Register, and speak only as fast as the client listens."""
        self._close = self.make_close()
        restore_half_close(self.transport, self)
        self.transport.registerProducer(self, True)
        self.setTimeout(self.idle_timeout or None)
        self.connections.opened(self)

    def callLater(self, period: float, func: Callable[[], object]) -> IDelayedCall:
        """Set the idle timer, as ``TimeoutMixin`` asks."""
        return self.connections.clock.callLater(period, func)

    def make_close(self) -> Close:
        """Make what ends this connection."""
        return GracefulClose(self.transport, self.connections.clock, self.connections.linger)

    def dataReceived(self, data: bytes) -> None:
        """Take one chunk: hand over its whole lines, keep the rest."""
        if self._finishing:
            return
        self._silent = False
        self._asked_at = self.connections.clock.seconds()
        self._framing.add(data)
        self._serve()

    def _serve(self) -> None:
        """Hand over whole lines, as long as the client reads the answers."""
        while not self._paused and (lines := self._framing.next_lines()) is not None:
            self._heard = True
            if self.idle_timeout:
                self.resetTimeout()
            self._answers = []
            try:
                if lines:
                    self.node.receive_lines(lines, self)
                else:
                    self.lineLengthExceeded(lines)
            finally:
                answers, self._answers = self._answers, None
                if answers:
                    write_now(self.transport, b"".join(answers))
        self._look_again()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Say once that a line is too long."""
        self.node.unreadable(UnreadableLine(f"line longer than {self.MAX_LENGTH} bytes"), self)

    def pauseProducing(self) -> None:
        """Stop reading, and serving what was read: the client does not read its answers."""
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        self._serve()
        if not self._paused and not self._input_ended:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: the transport says this when it is lost, and ``connectionLost`` follows."""

    def timeoutConnection(self) -> None:
        """Close an idle connection gracefully; one that waits for an answer, or is not read from, is not idle."""
        # Timers come before reads: a line may have arrived in time.
        self._heard = False
        self.read_waiting()
        if self._heard or self._paused or self.is_owed():
            self.setTimeout(self.idle_timeout)
        else:
            self.connections.finish_one(self)

    def readConnectionLost(self) -> None:
        """Learn that the client has sent everything; it still gets its answers."""
        self._input_ended = True
        if self._framing.has_half_line:
            self.dataReceived(b"\n")
        if self._finishing:
            self._close.client_closed()
        else:
            self._look_again()

    def writeConnectionLost(self) -> None:
        """Learn that our half is closed, as we asked."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave; what is still in flight runs on, for nobody."""
        self.gone = True
        self.setTimeout(None)
        self._close.closed()
        self.connections.closed(self)
        if self.on_lost is not None:
            self.on_lost()

    # What the node calls.

    def send(self, line: bytes) -> None:
        """Write one whole line."""
        if self._answers is not None:
            self._answers.append(line)
        else:
            self.resetTimeout()
            self.transport.write(line)
            self._look_again()

    # What the connections ask.

    def begin_drain(self) -> None:
        """Do nothing: the node refuses by itself."""

    def is_owed(self) -> bool:
        """Say whether the client waits for an answer, or for lines to be looked at."""
        return self.in_flight > 0 or self._answers is not None or self._framing.has_lines

    def is_asking(self) -> bool:
        """Say whether the client is in the middle of a line, about to begin its first, or not read from for now."""
        if self._paused and not self._input_ended:
            return True
        return self._framing.has_half_line or (self._silent and self.connections.is_new(self))

    def is_lively(self) -> bool:
        """Say whether the client is about to ask again."""
        return self.connections.asked_lately(self._asked_at)

    def read_waiting(self) -> None:
        """Read what the client has sent already, unless it does not read its answers."""
        read_waiting(self.transport)

    def has_unsent(self) -> bool:
        """Say whether bytes are still in this process that the client has not taken."""
        return self._close.has_unsent()

    def finish(self) -> None:
        """Close without losing what was written."""
        self._finishing = True
        self.setTimeout(None)
        self._close.begin(client_has_closed=self._input_ended)

    def end(self) -> bool:
        """Close now; return whether unsent bytes are lost by it."""
        return self._close.end()

    def _look_again(self) -> None:
        if self._input_ended and not self.is_owed():
            self.connections.finish_one(self)
        elif self.connections.draining:
            self.connections.changed(self)


class _RefusedProtocol(NodeProtocol):
    """A connection beyond the limit: one error line, and a clean close."""

    def connectionMade(self) -> None:
        """Say it and close."""
        super().connectionMade()
        self.node.reject(self, RequestError(ErrorCode.TEMPORARILY_UNAVAILABLE, "too many connections"))
        self.connections.finish_one(self)


@implementer(IDrainingFactory)
class NodeFactory(ServerFactory):
    """Makes the connections of a node.

    Args:
        node: takes the lines.
        control: whether clients may call what needs control.
        max_connections: those beyond get one error line; None for no limit.
        max_line: as in :class:`NodeProtocol`, in bytes.
        idle_timeout: as in :class:`NodeProtocol`, in seconds.
    """

    noisy = False
    #: Set by the service that listens.
    connections: Connections

    def __init__(
        self,
        node: Node,
        *,
        control: bool = False,
        max_connections: int | None = None,
        max_line: int = DEFAULT_MAX_LINE,
        idle_timeout: float = 0,
    ) -> None:
        self.node = node
        self.control = control
        self.max_connections = max_connections
        self.max_line = max_line
        self.idle_timeout = idle_timeout
        self._open = 0

    def startFactory(self) -> None:
        """Begin the node's own work, if it has its name: it listens now."""
        self.node.start()

    def buildProtocol(self, addr: IAddress | None) -> NodeProtocol:
        """Make one connection."""
        full = self.max_connections is not None and self._open >= self.max_connections
        protocol = (_RefusedProtocol if full else NodeProtocol)(
            self.node,
            self.connections,
            control=self.control,
            max_line=self.max_line,
            idle_timeout=self.idle_timeout,
        )
        protocol.factory = self
        if not full:
            self._open += 1
            protocol.on_lost = self._lost
        return protocol

    def _lost(self) -> None:
        self._open -= 1
