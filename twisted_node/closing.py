"""How one socket connection ends without losing its last answer.

A connection that has nothing more to say is flushed, half-closed, and read until its client closes too: closing at once
while the client's bytes are unread makes the kernel send a reset, which destroys answers on their way.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPullProducer,
    IReactorTime,
    ISSLTransport,
)
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import alsoProvides, implementer

__all__ = ["Close", "GracefulClose", "read_waiting", "restore_half_close", "unsent_bytes"]

#: How often a connection's unread bytes are read before it is closed: 64 KiB each, so a client that floods ends too.
_READS_BEFORE_CLOSE = 16


class Close(Protocol):
    """What ends a connection."""

    def begin(self, *, client_has_closed: bool = False) -> None:
        """Close without losing what was written."""

    def client_closed(self) -> None:
        """Learn that the client has closed too."""

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
        self._raw = _raw(transport)
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

    def end(self) -> bool:
        """Close now, without lingering.

        Returns:
            Whether bytes that were still in this process are lost by it.
        """
        lost = unsent_bytes(self._transport) > 0
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


def unsent_bytes(transport: Any) -> int:
    """Count the bytes written to a transport that are still in this process; 0 if it cannot be known."""
    raw = _raw(transport)
    if not isinstance(raw, FileDescriptor):
        return 0
    # Twisted has no public way to ask. TLS gathers small writes for a turn before it encrypts them.
    gathered = getattr(getattr(transport, "_aggregator", None), "_buffer", ())
    return len(raw.dataBuffer) - raw.offset + raw._tempDataLen + sum(len(data) for data in gathered)


def read_waiting(transport: Any) -> None:
    """Read what waits in the kernel for a connection, in this turn; its protocol gets it as always."""
    raw = _raw(transport)
    if not isinstance(raw, FileDescriptor):
        return
    for _ in range(_READS_BEFORE_CLOSE):
        if raw.disconnected or not _bytes_waiting(raw):
            return
        # The end of input, or an error, is left for the reactor to find again.
        raw.doRead()


def restore_half_close(transport: Any, protocol: Any) -> None:
    """Have a client's half-close reach the protocol through ``haproxy:`` too, whose wrapper hides it.

    Through TLS it cannot: there a client that closes its half ends the connection.
    """
    if isinstance(transport, ProtocolWrapper) and not ISSLTransport.providedBy(transport):
        wrapper: Any = transport
        alsoProvides(wrapper, IHalfCloseableProtocol)
        wrapper.readConnectionLost = protocol.readConnectionLost
        wrapper.writeConnectionLost = protocol.writeConnectionLost


def _bytes_waiting(raw: FileDescriptor) -> int:
    try:
        answer = fcntl.ioctl(raw.fileno(), termios.FIONREAD, bytes(4))
    except (OSError, ValueError):
        return 0
    count: int = struct.unpack("i", answer)[0]
    return count


def _raw(transport: Any) -> Any:
    """Find the transport under all its wrappers."""
    while (inner := getattr(transport, "transport", None)) is not None:
        transport = inner
    return transport
