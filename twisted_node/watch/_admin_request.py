"""One request to the admin endpoint: the headers of its answer, and a limit on its body, which no path needs."""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request

from twisted_node.server._closing import GracefulClose

__all__ = ["PLAIN", "AdminRequest"]

#: The content type of a line of text.
PLAIN = "text/plain; charset=utf-8"

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

#: The longest body taken, in bytes; Twisted would keep one of any length, in a file.
_LONGEST_BODY = 4096
#: How long the rest of a body that is too long is read and discarded, so that its sender can read the answer.
_SECONDS_TO_DISCARD = 1.0


class AdminRequest(Request):
    """A request, answered with the headers of the admin endpoint; 413 if its body is too long."""

    #: The body, as far as it has come.
    content: Any
    _too_long = False
    _close: GracefulClose | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, value in _HEADERS.items():
            self.setHeader(name, value)

    def gotLength(self, length: int | None) -> None:
        """Begin the body; None for a length that is not known yet."""
        # A length that is short, so that Twisted opens no file.
        super().gotLength(_LONGEST_BODY)
        if length is not None and length > _LONGEST_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body, or discard it once the body is too long."""
        if self._too_long:
            return
        if self.content.tell() + len(data) > _LONGEST_BODY:
            self._refuse()
        else:
            super().handleContentChunk(data)

    def process(self) -> None:
        """Answer, now that the whole body has come."""
        if self._close is not None:
            # It has been answered.
            return
        if self._too_long:
            self.write(self._say_too_long())
            self.finish()
        else:
            super().process()

    def connectionLost(self, reason: Failure) -> None:
        """Leave."""
        if self._close is not None:
            self._close.closed()
        super().connectionLost(reason)

    def _refuse(self) -> None:
        """Keep nothing, and over HTTP/1 answer now, and close behind the answer.

        Over HTTP/2, where Twisted takes no answer before the end of the request, the answer waits for that.
        """
        self._too_long = True
        self.content.seek(0)
        self.content.truncate()
        if isinstance(self.channel, HTTPChannel):
            channel: Any = self.channel
            # Twisted would ask its sender for the body.
            self.requestHeaders.removeHeader(b"expect")
            line = self._say_too_long()
            self.setHeader("Connection", "close")
            channel.setTimeout(None)
            channel.writeHeaders(b"HTTP/1.1", b"413", self.code_message, self.responseHeaders)
            channel.write(line)
            self._close = GracefulClose(channel.transport, channel.site.reactor, _SECONDS_TO_DISCARD)
            self._close.begin()

    def _say_too_long(self) -> bytes:
        line = b"body too long: no path here needs one\n"
        self.setResponseCode(413)
        self.setHeader("Content-Type", PLAIN)
        self.setHeader("Content-Length", str(len(line)))
        return line
