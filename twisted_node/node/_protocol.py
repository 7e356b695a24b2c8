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

from twisted_node.drain import Drain
from twisted_node.errors import ErrorCode, MisuseError, RequestError
from twisted_node.node._framing import Framing
from twisted_node.node._node import Node
from twisted_node.node._wire import UnreadableLine
from twisted_node.server._closing import Close, GracefulClose
from twisted_node.server._connection import Connection
from twisted_node.server._connections import Connections, IDrainingFactory
from twisted_node.server._twisted import restore_half_close, write_now

__all__ = ["DEFAULT_MAX_LINE", "NodeFactory", "NodeProtocol"]

#: Seconds within which a client that asks all the time asks again.
_ASKS_AGAIN_WITHIN = 0.01

#: The longest line taken, in bytes without its newline.
DEFAULT_MAX_LINE = 1_048_576


def _do_nothing() -> None:
    """Do nothing."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class NodeProtocol(LineReceiver, TimeoutMixin):
    """One connection to a node.

    It never holds more input than ``max_line`` bytes and one read. It is its own transport's producer: while answers
    pile up because the client does not read them, nothing is read from the client.

    Args:
        node: takes the lines.
        connections: all connections of the server.
        control: whether the client may call what needs control.
        max_line: bytes; a longer line is skipped to its end.
        idle_timeout: seconds after which a connection with nothing in flight and no whole line is closed; 0 for never.
        on_lost: called when the connection is lost.
    """

    delimiter = b"\n"
    routes = False
    asks_again_within = _ASKS_AGAIN_WITHIN
    # Whatever the endpoint made: TCP, unix, TLS, a wrapper of these.
    transport: Any
    connection: Connection

    def __init__(
        self,
        node: Node,
        connections: Connections,
        *,
        control: bool = False,
        max_line: int = DEFAULT_MAX_LINE,
        idle_timeout: float = 0,
        on_lost: Callable[[], None] = _do_nothing,
    ) -> None:
        self.node = node
        self.connections = connections
        self.control = control
        self.MAX_LENGTH = max_line
        self.idle_timeout = idle_timeout
        self.in_flight = 0
        self.gone = False
        # While lines are worked on, their answers collect here; they leave in one write.
        self._answers: list[bytes] | None = None
        self._framing = Framing(max_line)
        # When the last whole line came, on the clock of the connections; known only if there is an idle timeout.
        self._last_line_at = 0.0
        self._on_lost = on_lost

    # What Twisted calls.

    def connectionMade(self) -> None:
        """Register, and speak only as fast as the client listens."""
        self.connection = Connection(
            self, self.connections, self.make_close(), asks_again_within=self.asks_again_within
        )
        restore_half_close(self.transport, self)
        self.transport.registerProducer(self, True)
        self.setTimeout(self.idle_timeout or None)
        self.connection.opened()

    def callLater(self, period: float, func: Callable[[], object]) -> IDelayedCall:
        """Set the idle timer, as ``TimeoutMixin`` asks."""
        return self.connections.clock.callLater(period, func)

    def make_close(self) -> Close:
        """Make what closes this connection's transport."""
        return GracefulClose(self.transport, self.connections.clock, self.connections.linger)

    def dataReceived(self, data: bytes) -> None:
        """Take one chunk: hand over its whole lines, keep the rest."""
        if self.connection.heard():
            self._framing.add(data)
            self._serve()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Say once that a line is too long."""
        self.node.unreadable(UnreadableLine(f"line longer than {self.MAX_LENGTH} bytes"), self)

    def pauseProducing(self) -> None:
        """Stop reading, and serving what was read: the client does not read its answers."""
        self.connection.paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self.connection.paused = False
        self._serve()
        if not (self.connection.paused or self.connection.input_ended):
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: the transport says this when it is lost, and ``connectionLost`` follows."""

    def timeoutConnection(self) -> None:
        """Close an idle connection gracefully; one that waits for an answer, or is not read from, is not idle."""
        now = self.connections.clock.seconds()
        # Twisted calls timers before it reads: a line may have arrived in time.
        self.connection.read_waiting()
        if self._last_line_at >= now or self.connection.paused or self.is_owed():
            self.setTimeout(self.idle_timeout)
        else:
            self.connection.finish()

    def readConnectionLost(self) -> None:
        """Learn that the client has sent everything; it still gets its answers."""
        self.connection.client_closed()
        if self._framing.has_half_line:
            self.dataReceived(b"\n")
        self._look_again()

    def writeConnectionLost(self) -> None:
        """Learn that our half is closed, as we asked."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave; what is still in flight runs on, for nobody."""
        self.gone = True
        self.setTimeout(None)
        self.connection.lost()
        self._on_lost()

    # What the node calls.

    def send(self, line: bytes) -> None:
        """Write one whole line."""
        if self._answers is not None:
            self._answers.append(line)
        else:
            self.resetTimeout()
            self.transport.write(line)
            self.connection.answered()
            self._look_again()

    def keep_open(self) -> None:
        """Stay open beyond the drain, so that the client sees how it ends."""
        self.connection.keep_open()

    # What the connection asks.

    def begin_drain(self) -> None:
        """Do nothing: the node refuses by itself."""

    def is_owed(self) -> bool:
        """Return whether the client waits for an answer, or for lines to be looked at."""
        return self.in_flight > 0 or self._answers is not None or self._framing.has_lines

    def is_asking(self) -> bool:
        """Return whether the client is in the middle of a line."""
        return self._framing.has_half_line

    def last_words(self) -> None:
        """Say nothing: every line has its answer."""
        self.setTimeout(None)

    def _serve(self) -> None:
        """Hand over whole lines, as long as the client reads the answers."""
        while not self.connection.paused and (lines := self._framing.next_lines()) is not None:
            if self.idle_timeout:
                self._last_line_at = self.connections.clock.seconds()
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

    def _look_again(self) -> None:
        if self.connection.input_ended and not self.is_owed():
            self.connection.finish()
        else:
            self.connection.look_again()


class _RefusedProtocol(NodeProtocol):
    """A connection beyond the limit: one error line, and a clean close."""

    def connectionMade(self) -> None:
        """Say it and close."""
        super().connectionMade()
        self.node.reject(self, RequestError(ErrorCode.TEMPORARILY_UNAVAILABLE, "too many connections"))
        self.connection.finish()


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
        #: Set by the service that listens.
        self.connections: Connections | None = None
        self._open = 0

    @property
    def drain(self) -> Drain:
        """The drain of the node."""
        return self.node.drain

    def startFactory(self) -> None:
        """Begin the node's own work, if it has its name: it listens now; raises what served_connections does."""
        self.served_connections()
        self.node.start()

    def served_connections(self) -> Connections:
        """Find the connections of the server that listens.

        Raises:
            MisuseError: no server does: the factory was not given to ``DrainingService.listen``.
        """
        if self.connections is None:
            raise MisuseError("factory: expected one that DrainingService.listen was given")
        return self.connections

    def buildProtocol(self, addr: IAddress | None) -> NodeProtocol:
        """Make one connection; raises what :meth:`served_connections` does."""
        connections = self.served_connections()
        full = self.max_connections is not None and self._open >= self.max_connections
        protocol = (_RefusedProtocol if full else NodeProtocol)(
            self.node,
            connections,
            control=self.control,
            max_line=self.max_line,
            idle_timeout=self.idle_timeout,
            # Those beyond the limit do not count.
            on_lost=_do_nothing if full else self._lost,
        )
        protocol.factory = self
        if not full:
            self._open += 1
        return protocol

    def _lost(self) -> None:
        self._open -= 1
