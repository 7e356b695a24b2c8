"""What an HTTP connection may become: a websocket of twisted.web, or of a program that puts its own protocol there."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper

from twisted_node.drain import Drain
from twisted_node.drain._waiters import Waiters
from twisted_node.server._tracking import TrackedConnection
from twisted_node.web._exchange import Exchange

__all__ = ["Farewell", "put_back", "say_going_away"]

#: RFC 6455: the server is going away.
_GOING_AWAY = 1001
_REASON = "the server is shutting down"

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

    def when_due(self) -> Deferred[None]:
        """Wait for the end of the program's work; fires at once if none is in flight. For use once a drain has begun.

        What is in flight is looked at only when the first websocket asks: with thousands of websockets that matters.
        """
        if self._over is None:
            self._over = self._drain.when_over(_is_tracked_by_program)
            self._over.addCallback(self._waiting.fire)
        return succeed(None) if self._over.called and not self._over.paused else self._waiting.add()


def _is_tracked_by_program(name: object) -> bool:
    return not isinstance(name, (Exchange, TrackedConnection))


class _KeptOpen:
    """A websocket's transport that passes on what is written, and stays open."""

    def __init__(self, transport: Any) -> None:
        self.write = transport.write

    def loseConnection(self) -> None:
        """Do nothing: closing at once could make the kernel reset the connection and drop the close code."""


def put_back(transport: Any, connection: Any) -> Any:
    """Put a connection back between its transport and a protocol that has taken its place.

    autobahn's ``WebSocketResource`` replaces the transport's protocol. Without this the connection would not learn
    that it is lost.

    Returns:
        The protocol that had taken the place; None if none had.
    """
    attribute = "wrappedProtocol" if isinstance(transport, ProtocolWrapper) else "protocol"
    protocol = getattr(transport, attribute)
    if protocol is None or protocol is connection:
        return None
    setattr(transport, attribute, connection)
    return protocol


def say_going_away(websocket: Any) -> bool:
    """Send close code 1001, unless a close was sent before.

    Args:
        websocket: a protocol of twisted.web, of autobahn, or any other.

    Returns:
        Whether this is known to be a websocket, which may be closed now.
    """
    if hasattr(websocket, "sendCloseFrame"):
        # autobahn's sendClose accepts only the codes for applications. It raises if the handshake is not over.
        with _log.failuresHandled("while closing {websocket}", websocket=websocket):
            websocket.sendCloseFrame(code=_GOING_AWAY, reasonUtf8=_REASON.encode())
        return True
    if not hasattr(websocket, "sendTextMessage"):
        return False
    from wsproto.utilities import LocalProtocolError

    transport = websocket.transport
    websocket.transport = _KeptOpen(transport)
    try:
        websocket.loseConnection(_GOING_AWAY, _REASON)
    except LocalProtocolError:
        # A close was sent before.
        return True
    finally:
        websocket.transport = transport
    # The program does not know of the close yet. What it sends now would raise, as nothing may follow a close.
    websocket.sendTextMessage = websocket.sendBytesMessage = websocket.ping = lambda *_: None
    return True
