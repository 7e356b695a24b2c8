"""One connection of a site: which requests are in flight on it, and when it may be closed."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.web.http import HTTPChannel
from zope.interface import directlyProvides, providedBy

from twisted_node.drain import Drain
from twisted_node.server._connections import Connections
from twisted_node.server._tracking import TrackedConnection
from twisted_node.server._twisted import raw_transport
from twisted_node.web._channel import DrainingChannel
from twisted_node.web._exchange import Exchange, State
from twisted_node.web._request import attach_exchange
from twisted_node.web._timers import IdleTimer, Pauses, Stall
from twisted_node.web._twisted import (
    channel_of,
    go_away,
    going_away,
    has_lost_connection,
    has_streams,
    put_back,
    stream_sent,
)
from twisted_node.web._websocket import Farewell, WebSocket

__all__ = ["HTTPConnection"]


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
        self._farewell = farewell
        self._websocket: WebSocket | None = None
        self._exchanges: dict[Exchange, None] = {}
        # Whether the beginning of a request line was here when the drain began.
        self._half_line = False
        # Whether a client that asked before it sent the body of a request was told not to.
        self._unwanted = False
        # Whether a client of HTTP/2 was told to ask elsewhere from now on.
        self._said_going_away = False
        self._stall = Stall(connections.clock, connections.linger, self._refuse_received)
        self._pauses = Pauses(connections.clock, connections.linger)
        self._idle_timer = IdleTimer(self)
        self._idle_timer.watch(channel_of(protocol))
        channel_of(protocol).connection = self
        make_request = partial(self._make_request, protocol.requestFactory)
        # The channel looks at the interfaces of its requestFactory to know which arguments that takes.
        directlyProvides(make_request, providedBy(protocol.requestFactory))
        protocol.requestFactory = make_request

    def _make_request(self, factory: Any, *args: Any, **options: Any) -> Any:
        """Make a request as the site would, and follow it."""
        self.connection.asks_again_within = max(self.connection.asks_again_within, self._pauses.end())
        request = factory(*args, **options)
        admitted = self._half_line or not self.drain.refusing
        self._half_line = False
        exchange = Exchange(request, self.drain, admitted=admitted, owner=self)
        self._exchanges[exchange] = None
        attach_exchange(request, exchange)
        if admitted and self.drain.refusing:
            self._stall.watch()
        return request

    def exchange_ended(self, exchange: Exchange) -> None:
        """Learn that an exchange has come to an end."""
        self._exchanges.pop(exchange, None)
        if not self._exchanges:
            self._pauses.begin()
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
        self._perhaps_say_going_away()
        self.look_again()

    def _perhaps_say_going_away(self) -> None:
        """In a lame duck, perhaps have the client of HTTP/2 ask elsewhere from now on; all that it asks is served.

        Some clients, those of Python's h2 among them, fail each stream that is open then: so only if none is.
        """
        channel, shedding = channel_of(self._http), self.connections.shedding
        if shedding is None or self.drain.refusing or self._said_going_away or has_lost_connection(channel):
            return
        if has_streams(channel) or not shedding.draw():
            return
        self.connection.read_waiting()
        if not (has_streams(channel) or self.connection.is_closing):
            self._said_going_away = True
            self.transport.write(going_away())

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came in."""
        if self._waits_for_close():
            self.protocol.dataReceived(data)
            return
        super().dataReceived(data)
        self._idle_timer.watch(channel_of(self._http))
        if (other := put_back(self.transport, self)) is not None:
            self.protocol = other
            self.upgraded(other)
        if self._unwanted:
            self.connection.finish()
        if self.drain.refusing and self._websocket is not None:
            self._leave(self._websocket)
        self._stall.heard()

    def let_go(self) -> None:
        """End what is left: the request that became a websocket ends with its connection."""
        self._stall.stop()
        for exchange in list(self._exchanges):
            exchange.end()

    def lose_connection(self) -> None:
        """Close; at once if this is a websocket that was told to go away, since its client has answered now."""
        if self._waits_for_close():
            self.connection.client_closed()
        else:
            super().lose_connection()

    def _waits_for_close(self) -> bool:
        """Return whether this is a websocket whose client has still to answer the close."""
        return self._websocket is not None and self._websocket.told and self.connection.is_closing

    # What an exchange and the idle timer ask.

    def is_websocket(self) -> bool:
        """Return whether this has become a websocket, or was one at its end."""
        return self._websocket is not None

    def is_serving(self) -> bool:
        """Return whether a request is being served."""
        return any(exchange.state is State.SERVING for exchange in self._exchanges)

    # What the connection asks.

    def begin_lame_duck(self) -> None:
        """Have a websocket told at a moment that is drawn; for other connections it is drawn at each answer."""
        if self._websocket is not None:
            self._leave_later(self._websocket)

    def begin_drain(self) -> None:
        """Have a websocket told; limit the seconds between two pieces of a request that is being received."""
        if self._websocket is not None:
            self._leave(self._websocket)
            return
        self._half_line = self._has_half_line()
        if self._receiving():
            self._stall.watch()

    def is_idle(self) -> bool:
        """Return whether no request is in flight."""
        return not (self._queued_answers() or any(exchange.admitted for exchange in self._exchanges))

    def is_asking(self) -> bool:
        """Return whether the client is in the middle of sending a request."""
        return bool(self._receiving()) or self._has_half_line()

    def last_words(self) -> None:
        """Refuse a request that was not received whole; tell a websocket, and HTTP/2."""
        self._stall.stop()
        if self._websocket is not None:
            # It is not told yet if the deadline has cut what it was waiting for.
            self._websocket.say_going_away()
        self._refuse_received()
        channel = channel_of(self._http)
        if not isinstance(channel, HTTPChannel):
            self.transport.write(go_away(channel))

    # What the channel calls.

    def is_to_close(self) -> bool:
        """Say whether the connection is to close behind the answer that begins now; in a lame duck this is drawn."""
        shedding = self.connections.shedding
        return self.drain.refusing or (shedding is not None and shedding.draw())

    def upgraded(self, websocket: Any) -> None:
        """Learn that this is a websocket from now on."""
        self._websocket = WebSocket(websocket, self._farewell)
        self._leave_later(self._websocket)

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

    def _refuse_received(self) -> None:
        for exchange in self._receiving():
            exchange.refuse()

    def _leave_later(self, websocket: WebSocket) -> None:
        """In a lame duck, close a websocket at a moment that is drawn, as soon as the work of the program has ended."""
        if (shedding := self.connections.shedding) is not None and not self.drain.refusing:
            due = self._farewell.when_due_after(shedding.draw_delay())
            due.addCallback(lambda _: self._close_websocket(websocket))

    def _leave(self, websocket: WebSocket) -> None:
        """Close a websocket as soon as the work of the program has ended."""
        if (due := websocket.when_to_leave()) is not None:
            due.addCallback(lambda _: self._close_websocket(websocket))

    def _close_websocket(self, websocket: WebSocket) -> None:
        """Say 1001, and then wait for the client's close as in any connection; wait for an unknown protocol's end."""
        if not self.connection.is_closing and websocket.say_going_away():
            self.connection.finish()
