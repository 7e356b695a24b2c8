"""What twisted.web keeps private and a drain needs: every use of it is here, with its reason, and has a test.

docs/upstream.md says what Twisted could offer instead.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.web.http import HTTPChannel, _GenericHTTPChannelProtocol

__all__ = [
    "UpgradableChannel",
    "channel_of",
    "discard_input",
    "is_handling_request",
    "negotiated_protocol",
    "request_line",
    "stop_encoding",
    "stream_sent",
    "take_waiting",
    "unparsed_input",
]


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
