"""The drain for twisted.web: ``DrainingSite`` in the place of ``Site``.

While draining: requests in flight finish, and so does one whose client is in the middle of sending it; any other is
refused with 503 and ``Retry-After``. The last answer on a connection says ``Connection: close``; a connection with
nothing to say stays, and refuses, while anything is in flight. A websocket is told 1001. HTTP/2 knows no such header:
there each request is served or refused, and the connection is closed, with GOAWAY, when the drain comes to it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.web.http import HTTPChannel, _GenericHTTPChannelProtocol
from twisted.web.server import Site
from zope.interface import directlyProvides, implementer, providedBy

from twisted_node.drain import Drain
from twisted_node.server._connections import Connections, IDrainingFactory
from twisted_node.server._tracking import TrackedConnection
from twisted_node.web._exchange import Exchange
from twisted_node.web._websocket import put_back, say_going_away

__all__ = ["DrainingSite", "HTTPConnection"]


class HTTPConnection(TrackedConnection):
    """One connection of a site: HTTP/1, HTTP/2, or what was HTTP/1 and is a websocket now.

    Args:
        protocol: twisted.web's own.
        site: keeps its access log open while the connection is.
        connections: where to register.
        drain: holds the requests in flight.
    """

    def __init__(self, protocol: Any, site: DrainingSite, connections: Connections, drain: Drain) -> None:
        super().__init__(protocol, site, connections, drain)
        self._http = protocol
        self.websocket: Any = None
        self._exchanges: dict[Exchange, None] = {}
        # Whether half a request line was here when the drain began.
        self._half_line = False
        self._unwanted = False
        self._stall: IDelayedCall | None = None
        protocol._channel.connection = self
        make_request = partial(self._make_request, protocol.requestFactory)
        directlyProvides(make_request, providedBy(protocol.requestFactory))
        protocol.requestFactory = make_request

    def _make_request(self, factory: Any, *args: Any, **options: Any) -> Any:
        """Make a request as the site would, and follow it."""
        request = factory(*args, **options)
        admitted = self._half_line or not self.drain.refusing
        self._half_line = False
        self._exchanges[Exchange(request, self.drain, admitted=admitted, ended=self._exchange_ended)] = None
        if admitted and self.drain.refusing:
            self._watch_for_stall()
        return request

    def _exchange_ended(self, exchange: Exchange) -> None:
        self._exchanges.pop(exchange, None)
        if self._queued_answers():
            # Until the stream is cleaned up, its answer is still on its way out.
            cleanup = self._http._channel._streamCleanupCallbacks.get(exchange.channel.streamID)
            if cleanup is not None:
                cleanup.addCallback(lambda _: self.look_again())
        self.look_again()

    def dataReceived(self, data: bytes) -> None:
        """Pass on what came in."""
        if self.connection.is_closing and self.websocket is not None:
            # Until its client has said good-bye too.
            self.protocol.dataReceived(data)
            return
        super().dataReceived(data)
        if (other := put_back(self.transport, self)) is not None:
            self.protocol = other
            self.upgraded(other)
        if self._unwanted:
            self.connection.finish()
        if self.drain.refusing and self.websocket is not None:
            self._tell_websocket()
        if self._stall is not None:
            self._stall.reset(self.connections.linger)

    def let_go(self) -> None:
        """End what is left: a websocket's request ends now."""
        self._stop_stall()
        for exchange in list(self._exchanges):
            exchange.end()

    # What the connections ask.

    def begin_drain(self) -> None:
        """Tell a websocket; give a request that is being received only so much time between two of its bytes."""
        if self.websocket is not None:
            self._tell_websocket()
            return
        self._half_line = self._has_half_line()
        if self._receiving():
            self._watch_for_stall()

    def is_idle(self) -> bool:
        """Say whether no request is in flight."""
        return not (self._queued_answers() or any(exchange.admitted for exchange in self._exchanges))

    def is_asking(self) -> bool:
        """Say whether the client is in the middle of a request, or about to begin its first."""
        return bool(self._receiving()) or self._has_half_line()

    def last_words(self) -> None:
        """Refuse a request that is not there as a whole; tell HTTP/2."""
        self._stop_stall()
        for exchange in self._receiving():
            exchange.refuse()
        channel = self._http._channel
        if not isinstance(channel, HTTPChannel):
            channel.conn.close_connection()
            self.transport.write(channel.conn.data_to_send())

    # What the channel calls.

    def upgraded(self, websocket: Any) -> None:
        """Learn that this is a websocket from now on."""
        self.websocket = websocket
        for exchange in self._exchanges:
            exchange.upgraded = True

    def wants(self, request: Any) -> bool:
        """Say to a client that asks first whether it should go on sending a request."""
        self._unwanted = any(exchange.request is request and not exchange.admitted for exchange in self._exchanges)
        return not self._unwanted

    def answered(self) -> None:
        """Close after the last answer, also one that the channel gave by itself, to what was no request."""
        for exchange in self._receiving():
            exchange.end()
        self.connection.finish()

    def _receiving(self) -> list[Exchange]:
        return [exchange for exchange in self._exchanges if exchange.receiving]

    def _has_half_line(self) -> bool:
        """Say whether the beginning of a request has arrived, less than a line."""
        channel = self._http._channel
        return isinstance(channel, _DrainingChannel) and not channel.requests and channel.has_more()

    def _queued_answers(self) -> bool:
        """Say whether HTTP/2 has streams open that are received: their answers may be finished, but not sent."""
        return len(getattr(self._http._channel, "streams", ())) > len(self._receiving())

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

    def _tell_websocket(self) -> None:
        """Say 1001, and wait for the other good-bye as long as for any client; wait for what is no websocket."""
        if say_going_away(self.websocket):
            self.connection.finish()


class _DrainingChannel(HTTPChannel):
    """HTTP/1, closed in time and without losing an answer."""

    connection: HTTPConnection

    def has_more(self) -> bool:
        """Say whether something has been read that is not looked at yet."""
        return bool(b"".join([*self._dataBuffer, self._buffer]).strip(b"\r\n"))

    def allHeadersReceived(self) -> None:
        """Ask for no body that would be refused."""
        request = self.requests[-1]
        if request.requestHeaders.hasHeader(b"Expect") and not self.connection.wants(request):
            request.requestHeaders.removeHeader(b"Expect")
        super().allHeadersReceived()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Begin an answer; the last one says so."""
        # What follows a request that was not received as a whole is its own rest.
        if self.connection.drain.refusing and not (self._handlingRequest and self.has_more()):
            headers.setRawHeaders(b"Connection", [b"close"])
            self.persistent = False
        super().writeHeaders(version, code, reason, headers)

    def loseConnection(self) -> None:
        """Close; gracefully while draining."""
        if self.connection.drain.refusing:
            # The transport is not closing yet, which would end the loop over what has been read: this object's own
            # methods do, replaced.
            self.lineReceived = self.rawDataReceived = _discard  # type: ignore[method-assign,assignment] # see above
            self.connection.answered()
        else:
            super().loseConnection()

    def _protocolUpgradeForWebsockets(self, protocol: Any) -> None:
        super()._protocolUpgradeForWebsockets(protocol)
        self.connection.upgraded(protocol)


def _discard(_: bytes) -> None:
    """Drop what follows the last answer."""


@implementer(IDrainingFactory)
class DrainingSite(Site):
    """A ``twisted.web.server.Site`` that drains; ``DrainingService.listen`` takes it.

    Args:
        resource: the root, as for ``Site``.
        drain: holds the requests in flight.
        args: as for ``Site``.
        options: as for ``Site``.
    """

    def __init__(self, resource: Any, *args: Any, drain: Drain, **options: Any) -> None:
        options.setdefault("reactor", drain.clock)
        super().__init__(resource, *args, **options)
        self.drain = drain
        #: Replaced by the service that listens.
        self.connections = Connections(drain.clock)

    def protocol(self) -> Any:
        """Make what speaks HTTP."""
        return _GenericHTTPChannelProtocol(_DrainingChannel())

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make one connection: a :class:`HTTPConnection`, in the place of twisted.web's own."""
        return HTTPConnection(super().buildProtocol(addr), self, self.connections, self.drain)
