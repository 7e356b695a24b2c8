"""What an HTTP connection measures and waits for: the site's idle timer, a stalled request, a client's pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_node.drain import Drain
from twisted_node.server._connection import Connection
from twisted_node.server._twisted import unsent_bytes, untaken_bytes
from twisted_node.web._twisted import ask_before_timeout

__all__ = ["IdleTimer", "Pauses", "Stall"]

#: A client that has paused for so long between two requests may pause this many times as long before the next.
_LONGER_PAUSE = 2.0


class _Owner(Protocol):
    """The connection whose idle timer it is."""

    transport: Any
    connection: Connection
    drain: Drain

    def is_serving(self) -> bool:
        """Return whether a request is being served."""


class IdleTimer:
    """The site's own timer for idle connections, which asks here before it closes one.

    Args:
        owner: the connection.
    """

    def __init__(self, owner: _Owner) -> None:
        self._owner = owner
        # Bytes that the client's kernel had not taken when the timer fired last.
        self._unsent = -1
        # The channel whose timers ask.
        self._channel: Any = None

    def watch(self, channel: Any) -> None:
        """Have the timers of the channel that is in use ask."""
        if channel is not self._channel:
            self._channel = channel
            ask_before_timeout(channel, self._may_time_out, self._give_up)

    def _may_time_out(self) -> bool:
        """Return whether an idle timer may close the connection.

        It may not while a request is being served, nor while the client goes on reading its answers, nor in a drain,
        which decides itself when to close.
        """
        owner = self._owner
        if owner.drain.refusing or owner.is_serving():
            return False
        before, self._unsent = self._unsent, unsent_bytes(owner.transport) + untaken_bytes(owner.transport)
        return self._unsent in (0, before)

    def _give_up(self) -> None:
        """Close a connection that an idle timer has tried to close, and that is still open."""
        owner = self._owner
        unsent = unsent_bytes(owner.transport) > 0
        if unsent and owner.drain.refusing:
            # The deadline cuts it, and counts it.
            return
        if not unsent and owner.connection.is_closing:
            # All is on its way, so it is closed when its client has taken that, and its linger is over.
            return
        if unsent:
            owner.drain.count_undelivered()
        owner.connection.close_now()


class Pauses:
    """How long a client pauses between two requests, to know when to expect the next.

    A connection that is closed in such a pause may meet its next request on the way. It is closed with the answer to
    that request if the client asks again in time.

    Args:
        clock: tells the time.
        longest: seconds; a client that pauses for longer is not waited for.
    """

    def __init__(self, clock: IReactorTime, longest: float) -> None:
        self._clock = clock
        self._longest = longest
        # When the last request was answered that left no other on the connection, in seconds on the clock.
        self._since: float | None = None

    def begin(self) -> None:
        """Learn that the last request in flight was answered."""
        self._since = self._clock.seconds()

    def end(self) -> float:
        """Learn that a request begins.

        Returns:
            Within how many seconds the client may ask again, as this pause lets expect; 0 if it says nothing.
        """
        if self._since is None:
            return 0.0
        pause, self._since = self._clock.seconds() - self._since, None
        return min(_LONGER_PAUSE * pause, self._longest) if pause <= self._longest else 0.0


class Stall:
    """Watches, in a drain, whether a request that is being received goes on.

    Args:
        clock: for the timer.
        seconds: between two pieces, at most.
        stalled: called when nothing has come for so long.
    """

    def __init__(self, clock: IReactorTime, seconds: float, stalled: Callable[[], object]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._stalled = stalled
        self._timer: IDelayedCall | None = None

    def watch(self) -> None:
        """Begin; once in a drain."""
        self._timer = self._clock.callLater(self._seconds, self._is_over)

    def heard(self) -> None:
        """Learn that something has come in."""
        if self._timer is not None:
            self._timer.reset(self._seconds)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_over(self) -> None:
        self._timer = None
        self._stalled()
