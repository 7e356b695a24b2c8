"""What an HTTP connection may become: a websocket of twisted.web, or of a program that puts its own protocol there."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper

__all__ = ["put_back", "say_going_away"]

#: RFC 6455: the server is going away.
_GOING_AWAY = 1001
_REASON = "the server is shutting down"

_log = Logger()


def put_back(transport: Any, connection: Any) -> Any:
    """Put a connection back between its transport and the protocol that has taken its place.

    autobahn's ``WebSocketResource`` does that; otherwise nobody would learn when such a connection is lost.

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
        websocket: twisted.web's, or anything that has autobahn's ``sendCloseFrame``.

    Returns:
        Whether this is known to be a websocket, which may be closed now.
    """
    if hasattr(websocket, "sendCloseFrame"):
        # autobahn's sendClose takes the codes of applications only. Before its handshake is over there is no way.
        with _log.failuresHandled("while closing {websocket}", websocket=websocket):
            websocket.sendCloseFrame(code=_GOING_AWAY, reasonUtf8=_REASON.encode())
        return True
    if not hasattr(websocket, "_wsconn"):
        return False
    from wsproto.connection import ConnectionState
    from wsproto.events import CloseConnection

    if websocket._wsconn.state is ConnectionState.OPEN:
        # Its own way to say this closes the connection at once, and a reset may destroy it on its way.
        websocket.transport.write(websocket._wsconn.send(CloseConnection(_GOING_AWAY, _REASON)))
        # Nothing may follow it; the program has not heard of it yet.
        websocket.sendTextMessage = websocket.sendBytesMessage = websocket.ping = lambda *_: None
    return True
