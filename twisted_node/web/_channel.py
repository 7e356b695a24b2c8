"""An HTTP/1 connection's parser, which closes in time and without losing an answer."""

from __future__ import annotations

from typing import Any, Protocol

from twisted_node.drain import Drain
from twisted_node.web._twisted import UpgradableChannel, discard_input, is_handling_request, unparsed_input

__all__ = ["DrainingChannel"]


class _Connection(Protocol):
    """What the channel asks of its connection, and tells it."""

    drain: Drain

    def is_to_close(self) -> bool: ...

    def upgraded(self, websocket: Any) -> None: ...

    def wants_body(self, request: Any) -> bool: ...

    def answered(self) -> None: ...


class DrainingChannel(UpgradableChannel):
    """HTTP/1 of twisted.web; in a lame duck and a drain, the last answer says ``Connection: close``."""

    #: Set before the connection is made.
    connection: _Connection

    def has_more(self) -> bool:
        """Say whether something was received that is not parsed yet; empty lines between requests do not count."""
        return bool(unparsed_input(self).strip(b"\r\n"))

    def allHeadersReceived(self) -> None:
        """Send no ``100 Continue`` for a request that will be refused."""
        request = self.requests[-1]
        if request.requestHeaders.hasHeader(b"Expect") and not self.connection.wants_body(request):
            request.requestHeaders.removeHeader(b"Expect")
        super().allHeadersReceived()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Begin an answer; say that the connection closes if this answer is the last."""
        if self.connection.is_to_close() and not self._goes_on(code):
            headers.setRawHeaders(b"Connection", [b"close"])
            self.persistent = False
        super().writeHeaders(version, code, reason, headers)

    def _goes_on(self, code: bytes) -> bool:
        """Say whether something follows on this connection behind an answer that begins now."""
        # Another request waits; or the connection becomes a websocket. If this request is answered before it was
        # received whole, then the unparsed bytes belong to its own body.
        return code.startswith(b"1") or (is_handling_request(self) and self.has_more())

    def loseConnection(self) -> None:
        """Close gracefully: what a client has not taken yet would be lost if it sent something more."""
        discard_input(self)
        self.connection.answered()

    def upgraded(self, websocket: Any) -> None:
        """Pass on that this connection is a websocket from now on."""
        self.connection.upgraded(websocket)
