"""How one socket connection ends without losing its last answer.

A connection that has nothing more to say is flushed, half-closed, and read until its client closes too: closing at once
while the client's bytes are unread makes the kernel send a reset, which destroys answers that are still on their way.
The same happens if the client sends something after we have closed. So a connection stays open until the client's
kernel has acknowledged every byte of our answers.
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

#: The shortest time, in seconds, before we ask again what a client has not acknowledged, however short the linger is.
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

    def close_now(self) -> None:
        """Close now; unsent bytes are lost."""

    def closed(self) -> None:
        """Learn that the connection is lost."""


@implementer(IPullProducer)
class GracefulClose:
    """The end of one socket connection: flush, half-close, read until the client closes or its linger is over.

    If the client's kernel has not acknowledged everything when the linger is over, the linger begins again. TLS has no
    half-close, so there we send close_notify, linger, and close. The caller of :meth:`begin` has two duties: to discard
    what is read from then on, and to call :meth:`closed` when the connection is lost.

    Args:
        transport: the connection, perhaps wrapped in TLS or ``haproxy:``.
        clock: for the linger.
        linger: seconds from the last byte out of this process.
        will_be_ended: returns whether a deadline is set at which :meth:`close_now` will be called. Without one, we
            close as soon as a client has acknowledged nothing for a whole linger. Otherwise it could keep the
            connection open for ever.
    """

    def __init__(
        self, transport: Any, clock: IReactorTime, linger: float, *, will_be_ended: Callable[[], bool] = lambda: True
    ) -> None:
        self._transport = transport
        self._raw = raw_transport(transport)
        self._clock = clock
        self._linger = linger
        self._will_be_ended = will_be_ended
        #: How many bytes the client's kernel had not acknowledged when we last asked, after all had been written.
        self._untaken: int | None = None
        #: Runs once all has been written.
        self._timer: IDelayedCall | None = None

    def begin(self, *, client_has_closed: bool = False) -> None:
        """Begin to close.

        Args:
            client_has_closed: its end of input was read, so there is nothing to linger for.
        """
        if getattr(self._transport, "disconnecting", False):
            # The protocol has called loseConnection() itself, which would close as soon as all is written, whether or
            # not the client has read it. We cancel that close and make a graceful one of it.
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
            # A pull producer is called each time the transport's buffer is empty. Twisted has no other way to tell us
            # that everything has been sent.
            self._raw.registerProducer(self, False)
        else:
            self._flushed()

    def read_waiting(self) -> None:
        """Read what the client has sent already, unless it does not read its answers."""
        read_waiting(self._transport)

    def has_unsent(self) -> bool:
        """Return whether something was written that the client's kernel has not taken."""
        if self._untaken == 0:
            # All is written and was acknowledged, so this cannot become true again. The kernel need not be asked: with
            # 10,000 connections that saves a tenth of a second.
            return False
        if unsent_bytes(self._transport) or untaken_bytes(self._raw):
            return True
        if self._timer is not None:
            self._untaken = 0
        return False

    def close_now(self) -> None:
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
        if not self._will_be_ended():
            # Only then is it compared with at the end of the linger. Most clients have closed by then, and to ask for
            # 10,000 connections takes a tenth of a second.
            self._untaken = untaken_bytes(self._raw)

    def _linger_is_over(self) -> None:
        self._timer = None
        before = self._untaken
        if before != 0:
            # Once it is 0 it stays so, as in has_unsent.
            self._untaken = untaken_bytes(self._raw)
        if self._untaken and (self._will_be_ended() or self._untaken < (before or 0)):
            self._timer = self._clock.callLater(max(self._linger, _SHORTEST_WAIT), self._linger_is_over)
        else:
            close_raw(self._raw)
