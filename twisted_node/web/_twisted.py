"""What twisted.web keeps private and a drain needs: every use of it is here, with its reason, and has a test.

docs/upstream.md says what Twisted could offer instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http import NO_BODY_CODES, HTTPChannel, _GenericHTTPChannelProtocol

__all__ = [
    "UpgradableChannel",
    "ask_before_timeout",
    "channel_of",
    "close_websocket",
    "discard_input",
    "go_away",
    "going_away",
    "has_length",
    "has_lost_connection",
    "has_streams",
    "is_handling_request",
    "negotiated_protocol",
    "put_back",
    "request_line",
    "stop_encoding",
    "stream_sent",
    "take_waiting",
    "unparsed_input",
]

#: RFC 9113, 6.8: the highest number that a stream can have.
_HIGHEST_STREAM = 2**31 - 1


def negotiated_protocol(channel: HTTPChannel) -> Any:
    """Make the protocol that turns to HTTP/2 if TLS negotiates that; until then it speaks through a channel of ours.

    ``Site`` takes no argument for its channel.
    """
    return _GenericHTTPChannelProtocol(channel)


def channel_of(protocol: Any) -> Any:
    """Return the channel in use: the one that was given, or an ``H2Connection`` since HTTP/2 was negotiated.

    Twisted makes the ``H2Connection`` itself, and tells nobody.
    """
    return protocol._channel


class UpgradableChannel(HTTPChannel):
    """An HTTP/1 channel that says when it becomes a websocket; from then on Twisted bypasses its methods."""

    def upgraded(self, websocket: Any) -> None:
        """Learn that all further input goes to this protocol; for subclasses."""

    def _protocolUpgradeForWebsockets(self, protocol: IProtocol) -> None:
        super()._protocolUpgradeForWebsockets(protocol)
        self.upgraded(protocol)


def ask_before_timeout(channel: Any, may_time_out: Callable[[], bool], give_up: Callable[[], object]) -> None:
    """Have the timers of a channel ask before they close or abort its connection.

    Twisted's idle timer runs as soon as an answer was written, though the client may still be reading it. When it fires
    Twisted closes the connection, and aborts it ``abortTimeout`` seconds later if it is still open. Twisted makes the
    ``H2Connection`` itself, so these are attributes of the instance and not methods of a subclass.

    Args:
        channel: an ``HTTPChannel`` or ``H2Connection``.
        may_time_out: asked when the idle timer has fired; if the answer is no, the timer starts again.
        give_up: called in the place of the abort.
    """
    time_out = channel.timeoutConnection

    def timeout_connection() -> None:
        if may_time_out():
            time_out()
        else:
            channel.setTimeout(channel.timeOut)

    def force_abort_client() -> None:
        # Otherwise Twisted would cancel the timer that has just fired.
        channel._abortingCall = None
        give_up()

    channel.timeoutConnection, channel.forceAbortClient = timeout_connection, force_abort_client


def unparsed_input(channel: HTTPChannel) -> bytes:
    """Return what was received but not parsed yet.

    Twisted tells of a request only when its first line is complete.
    """
    return b"".join([*channel._dataBuffer, channel._buffer])


def is_handling_request(channel: HTTPChannel) -> bool:
    """Say whether a request was received whole and has no complete answer yet.

    ``channel.requests`` also holds a request that is still being received.
    """
    handling: bool = channel._handlingRequest
    return handling


def discard_input(channel: HTTPChannel) -> None:
    """Have the channel drop everything that it has received and will receive.

    Its parser stops only when the transport is closing, which is too early for a graceful close. Twisted replaces the
    method on the instance in the same way after the last request of a connection.
    """
    channel.lineReceived = channel.rawDataReceived = _discard  # type: ignore[method-assign,assignment] # see above


def _discard(_: bytes) -> None:
    pass


def request_line(channel: HTTPChannel) -> tuple[bytes, bytes, bytes]:
    """Return the method, URI and version of the request that is being received.

    Twisted gives them to the request only when that was received whole; an earlier answer needs them too.
    """
    return channel._command, channel._path, channel._version


def stop_encoding(request: Any) -> None:
    """Have an answer written as it is, though its resource chose an encoding such as gzip.

    An encoder that was chosen cannot be taken back otherwise.
    """
    request._encoder = None


def has_length(request: Any) -> bool:
    """Say whether the client can tell by the answer itself, of which the head was written, where its body ends.

    Twisted tells nobody how it has chosen to send an answer.
    """
    return bool(
        request.chunked
        or request.responseHeaders.hasHeader(b"Content-Length")
        or request.method == b"HEAD"
        or request.code in NO_BODY_CODES
    )


def take_waiting(request: Any) -> list[Deferred[None]]:
    """Take over the Deferreds that ``notifyFinish`` has returned; whoever takes them has to fire them.

    Twisted would tell them that the resource's answer was sent, but it was replaced by another.
    """
    waiting: list[Deferred[None]]
    waiting, request.notifications = request.notifications, []
    return waiting


def stream_sent(stream: Any) -> Deferred[Any] | None:
    """Wait until an HTTP/2 stream has been sent to its end.

    A request on HTTP/2 counts as finished when its answer is queued, not when it is sent.

    Returns:
        Fires when Twisted forgets the stream; None if it has.
    """
    waiting: dict[int, Deferred[Any]] = stream._conn._streamCleanupCallbacks
    return waiting.get(stream.streamID)


def has_lost_connection(channel: Any) -> bool:
    """Say whether an ``H2Connection`` has learned that its connection is lost.

    Twisted fires what ``stream_sent`` returns then too, as if the stream had been sent.
    """
    return not channel._stillProducing


def has_streams(channel: Any) -> bool:
    """Say whether an ``H2Connection`` has a stream that is not over: being received, served, or sent."""
    return len(channel.streams) > 0


def going_away() -> bytes:
    """Return the frame with which HTTP/2 says that a connection will end, and that every stream is still served.

    To have h2 make it would end h2's own machine: no stream could be answered any more.
    """
    from hyperframe.frame import GoAwayFrame

    return GoAwayFrame(last_stream_id=_HIGHEST_STREAM).serialize()


def go_away(channel: Any) -> bytes:
    """Have an ``H2Connection`` take no new stream, and return the frame that says so: GOAWAY."""
    channel.conn.close_connection()
    frame: bytes = channel.conn.data_to_send()
    return frame


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


class _KeptOpen:
    """A websocket's transport that passes on what is written, and stays open."""

    def __init__(self, transport: Any) -> None:
        self.write = transport.write

    def loseConnection(self) -> None:
        """Do nothing: closing at once could make the kernel reset the connection and drop the close code."""


def close_websocket(websocket: Any, code: int, reason: str) -> bool:
    """Have a websocket of twisted.web send a close, and leave its connection open.

    Its own ``loseConnection`` closes the connection at once. The program does not know of this close, and what it
    sends from now on would raise, since nothing may follow a close; so that is dropped.

    Returns:
        Whether a close was sent now; the program itself may have sent one before.
    """
    from wsproto.utilities import LocalProtocolError

    transport = websocket.transport
    websocket.transport = _KeptOpen(transport)
    try:
        websocket.loseConnection(code, reason)
    except LocalProtocolError:
        return False
    finally:
        websocket.transport = transport
    websocket.sendTextMessage = websocket.sendBytesMessage = websocket.ping = lambda *_: None
    return True
