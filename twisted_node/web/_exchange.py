"""One HTTP request of twisted.web, from its first line to its last byte: served, refused, or cut by the deadline.

It knows nothing of the connection, which may be HTTP/1 or a stream of HTTP/2: it goes by what both give to a request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import SERVICE_UNAVAILABLE, datetimeToString
from twisted.web.http_headers import Headers

from twisted_node.drain import Drain
from twisted_node.errors import Draining, DrainTimeout
from twisted_node.names import peer_name, printable

__all__ = ["Exchange"]


class Exchange:
    """A request and its answer.

    Args:
        request: of twisted.web; just made, its first line at most received.
        drain: holds it in flight, if it is admitted.
        admitted: whether it is served; else it is refused as soon as it is there.
        ended: called with the exchange when it has ended, well or ill.
    """

    def __init__(self, request: Any, drain: Drain, *, admitted: bool, ended: Callable[[Exchange], object]) -> None:
        self.request = request
        #: What carries it: a connection, or a stream of HTTP/2.
        self.channel = request.channel
        self.admitted = admitted
        #: Whether the client is still sending it.
        self.receiving = True
        #: Whether it has become a websocket.
        self.upgraded = False
        self._drain = drain
        self._ended = ended
        self._over = False
        self._serve = request.process
        request.process = self._received
        request.notifyFinish().addCallbacks(self.end, self._lost)
        self._work: Deferred[None] = Deferred()
        if admitted:
            self._held = drain.track(self, self._work, while_draining=True)
            self._held.addErrback(self._was_cut)

    def __str__(self) -> str:
        client = peer_name(self.request.client)
        if self.receiving:
            return f"request being received from {client}"
        kind = "websocket " if self.upgraded else ""
        # Without the query, which may hold secrets.
        words = b" ".join([self.request.method, self.request.uri.partition(b"?")[0]]).decode("latin-1")
        return f"{kind}{printable(words, 200)} from {client}"

    def refuse(self) -> None:
        """Answer 503 without serving it, though it may not be there as a whole."""
        # First: to answer it is to end it, and what ends counts as finished.
        if self.admitted:
            self._drain.turn_away(self._held)
        else:
            self._drain.count_refused()
        self._answer_or_abort(Failure(Draining(self._drain.reason)))
        self.end()

    def end(self, _: object = None) -> None:
        """Let go of it: it has its answer, or nobody waits for one."""
        if self._over:
            return
        self._over = True
        self._ended(self)
        if self.admitted:
            self._work.callback(None)

    def _received(self) -> None:
        """Serve or refuse it, now that it is there; instead of the request's own ``process``."""
        del self.request.process
        self.receiving = False
        if self.admitted:
            self._serve()
        else:
            self.refuse()

    def _lost(self, _: Failure) -> None:
        """Learn that the client has gone. What its resource still does cannot be seen, so it is not waited for."""
        if not (self.receiving or self._over):
            self._drain.count_undelivered()
        self.end()

    def _was_cut(self, failure: Failure) -> None:
        """Answer 503 if nothing was answered yet; to the resource it looks as if its client had gone."""
        failure.trap(DrainTimeout)
        self._over = True
        waiting, self.request.notifications = self.request.notifications, []
        if not self.upgraded:
            self._answer_or_abort(failure)
        for waiter in waiting:
            waiter.errback(failure)
        self._ended(self)

    def _answer_or_abort(self, failure: Failure) -> None:
        request, channel = self.request, self.channel
        receiving, self.receiving = self.receiving, False
        if request.producer:
            request.producer.stopProducing()
            request.unregisterProducer()
        abort = getattr(channel, "abortConnection", None)
        if abort is not None and (receiving or request.startedWriting):
            # A stream of HTTP/2 can say that it ends early, and must not go on afterwards.
            abort()
        elif not request.startedWriting:
            if receiving:
                request.method, request.uri, request.clientproto = channel._command, channel._path, channel._version
            self._answer_unavailable()
            return
        # In HTTP/1 the rest is missing: its connection closes, and that says it.
        request.connectionLost(failure)

    def _answer_unavailable(self) -> None:
        request = self.request
        seconds = max(1, math.ceil((self._drain.deadline or 0.0) - self._drain.monotonic()))
        body = b"The server is shutting down.\n"
        request.setResponseCode(SERVICE_UNAVAILABLE)
        # Whatever the resource has prepared was for another answer.
        request.etag = request.lastModified = request._encoder = None
        request.cookies = []
        request.responseHeaders = Headers(
            {
                b"Date": [datetimeToString()],
                b"Retry-After": [b"%d" % seconds],
                b"Content-Type": [b"text/plain; charset=utf-8"],
                b"Content-Length": [b"%d" % len(body)],
            }
        )
        request.write(body)
        request.finish()
        # The resource may not have noticed, and answer in vain.
        request.write = request.finish = lambda *_: None
