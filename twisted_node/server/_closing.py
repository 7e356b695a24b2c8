"""How one socket connection ends without losing its last answer.

A connection that has nothing more to say is flushed, half-closed, and read until its client closes too: closing at once
while the client's bytes are unread makes the kernel send a reset, which destroys answers that are still on their way.
The same happens if the client sends something after we have closed. So a connection stays open until the client's
kernel has acknowledged every byte of our answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    call_instead_of_close,
    close_raw,
    half_close_now,
    hold_back,
    is_half_closed,
    raw_transport,
    read_waiting,
    take_back_close,
    unsent_bytes,
    untaken_bytes,
)

__all__ = ["Close", "GracefulClose"]

#: The shortest time, in seconds, before we ask again what a client has not acknowledged, however short the linger is.
_SHORTEST_WAIT = 0.1

#: Where no deadline is to come: how many seconds a client may acknowledge nothing before it is taken for gone.
_PATIENCE = 60.0


class Close(Protocol):
    """What ends a connection."""

    def begin(self, *, client_has_closed: bool = False) -> None:
        """Close without losing what was written."""

    def client_closed(self) -> None:
        """Learn that the client has closed too."""

    def read_waiting(self) -> bool:
        """Read what the client has sent already, unless it does not read its answers; return whether some is left."""

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

    An answer that was broken off ends in a reset instead, as soon as the client's kernel has acknowledged what was
    written, and when the linger is over at the latest. (A unix socket knows no reset: there it is the end as always.)

    Args:
        transport: the connection, perhaps wrapped in TLS or ``haproxy:``.
        clock: for the linger.
        linger: seconds from the last byte out of this process.
        will_be_ended: returns whether a deadline is set at which :meth:`close_now` will be called. Without one, we
            close when a client has acknowledged nothing for a minute. Otherwise it could keep the connection open for
            ever.
        given_up: called if we close for that reason.
    """

    def __init__(
        self,
        transport: Any,
        clock: IReactorTime,
        linger: float,
        *,
        will_be_ended: Callable[[], bool] = lambda: True,
        given_up: Callable[[], object] = lambda: None,
    ) -> None:
        self._transport = transport
        # The transport's own way to close; a connection may put another before it.
        self._lose_connection = transport.loseConnection
        self._raw = raw_transport(transport)
        self._clock = clock
        self._linger = linger
        self._will_be_ended = will_be_ended
        self._given_up = given_up
        #: Whether an answer was broken off. Set before :meth:`begin`.
        self.broken_off = False
        #: How many bytes the client's kernel had not acknowledged when we last asked, after all had been written.
        self._untaken: int | None = None
        #: Runs once all has been written.
        self._timer: IDelayedCall | None = None
        # For how many seconds the client has acknowledged nothing.
        self._stalled_for = 0.0

    def begin(self, *, client_has_closed: bool = False) -> None:
        """Begin to close.

        Args:
            client_has_closed: its end of input was read, so there is nothing to linger for.
        """
        if getattr(self._transport, "disconnecting", False):
            # The protocol has called loseConnection() itself, which would close as soon as all is written, whether or
            # not the client has read it. We cancel that close and make a graceful one of it.
            if client_has_closed:
                self._instead_of_close(partial(close_raw, self._raw))
                return
            if not take_back_close(self._raw):
                # What its producer still has to send is sent first.
                self._instead_of_close(self.begin)
                return
        else:
            # A paused producer would keep the connection open for ever.
            self._transport.unregisterProducer()
            if client_has_closed and not self.broken_off:
                self._lose_connection()
                return
            self._transport.resumeProducing()
            if ISSLTransport.providedBy(self._transport):
                if not self.broken_off:
                    self._lose_connection()
            elif unsent_bytes(self._raw) and not self.broken_off:
                hold_back(self._raw)
        if isinstance(self._raw, FileDescriptor):
            # A pull producer is called each time the transport's buffer is empty. Twisted has no other way to tell us
            # that everything has been sent.
            self._raw.registerProducer(self, False)
        else:
            self._flushed()

    def lose_connection(self, begin: Callable[[], object]) -> None:
        """Send all as ``transport.loseConnection()`` does, but do not close then.

        Args:
            begin: called in the place of the close, at once if nothing can be left to send; it begins a graceful one.
                Not with TLS: there the transport closes only when its client has answered close_notify.
        """
        if is_half_closed(self._raw):
            begin()
            return
        self._instead_of_close(begin)
        self._lose_connection()

    def _instead_of_close(self, begin: Callable[[], object]) -> None:
        if not ISSLTransport.providedBy(self._transport):
            call_instead_of_close(self._raw, begin)

    def read_waiting(self) -> bool:
        """Read what the client has sent already, unless it does not read its answers; return whether some is left."""
        return not getattr(self._transport, "disconnecting", False) and read_waiting(self._transport)

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
            self._close()

    def client_closed(self) -> None:
        """Learn that the client has closed too, so that there is nothing to wait for."""
        if not self.broken_off:
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
        if self.broken_off and not untaken_bytes(self._raw):
            self._close()
            return
        self._timer = self._clock.callLater(self._linger, self._linger_is_over)
        if not (self.broken_off or ISSLTransport.providedBy(self._transport)):
            half_close_now(self._raw)
        if not self._will_be_ended():
            # Only then is it compared with at the end of the linger. Most clients have closed by then, and to ask for
            # 10,000 connections takes a tenth of a second.
            self._untaken = untaken_bytes(self._raw)

    def _linger_is_over(self) -> None:
        self._timer = None
        wait = max(self._linger, _SHORTEST_WAIT)
        before = self._untaken
        if before != 0:
            # Once it is 0 it stays so, as in has_unsent.
            self._untaken = untaken_bytes(self._raw)
        self._stalled_for = 0.0 if (self._untaken or 0) < (before or 0) else self._stalled_for + wait
        if self._untaken and not self.broken_off:
            if self._stalled_for < _PATIENCE or self._will_be_ended():
                self._timer = self._clock.callLater(wait, self._linger_is_over)
                return
            self._given_up()
        self._close()

    def _close(self) -> None:
        if self.broken_off:
            self._raw.abortConnection()
        else:
            # No abort here: the kernel goes on delivering what it has.
            close_raw(self._raw)
