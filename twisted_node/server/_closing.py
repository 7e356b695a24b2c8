"""How one socket connection ends without losing its last answer.

A connection that has nothing more to say is flushed, half-closed, and read until its client closes too: closing at once
while the client's bytes are unread makes the kernel send a reset, which destroys answers on their way.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import (
    IDelayedCall,
    IPullProducer,
    IReactorTime,
    ISSLTransport,
)
from zope.interface import implementer

from twisted_node.server._twisted import raw_transport, unsent_bytes

__all__ = ["Close", "GracefulClose"]


class Close(Protocol):
    """What ends a connection."""

    def begin(self, *, client_has_closed: bool = False) -> None:
        """Close without losing what was written."""

    def client_closed(self) -> None:
        """Learn that the client has closed too."""

    def has_unsent(self) -> bool:
        """Say whether bytes are still in this process that the client has not taken."""

    def end(self) -> bool:
        """Close now; return whether unsent bytes are lost by it."""

    def closed(self) -> None:
        """Learn that the connection is lost."""


@implementer(IPullProducer)
class GracefulClose:
    """The end of one socket connection: flush, half-close, read until the client closes or its linger is over.

    TLS knows no half-close: there it is close_notify, linger, close. Whoever begins it discards what is read from then
    on, and passes on the loss of the connection.

    Args:
        transport: the connection, perhaps wrapped in TLS or ``haproxy:``.
        clock: for the linger.
        linger: seconds from the last byte out of this process.
    """

    def __init__(self, transport: Any, clock: IReactorTime, linger: float) -> None:
        self._transport = transport
        self._raw = raw_transport(transport)
        self._clock = clock
        self._linger = linger
        self._timer: IDelayedCall | None = None

    def begin(self, *, client_has_closed: bool = False) -> None:
        """Begin to close.

        Args:
            client_has_closed: its end of input was read, so there is nothing to linger for.
        """
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

    def has_unsent(self) -> bool:
        """Say whether bytes are still in this process that the client has not taken."""
        return unsent_bytes(self._transport) > 0

    def end(self) -> bool:
        """Close now, without lingering.

        Returns:
            Whether bytes that were still in this process are lost by it.
        """
        lost = self.has_unsent()
        if lost:
            self._transport.abortConnection()
        else:
            # Never abort here: the kernel goes on delivering what it has.
            self._close_raw()
        return lost

    def client_closed(self) -> None:
        """Learn that the client has closed too, so that there is nothing to linger for."""
        self._close_raw()

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
        if getattr(self._raw, "disconnecting", False):
            # The client has closed meanwhile: the transport closes now, by itself.
            return
        self._timer = self._clock.callLater(self._linger, self._linger_is_over)
        if not ISSLTransport.providedBy(self._transport):
            self._raw.loseWriteConnection()
            if isinstance(self._raw, FileDescriptor):
                # In this turn, not the next: what a client sent in between would go unanswered.
                self._raw.doWrite()

    def _linger_is_over(self) -> None:
        self._timer = None
        self._close_raw()

    def _close_raw(self) -> None:
        if isinstance(self._raw, FileDescriptor):
            # Past what startTLS has put into the transport itself, which would wait for the client's good-bye.
            FileDescriptor.loseConnection(self._raw)
        else:
            self._raw.loseConnection()
