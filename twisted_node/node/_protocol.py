"""Lines from a transport to the node's requests, and answers back, with back-pressure.

``LineReceiver`` is the base; its loop is not used: it copies its buffer for every line, and cannot skip a long one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import interfaces
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_node.names import peer_name
from twisted_node.node._framing import DEFAULT_MAX_LINE, Framing, HalfLines
from twisted_node.node._requests import Requests
from twisted_node.node._wire import UnreadableLine
from twisted_node.server._closing import Close
from twisted_node.server._connection import Connection
from twisted_node.server._connections import Connections
from twisted_node.server._states import ConnectionState
from twisted_node.server._twisted import restore_half_close, write_now

__all__ = ["DEFAULT_MAX_LINE", "NodeProtocol"]

#: The usual pause, in seconds, between an answer and the next request of a busy client. See ``Connection``.
_ASKS_AGAIN_WITHIN = 0.01

#: It has a name of its own because to look a member up in its Enum takes longer.
_GONE = ConnectionState.GONE


def do_nothing() -> None:
    """Do nothing."""


@implementer(interfaces.IHalfCloseableProtocol, interfaces.IHandshakeListener, interfaces.IPushProducer)
class NodeProtocol(LineReceiver, TimeoutMixin):
    """One connection to a node.

    It never holds more input than ``max_line`` bytes and one read. It is its own transport's producer: while answers
    pile up because the client does not read them, nothing is read from the client.

    Args:
        requests: those of the node; takes the lines.
        connections: all connections of the server.
        control: whether the client may call what needs control.
        max_line: bytes; a longer line is skipped to its end.
        idle_timeout: seconds after which a connection with nothing in flight and no whole line is closed; 0 for never.
        half_lines: those of all connections, which share a limit.
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
        requests: Requests,
        connections: Connections,
        *,
        control: bool = False,
        max_line: int = DEFAULT_MAX_LINE,
        idle_timeout: float = 0,
        half_lines: HalfLines | None = None,
        on_lost: Callable[[], None] = do_nothing,
    ) -> None:
        self.requests = requests
        # Its connection has them too, but that exists only once there is a transport.
        self._connections = connections
        self.control = control
        self.MAX_LENGTH = max_line
        self.idle_timeout = idle_timeout
        self._in_flight = 0
        # While lines are worked on, their answers collect here; they leave in one write.
        self._answers: list[bytes] | None = None
        self._framing = Framing(max_line, half_lines, self._line_given_up)
        # When the last whole line came, on the clock of the connections; known only if there is an idle timeout.
        self._last_line_at = 0.0
        self._on_lost = on_lost

    def __str__(self) -> str:
        return f"connection from {peer_name(self.transport.getPeer())}"

    # What Twisted calls.

    def connectionMade(self) -> None:
        """Register, and speak only as fast as the client listens."""
        close, within = self.make_close(), self.asks_again_within
        self.connection = self._connections.make_connection(self, self.transport, close=close, asks_again_within=within)
        restore_half_close(self.transport, self)
        self.transport.registerProducer(self, True)
        self.setTimeout(self.idle_timeout or None)
        self.connection.opened()

    def handshakeCompleted(self) -> None:
        """Learn that the TLS handshake is over."""
        self.connection.handshake_completed()

    def callLater(self, period: float, func: Callable[[], object]) -> interfaces.IDelayedCall:
        """Set the idle timer, as ``TimeoutMixin`` asks."""
        return self._connections.clock.callLater(period, func)

    def make_close(self) -> Close | None:
        """Make what closes this connection's transport; None for the way of a socket."""
        return None

    def dataReceived(self, data: bytes) -> None:
        """Take one chunk: hand over its whole lines, keep the rest."""
        if self.connection.heard():
            self._framing.add(data)
            self._serve()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Say once that a line is too long."""
        self.requests.unreadable(UnreadableLine(f"line longer than {self.MAX_LENGTH} bytes"), self)

    def _line_given_up(self) -> None:
        self.requests.unreadable(UnreadableLine("line given up: too many clients have sent long half lines"), self)

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
        now = self._connections.clock.seconds()
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
        self._framing.close()
        self.setTimeout(None)
        self.connection.lost()
        self._on_lost()

    # What the node's requests ask and tell.

    @property
    def gone(self) -> bool:
        """Whether the connection was lost."""
        return self.connection.state is _GONE

    def request_began(self) -> None:
        """Learn that the client waits for one more answer."""
        self._in_flight += 1

    def request_ended(self) -> None:
        """Learn that the client waits for one answer less."""
        self._in_flight -= 1

    def send(self, line: bytes) -> None:
        """Write one whole line."""
        if self._answers is not None:
            self._answers.append(line)
        else:
            self.resetTimeout()
            self.transport.write(line)
            self.connection.was_active()
            if (shedding := self._connections.shedding) is not None:
                shedding.answered(self.connection)
            self._look_again()

    def keep_open(self) -> None:
        """Stay open beyond the drain, so that the client sees how it ends."""
        self.connection.keep_open()

    # What the connection asks.

    def begin_lame_duck(self) -> None:
        """Do nothing yet: at each answer it is drawn whether the client is sent away with it."""

    def begin_drain(self) -> None:
        """Do nothing: the node refuses by itself."""

    def is_owed(self) -> bool:
        """Return whether the client waits for an answer, or for lines to be looked at."""
        return self._in_flight > 0 or self._answers is not None or self._framing.has_lines

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
                self._last_line_at = self._connections.clock.seconds()
                self.resetTimeout()
            self._answers = []
            try:
                if lines:
                    self.requests.receive_lines(lines, self)
                else:
                    self.lineLengthExceeded(lines)
            finally:
                answers, self._answers = self._answers, None
                if self.connection.state is _GONE:
                    # A handler has had the connection closed.
                    self.requests.drain.count_undelivered(len(answers))
                elif answers:
                    shedding = self._connections.shedding
                    if shedding is None:
                        write_now(self.transport, b"".join(answers))
                    else:
                        # Not in this turn: if the client is sent away, the kernel can send our end in the same packet.
                        self.transport.write(b"".join(answers))
                        shedding.answered(self.connection)
        self._look_again()

    def _look_again(self) -> None:
        if self.connection.input_ended and not self.is_owed():
            self.connection.finish()
        else:
            self._connections.look_at(self.connection)
