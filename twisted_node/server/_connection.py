"""One connection of a server, from its opening to its loss.

A protocol holds a :class:`Connection` and tells it what its transport says. The connection knows where it is in its
life, and closes without losing an answer. The protocol is its :class:`Speaker`: it knows what its client waits for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from twisted_node.server._closing import Close
from twisted_node.server._states import CONNECTION, ConnectionEvent, ConnectionState

__all__ = ["AllConnections", "Connection", "Speaker"]

#: The usual state has a name of its own: to look a member up in its Enum takes longer than all else in ``heard``.
_TALKING = ConnectionState.TALKING

#: What comes in is served; the usual state comes first, since members of an Enum are slow to compare.
_SERVED = (ConnectionState.TALKING, ConnectionState.NEW)


class Speaker(Protocol):
    """What a connection asks of the protocol that holds it."""

    def begin_lame_duck(self) -> None:
        """Learn that a lame duck has begun. Told once."""

    def begin_drain(self) -> None:
        """Learn that the drain has begun. Told once."""

    def is_owed(self) -> bool:
        """Return whether the client waits for an answer."""

    def is_asking(self) -> bool:
        """Return whether a part of a request has arrived, and the rest is still to come."""

    def last_words(self) -> None:
        """Write what is still to be said: the connection is finished now. Told once."""


class AllConnections(Protocol):
    """What a connection tells the connections of its server; they decide together when one may be finished."""

    #: Tells the time.
    clock: IReactorTime

    def opened(self, connection: Connection) -> None:
        """Take in a connection."""

    def closed(self, connection: Connection) -> None:
        """Learn that a connection is gone."""

    def look_at(self, connection: Connection) -> None:
        """Finish a connection if it may be."""

    def keep_open(self, connection: Connection) -> None:
        """Have a connection stay open beyond the drain."""


class Connection:
    """One connection: its state, what is known of its client, and its close.

    Args:
        speaker: the protocol that holds it.
        connections: all connections of the server.
        close: how its transport closes.
        asks_again_within: the usual pause, in seconds, between an answer and the next request of a busy client. A
            client that was active this shortly before the connections are finished gets this long to ask again.
            Otherwise its next request and our close could cross on the way, and the request would be lost.
        peer: returns who the client is, the same for all connections of one client; None if each is one of its own.
    """

    def __init__(
        self,
        speaker: Speaker,
        connections: AllConnections,
        close: Close,
        *,
        asks_again_within: float = 0.0,
        peer: Callable[[], object] | None = None,
    ) -> None:
        self.speaker = speaker
        self.asks_again_within = asks_again_within
        self.state = ConnectionState.NEW
        #: Whether the client has sent all it will send.
        self.input_ended = False
        #: Whether we do not read from the client for now, since it does not read its answers.
        self.paused = False
        #: Whether it has asked to stay open: then no lame duck sends its client away.
        self.asked_to_stay = False
        #: Whether its TLS handshake is under way.
        self.in_handshake = False
        #: When it was opened or, with TLS, when its client's first words may be here at the earliest; and when
        #: something was last heard or answered. On the clock of the connections.
        self.opened_at = self.active_at = connections.clock.seconds()
        self._connections = connections
        self._close = close
        self._peer = peer

    def __str__(self) -> str:
        return str(self.speaker)

    @property
    def is_closing(self) -> bool:
        """Whether nothing that comes in is served any more."""
        return self.state not in _SERVED

    # What the protocol tells.

    def opened(self) -> None:
        """Register, now that the protocol is connected."""
        self._connections.opened(self)

    def heard(self) -> bool:
        """Learn that bytes have come in.

        Returns:
            Whether they are to be served.
        """
        self.active_at = self._connections.clock.seconds()
        if self.state is not _TALKING:
            self.state = CONNECTION[self.state][ConnectionEvent.HEARD]
        return self.state is _TALKING

    def was_active(self) -> None:
        """Learn that something came in or went out."""
        self.active_at = self._connections.clock.seconds()

    def handshake_completed(self) -> None:
        """Learn that the TLS handshake is over: only now can the client say its first words.

        They may still need a round trip: with TLS 1.2 the client learns only now that the handshake is over, and with
        TLS 1.3 its kernel may hold them back until we have acknowledged the end of it. The handshake took one too.
        """
        self.in_handshake = False
        now = self._connections.clock.seconds()
        self.opened_at = now + (now - self.opened_at)

    def look_again(self) -> None:
        """Check whether the connection can be finished now, because something on it has changed."""
        self._connections.look_at(self)

    def client_closed(self) -> None:
        """Learn that the client has sent all it will send."""
        self.input_ended = True
        if self.is_closing:
            self._close.client_closed()

    def lost(self) -> None:
        """Learn that the transport has lost the connection; leave."""
        self.state = CONNECTION[self.state][ConnectionEvent.LOST]
        self._close.closed()
        self._connections.closed(self)

    def keep_open(self) -> None:
        """Stay open for a while after the drain, so that the client sees how it ends.

        If the service itself is told to end, by a signal for example, the connection is closed with the others.
        """
        self.asked_to_stay = True
        self._connections.keep_open(self)

    # What is asked of it.

    def peer(self) -> object:
        """Return who the client is."""
        return self if self._peer is None else self._peer()

    def is_receiving(self) -> bool:
        """Return whether more of a request may be on its way: half of one is here, or we do not read for now.

        In a TLS handshake too: the client's first request may come with the handshake's last message.
        """
        return self.in_handshake or (self.paused and not self.input_ended) or self.speaker.is_asking()

    def read_waiting(self) -> bool:
        """Read what the client has sent already, unless it does not read its answers; return whether some is left."""
        return not self.input_ended and self._close.read_waiting()

    def has_unsent(self) -> bool:
        """Return whether something was written that the client's kernel has not taken."""
        return self._close.has_unsent()

    def finish(self) -> None:
        """Begin to close, without losing what was written. Further calls do nothing."""
        if self.is_closing:
            return
        self.state = CONNECTION[self.state][ConnectionEvent.FINISH]
        self.speaker.last_words()
        self._close.begin(client_has_closed=self.input_ended)

    def close_now(self) -> None:
        """Close now; bytes that the client has not taken are lost."""
        self._close.close_now()
