"""How one socket connection ends without losing its last answer.

A connection that has nothing more to say is flushed, half-closed, and read until its client closes too: closing at once
while the client's bytes are unread makes the kernel send a reset, which destroys answers on their way. So does a client
that sends something after the close. So a connection stays open while its client's kernel has not taken all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import (
    IDelayedCall,
    IPullProducer,
    IReactorTime,
    ISSLTransport,
)
from zope.interface import implementer

from twisted_node.server._twisted import (
    close_raw,
    half_close_now,
    raw_transport,
    read_waiting,
    take_back_close,
    unsent_bytes,
    untaken_bytes,
)

__all__ = ["Close", "GracefulClose"]

#: Seconds between two looks at what a client has not taken, if the linger is shorter.
_SHORTEST_WAIT = 0.1


class Close(Protocol):
    """What ends a connection."""

    def begin(self, *, client_has_closed: bool = False) -> None:
        """Close without losing what was written."""

    def client_closed(self) -> None:
        """Learn that the client has closed too."""

    def read_waiting(self) -> None:
        """Read what the client has sent already, unless it does not read its answers."""

    def has_unsent(self) -> bool:
        """Return whether something was written that the client's kernel has not taken."""

    def end(self) -> None:
        """Close now; unsent bytes are lost."""

    def closed(self) -> None:
        """Learn that the connection is lost."""


@implementer(IPullProducer)
class GracefulClose:
    """The end of one socket connection: flush, half-close, read until the client closes or its linger is over.

    When the linger is over and the client's kernel has not taken everything, the linger begins again. TLS knows no
    half-close: there it is close_notify, linger, close. Whoever begins it discards what is read from then on, and
    passes on the loss of the connection.

    Args:
        transport: the connection, perhaps wrapped in TLS or ``haproxy:``.
        clock: for the linger.
        linger: seconds from the last byte out of this process.
        will_be_ended: tells whether :meth:`end` will be called at a deadline. If it will not, a client that has taken
            nothing for a whole linger is waited for no longer.
    """

    def __init__(
        self, transport: Any, clock: IReactorTime, linger: float, *, will_be_ended: Callable[[], bool] = lambda: True
    ) -> None:
        self._transport = transport
        self._raw = raw_transport(transport)
        self._clock = clock
        self._linger = linger
        self._will_be_ended = will_be_ended
        #: The bytes that the client's kernel had not taken when that was last looked at; None until all is written.
        self._untaken: int | None = None
        self._timer: IDelayedCall | None = None

    def begin(self, *, client_has_closed: bool = False) -> None:
        """Begin to close.

        Args:
            client_has_closed: its end of input was read, so there is nothing to linger for.
        """
        if getattr(self._transport, "disconnecting", False):
            # The protocol closes by itself, at once and whatever its client has taken: that becomes a graceful close.
            if client_has_closed or not take_back_close(self._raw):
                return
        else:
            # A paused producer would keep the connection open for ever.
            self._transport.unregisterProducer()
            if client_has_closed:
                self._transport.loseConnection()
                return
            self._transport.resumeProducing()
            if ISSLTransport.providedBy(self._transport):
                self._transport.loseConnection()
        if isinstance(self._raw, FileDescriptor):
            # It is asked for more whenever all has been sent: the one way to learn of that.
            self._raw.registerProducer(self, False)
        else:
            self._flushed()

    def read_waiting(self) -> None:
        """Read what the client has sent already, unless it does not read its answers."""
        read_waiting(self._transport)

    def has_unsent(self) -> bool:
        """Return whether something was written that the client's kernel has not taken."""
        if self._untaken == 0:
            # For good. With 10,000 connections, not to ask again saves a tenth of a second.
            return False
        if unsent_bytes(self._transport) or untaken_bytes(self._raw):
            return True
        if self._untaken is not None:
            self._untaken = 0
        return False

    def end(self) -> None:
        """Close now, without waiting for the client; bytes that are still in this process are lost."""
        if unsent_bytes(self._transport):
            self._transport.abortConnection()
        else:
            # No abort here: the kernel goes on delivering what it has.
            close_raw(self._raw)

    def client_closed(self) -> None:
        """Learn that the client has closed too, so that there is nothing to wait for."""
        close_raw(self._raw)

    def closed(self) -> None:
        """Learn that the connection is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resumeProducing(self) -> None:
        """Learn that the transport may have sent everything."""
        if unsent_bytes(self._transport) == 0:
            self._raw.unregisterProducer()
            self._flushed()

    def stopProducing(self) -> None:
        """Learn that the transport takes no more; its protocol hears of it too."""

    def _flushed(self) -> None:
        """Close our half, now that all has left this process, and wait for the client to close its own."""
        if getattr(self._raw, "disconnecting", False):
            # The client has closed meanwhile: the transport closes now, by itself.
            return
        self._timer = self._clock.callLater(self._linger, self._linger_is_over)
        if not ISSLTransport.providedBy(self._transport):
            half_close_now(self._raw)
        self._untaken = untaken_bytes(self._raw)

    def _linger_is_over(self) -> None:
        self._timer = None
        before, self._untaken = self._untaken or 0, untaken_bytes(self._raw)
        if self._untaken and (self._untaken < before or self._will_be_ended()):
            self._timer = self._clock.callLater(max(self._linger, _SHORTEST_WAIT), self._linger_is_over)
        else:
            close_raw(self._raw)
