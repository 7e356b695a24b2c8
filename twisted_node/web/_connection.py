"""One connection of a site: which requests are in flight on it, and when it may be closed."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IProtocolFactory
from twisted.web.http import HTTPChannel
from zope.interface import directlyProvides, providedBy

from twisted_node.drain import Drain
from twisted_node.server._connections import Connections
from twisted_node.server._tracking import TrackedConnection
from twisted_node.server._twisted import raw_transport, unsent_bytes, untaken_bytes
from twisted_node.web._channel import DrainingChannel
from twisted_node.web._exchange import Exchange, State
from twisted_node.web._request import attach_exchange
from twisted_node.web._twisted import ask_before_timeout, channel_of, has_lost_connection, stream_sent
from twisted_node.web._websocket import Farewell, put_back, say_going_away

__all__ = ["HTTPConnection"]

#: A client that has paused for so long between two requests may pause this many times as long before the next.
_LONGER_PAUSE = 2.0


class HTTPConnection(TrackedConnection):
    """One connection of a site: HTTP/1, HTTP/2, or what was HTTP/1 and is a websocket now.

    Args:
        protocol: twisted.web's own, with a ``DrainingChannel``.
        site: kept started while the connection is open, so that its access log stays open too.
        connections: where to register.
        drain: holds the requests in flight.
        farewell: tells when a websocket may be closed.
    """

    def __init__(
        self, protocol: Any, site: IProtocolFactory, connections: Connections, drain: Drain, farewell: Farewell
    ) -> None:
        super().__init__(protocol, site, connections, drain)
        self._http = protocol
        self.websocket: Any = None
        self._farewell = farewell
        # Whether the websocket is to be told that the server goes away, perhaps later; and whether it has been told.
        self._leaving = self._told = False
        self._exchanges: dict[Exchange, None] = {}
        # Whether the beginning of a request line was here when the drain began.
        self._half_line = False
        # Whether a client that asked before it sent the body of a request was told not to.
        self._unwanted = False
        self._stall: IDelayedCall | None = None
        # When the last request was answered that left no other on the connection, in seconds on the clock.
        self._idle_since: float | None = None
        # Bytes that the client's kernel had not taken when the idle timer fired last.
        self._unsent = -1
        # The channel whose timers ask first.
        self._asking_channel: Any = None
        self._ask_before_timeout()
        channel_of(protocol).connection = self
        make_request = partial(self._make_request, protocol.requestFactory)
        # The channel looks at the interfaces of its requestFactory to know which arguments that takes.
        directlyProvides(make_request, providedBy(protocol.requestFactory))
        protocol.requestFactory = make_request

    def _make_request(self, factory: Any, *args: Any, **options: Any) -> Any:
        """Make a request as the site would, and follow it."""
        self._measure_pause()
        request = factory(*args, **options)
        admitted = self._half_line or not self.drain.refusing
        self._half_line = False
        exchange = Exchange(request, self.drain, admitted=admitted, ended=self._exchange_ended)
        self._exchanges[exchange] = None
        attach_exchange(request, exchange)
        if admitted and self.drain.refusing:
            self._watch_for_stall()
        return request

    def _exchange_ended(self, exchange: Exchange) -> None:
        self._exchanges.pop(exchange, None)
        if not self._exchanges:
            self._idle_since = self.connections.clock.seconds()
        # HTTP/2 may have queued the answer without sending it.
        if self._queued_answers() and (sent := stream_sent(exchange.channel)) is not None:
            sent.addCallback(self._stream_over, answered=self._was_answered(exchange))
        self.look_again()

    def _was_answered(self, exchange: Exchange) -> bool:
        return exchange.state is State.OVER and not has_lost_connection(channel_of(self._http))

    def _stream_over(self, _: object, *, answered: bool) -> None:
        """Learn that an answer over HTTP/2 was sent to its end, or that its connection is lost."""
        if answered and has_lost_connection(channel_of(self._http)):
            if self.drain.refusing and raw_transport(self.transport).disconnecting:
                # It was we who closed: by the deadline the client had made no room for the answer.
                self.drain.count_cut()
            else:
                self.drain.count_undelivered()
        self.look_again()

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came in."""
        if self.connection.is_closing and self._told:
            # Its client has still to answer the close.
            self.protocol.dataReceived(data)
            return
        super().dataReceived(data)
        self._ask_before_timeout()
        if (other := put_back(self.transport, self)) is not None:
            self.protocol = other
            self.upgraded(other)
        if self._unwanted:
            self.connection.finish()
        if self.drain.refusing and self.websocket is not None:
            self._leave()
        if self._stall is not None:
            self._stall.reset(self.connections.linger)

    def let_go(self) -> None:
        """End what is left: the request that became a websocket ends with its connection."""
        self._stop_stall()
        for exchange in list(self._exchanges):
            exchange.end()

    def lose_connection(self) -> None:
        """Close; at once if this is a websocket that was told to go away, since its client has answered now."""
        if self._told and self.connection.is_closing:
            self.connection.client_closed()
        else:
            super().lose_connection()

    # What the connection asks.

    def begin_drain(self) -> None:
        """Have a websocket told; limit the seconds between two pieces of a request that is being received."""
        if self.websocket is not None:
            self._leave()
            return
        self._half_line = self._has_half_line()
        if self._receiving():
            self._watch_for_stall()

    def is_idle(self) -> bool:
        """Return whether no request is in flight."""
        return not (self._queued_answers() or any(exchange.admitted for exchange in self._exchanges))

    def is_asking(self) -> bool:
        """Return whether the client is in the middle of sending a request."""
        return bool(self._receiving()) or self._has_half_line()

    def last_words(self) -> None:
        """Refuse a request that was not received whole; tell a websocket, and HTTP/2."""
        self._stop_stall()
        if self.websocket is not None:
            # It is not told yet if the deadline has cut what it was waiting for.
            self._say_going_away()
        for exchange in self._receiving():
            exchange.refuse()
        channel = channel_of(self._http)
        if not isinstance(channel, HTTPChannel):
            # HTTP/2: GOAWAY.
            channel.conn.close_connection()
            self.transport.write(channel.conn.data_to_send())

    # What the channel calls.

    def upgraded(self, websocket: Any) -> None:
        """Learn that this is a websocket from now on."""
        self.websocket = websocket
        for exchange in self._exchanges:
            exchange.upgraded = True

    def wants_body(self, request: Any) -> bool:
        """Say whether a client that asks first should go on and send the body of its request."""
        self._unwanted = any(exchange.request is request and not exchange.admitted for exchange in self._exchanges)
        return not self._unwanted

    def answered(self) -> None:
        """Close after the last answer; also after one that the channel gave by itself, to a malformed request."""
        for exchange in self._receiving():
            exchange.end()
        self.connection.finish()

    def _receiving(self) -> list[Exchange]:
        return [exchange for exchange in self._exchanges if exchange.state is State.RECEIVING]

    def _has_half_line(self) -> bool:
        """Say whether the beginning of a request has arrived, less than a line."""
        channel = channel_of(self._http)
        return isinstance(channel, DrainingChannel) and not channel.requests and channel.has_more()

    def _queued_answers(self) -> bool:
        """Say whether HTTP/2 has open streams whose requests were received whole; an answer may wait to be sent."""
        return len(getattr(channel_of(self._http), "streams", ())) > len(self._receiving())

    def _watch_for_stall(self) -> None:
        self._stall = self.connections.clock.callLater(self.connections.linger, self._stalled)

    def _stalled(self) -> None:
        self._stall = None
        for exchange in self._receiving():
            exchange.refuse()

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _leave(self) -> None:
        """Close a websocket as soon as no work of the program is in flight: its answer may go to this client."""
        if not self._leaving:
            self._leaving = True
            self._farewell.when_due().addCallback(lambda _: self._close_websocket())

    def _close_websocket(self) -> None:
        """Say 1001, and then wait for the client's close as in any connection; wait for an unknown protocol's end."""
        if not self.connection.is_closing and self._say_going_away():
            self.connection.finish()

    def _say_going_away(self) -> bool:
        told, self._told = self._told, True
        return told or say_going_away(self.websocket)

    def _measure_pause(self) -> None:
        """Learn how long this client pauses between two requests, to know when to expect the next.

        A connection that is closed in such a pause may meet its next request on the way. It is closed with the answer
        to that request if the client asks again in time.
        """
        if self._idle_since is None:
            return
        pause, linger = self.connections.clock.seconds() - self._idle_since, self.connections.linger
        self._idle_since = None
        # A client that pauses for longer than that is not waited for.
        if pause <= linger:
            within = min(_LONGER_PAUSE * pause, linger)
            self.connection.asks_again_within = max(self.connection.asks_again_within, within)

    # What the site's own timers ask.

    def _ask_before_timeout(self) -> None:
        channel = channel_of(self._http)
        if channel is not self._asking_channel:
            self._asking_channel = channel
            ask_before_timeout(channel, self._may_time_out, self._give_up)

    def _may_time_out(self) -> bool:
        """Return whether an idle timer may close the connection.

        It may not while a request is being served, nor while the client goes on reading its answers, nor in a drain,
        which decides itself when to close.
        """
        if self.drain.refusing or any(exchange.state is State.SERVING for exchange in self._exchanges):
            return False
        before, self._unsent = self._unsent, unsent_bytes(self.transport) + untaken_bytes(self.transport)
        return self._unsent in (0, before)

    def _give_up(self) -> None:
        """Close a connection that an idle timer has tried to close, and that is still open."""
        unsent = unsent_bytes(self.transport) > 0
        if unsent and self.drain.refusing:
            # The deadline cuts it, and counts it.
            return
        if not unsent and self.connection.is_closing:
            # All is on its way, so it is closed when its client has taken that, and its linger is over.
            return
        if unsent:
            self.drain.count_undelivered()
        self.connection.close_now()
