"""What an HTTP connection may become: a websocket of twisted.web, or of a program that puts its own protocol there."""

from __future__ import annotations

import math
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_node.drain import Drain
from twisted_node.drain._waiters import Waiters
from twisted_node.server._tracking import TrackedConnection
from twisted_node.web._exchange import Exchange
from twisted_node.web._twisted import close_websocket

__all__ = ["Farewell", "WebSocket"]

#: RFC 6455: the server is going away.
_GOING_AWAY = 1001
_REASON = "the server is shutting down"

#: Websockets whose moments to leave are less than so many seconds apart leave together: what is in flight is looked at
#: once for all of them.
_TOGETHER = 0.05

_log = Logger()


class Farewell:
    """Tells the websockets of a site when to leave: when no work is in flight that the program itself has tracked.

    Which websocket gets the answer of such work, if any does, only the program knows; so all of them wait for it.
    Requests over HTTP and other connections are not waited for: their answers go elsewhere.

    Args:
        drain: the work in flight.
    """

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._over: Deferred[None] | None = None
        self._waiting: Waiters[None] = Waiters()
        # In a lame duck: those who leave at a moment, by its number, and the timer of that.
        self._moments: dict[int, tuple[Waiters[None], IDelayedCall]] = {}

    def when_due(self) -> Deferred[None]:
        """Wait for the end of the program's work; fires at once if none is in flight. For use once a drain has begun.

        What is in flight is looked at only when the first websocket asks: with thousands of websockets that matters.
        """
        if self._over is None:
            self._over = self._drain.when_over(_is_tracked_by_program)
            self._over.addCallback(self._waiting.fire)
        return succeed(None) if self._over.called and not self._over.paused else self._waiting.add()

    def when_due_after(self, delay: float) -> Deferred[None]:
        """Wait for some seconds, and then for the end of the program's work. It never fires once the drain has begun.

        Args:
            delay: in seconds.
        """
        now = self._drain.timers.seconds()
        moment = math.ceil((now + delay) / _TOGETHER)
        if moment not in self._moments:
            if not self._moments:
                self._drain.when_draining().addCallback(self._forget_moments)
            seconds = max(delay, moment * _TOGETHER - now)
            timer = self._drain.timers.callLater(seconds, self._moment_has_come, moment)
            self._moments[moment] = Waiters(), timer
        return self._moments[moment][0].add()

    def _moment_has_come(self, moment: int) -> None:
        waiters, _ = self._moments.pop(moment)
        self._drain.when_over(_is_tracked_by_program).addCallback(waiters.fire)

    def _forget_moments(self, _: None) -> None:
        while self._moments:
            self._moments.popitem()[1][1].cancel()


def _is_tracked_by_program(name: object) -> bool:
    return not isinstance(name, (Exchange, TrackedConnection))


class WebSocket:
    """What an HTTP connection has become, and how it is told to go.

    Args:
        protocol: of twisted.web, of autobahn, or any other.
        farewell: tells when to leave.
    """

    def __init__(self, protocol: Any, farewell: Farewell) -> None:
        self.protocol = protocol
        #: Whether it was told that the server goes away.
        self.told = False
        self._farewell = farewell
        self._leaving = False

    def when_to_leave(self) -> Deferred[None] | None:
        """Wait until no work of the program is in flight: its answer may go to this client. None if asked before."""
        if self._leaving:
            return None
        self._leaving = True
        return self._farewell.when_due()

    def say_going_away(self) -> bool:
        """Send close code 1001, unless a close was sent before.

        Returns:
            Whether this is known to be a websocket, which may be closed now.
        """
        if hasattr(self.protocol, "sendCloseFrame"):
            if not self.told:
                self.told = True
                # autobahn's sendClose accepts only the codes for applications. It raises if the handshake is not over.
                with _log.failuresHandled("while closing {websocket}", websocket=self.protocol):
                    self.protocol.sendCloseFrame(code=_GOING_AWAY, reasonUtf8=_REASON.encode())
            return True
        if not hasattr(self.protocol, "sendTextMessage"):
            return False
        self.told = self.told or close_websocket(self.protocol, _GOING_AWAY, _REASON)
        return True
