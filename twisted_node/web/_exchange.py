"""One HTTP request of twisted.web and its answer: the states it goes through, and what happens in each.

It knows nothing of the connection but its :class:`Owner`. The request may have come on HTTP/1 or on a stream of HTTP/2;
only what both offer is used.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import SERVICE_UNAVAILABLE, datetimeToString
from twisted.web.http_headers import Headers

from twisted_node.drain import Drain
from twisted_node.errors import Draining, DrainTimeout
from twisted_node.names import peer_name, printable
from twisted_node.web._twisted import has_length, request_line, stop_encoding, take_waiting

__all__ = ["NEXT", "Event", "Exchange", "Owner", "State"]


class State(Enum):
    """Where an exchange is. The last three are ends: nothing leads out of them."""

    #: The client is still sending the request.
    RECEIVING = "receiving"
    #: The resource has the request.
    SERVING = "serving"
    #: The request was answered 503, or its stream reset, without being served.
    REFUSED = "refused"
    #: The deadline ended it: 503, or an answer broken off.
    CUT = "cut"
    #: It was answered, or its client has gone.
    OVER = "over"


class Event(Enum):
    """What moves an exchange on."""

    RECEIVED = "the request was received whole, and is to be served"
    REFUSED = "the request was refused"
    DEADLINE = "the drain cut it"
    ENDED = "it was answered, or its connection was lost after an upgrade"
    LOST = "the client went away"


#: From each state, where each event leads; what is missing cannot happen there.
NEXT = {
    State.RECEIVING: {
        Event.RECEIVED: State.SERVING,
        Event.REFUSED: State.REFUSED,
        Event.DEADLINE: State.CUT,
        Event.ENDED: State.OVER,
        Event.LOST: State.OVER,
    },
    State.SERVING: {Event.DEADLINE: State.CUT, Event.ENDED: State.OVER, Event.LOST: State.OVER},
    State.REFUSED: {
        Event.RECEIVED: State.REFUSED,
        Event.REFUSED: State.REFUSED,
        Event.ENDED: State.REFUSED,
        Event.LOST: State.REFUSED,
    },
    State.CUT: {
        Event.RECEIVED: State.CUT,
        Event.REFUSED: State.CUT,
        Event.ENDED: State.CUT,
        Event.LOST: State.CUT,
    },
    State.OVER: {
        Event.RECEIVED: State.OVER,
        Event.REFUSED: State.OVER,
        Event.ENDED: State.OVER,
        Event.LOST: State.OVER,
    },
}


class Owner(Protocol):
    """Who keeps an exchange: what it asks of its connection, and tells it."""

    def is_websocket(self) -> bool:
        """Return whether the connection has become a websocket, or was one at its end."""

    def exchange_ended(self, exchange: Exchange) -> None:
        """Learn that an exchange has come to an end of any kind."""


class Exchange:
    """A request and its answer.

    Args:
        request: a request of twisted.web, just made.
        drain: holds the exchange in flight, if it is admitted.
        admitted: whether to serve the request; otherwise it is refused as soon as it was received whole.
        owner: its connection.
    """

    def __init__(self, request: Any, drain: Drain, *, admitted: bool, owner: Owner) -> None:
        self.request = request
        #: The HTTP/1 channel, or the HTTP/2 stream.
        self.channel = request.channel
        self.state = State.RECEIVING
        self._drain = drain
        self._owner = owner
        self._work: Deferred[None] = Deferred()
        self._held: Deferred[None] | None = None
        request.notifyFinish().addCallbacks(self.end, self._lost)
        if admitted:
            self._held = drain.track(self, self._work, while_draining=True)
            self._held.addErrback(self._cut)

    def __str__(self) -> str:
        client = peer_name(self.request.client)
        if self.state is State.RECEIVING:
            return f"request being received from {client}"
        kind = "websocket " if self._owner.is_websocket() else ""
        # Without the query, which may hold secrets.
        words = b" ".join([self.request.method, self.request.uri.partition(b"?")[0]]).decode("latin-1")
        return f"{kind}{printable(words, 200)} from {client}"

    @property
    def admitted(self) -> bool:
        """Whether the drain waits for it, and it is served once it was received whole."""
        return self._held is not None

    @property
    def answered_instead(self) -> bool:
        """Whether it was cut and the client got 503; the resource may not have noticed, and answer in vain."""
        return self.state is State.CUT and bool(self.request.finished)

    def received(self) -> bool:
        """Learn that the request was received whole.

        Returns:
            Whether it is to be served now; otherwise it has been refused.
        """
        if self.admitted:
            self._move(Event.RECEIVED)
        else:
            self._refuse(whole=True)
        return self.state is State.SERVING

    def refuse(self) -> None:
        """Answer 503 to a request that was not received whole."""
        self._refuse(whole=False)

    def end(self, _: object = None) -> None:
        """Let the drain go on: the request was answered, or nobody waits for an answer."""
        if self._move(Event.ENDED):
            self._let_go()

    def _move(self, event: Event) -> bool:
        """Go on to the next state; return whether that is another one."""
        before, self.state = self.state, NEXT[self.state][event]
        return self.state is not before

    def _lost(self, _: Failure) -> None:
        """Learn that the client has gone. Whether the resource still works cannot be seen, so nobody waits for it."""
        serving = self.state is State.SERVING
        if self._move(Event.LOST):
            if serving:
                self._drain.count_undelivered()
            self._let_go()

    def _refuse(self, *, whole: bool) -> None:
        if not self._move(Event.REFUSED):
            return
        # Before the answer: that ends the work, and the drain counts ended work as finished.
        if self._held is not None:
            self._drain.refuse(self._held)
        else:
            self._drain.count_refused()
        self._answer_or_abort(Failure(Draining(self._drain.reason)), whole=whole)
        self._let_go()

    def _cut(self, failure: Failure) -> None:
        """Answer 503 if no answer has begun. To the resource it looks as if its client had gone."""
        failure.trap(DrainTimeout)
        whole = self.state is State.SERVING
        self._move(Event.DEADLINE)
        waiting = take_waiting(self.request)
        if not self._owner.is_websocket():
            self._answer_or_abort(failure, whole=whole)
        for waiter in waiting:
            waiter.errback(failure)
        self._owner.exchange_ended(self)

    def _let_go(self) -> None:
        self.request.drain_exchange = None
        self._owner.exchange_ended(self)
        self._work.callback(None)

    def _answer_or_abort(self, failure: Failure, *, whole: bool) -> None:
        request = self.request
        if request.producer:
            request.producer.stopProducing()
            request.unregisterProducer()
        # A stream of HTTP/2 can be reset alone, and has to be, so that the client sends no more on it.
        reset = getattr(self.channel, "abortConnection", None)
        if not request.startedWriting and (whole or reset is None):
            if not whole:
                request.method, request.uri, request.clientproto = request_line(self.channel)
            self._answer_unavailable()
            return
        if reset is not None:
            reset()
        elif not has_length(request):
            # Only the end of the connection ends such an answer: closed in the usual way, it would look complete.
            self.channel.transport.abortConnection()
        # Any other answer of HTTP/1 is incomplete when the connection closes, so the client knows.
        request.connectionLost(failure)

    def _answer_unavailable(self) -> None:
        request = self.request
        seconds = max(1, math.ceil((self._drain.deadline or 0.0) - self._drain.monotonic()))
        body = b"The server is shutting down.\n"
        request.setResponseCode(SERVICE_UNAVAILABLE)
        # Whatever the resource has prepared belongs to its own answer.
        stop_encoding(request)
        request.etag = request.lastModified = None
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
