"""A server's health, figures and drain over HTTP. Needs the ``admin`` extra.

The admin endpoint closes last: it answers until the server has no connection left. Then it closes its own connections,
and waits only a moment for the last answers to leave.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IProtocolNegotiationFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.server import Site
from zope.interface import implementer

from twisted_node._typing import AnyEndpoint
from twisted_node.drain import Statistics
from twisted_node.drain._waiters import Waiters
from twisted_node.errors import MisuseError
from twisted_node.server import DrainingService
from twisted_node.server._checks import binds_tcp
from twisted_node.server._listening import Listener
from twisted_node.server._twisted import read_waiting
from twisted_node.watch._admin_access import read_host
from twisted_node.watch._admin_site import site
from twisted_node.watch._events import Events
from twisted_node.watch._metrics import Metrics

__all__ = ["Admin"]

#: How long the last answers may take to leave; a client that does not read loses them.
_SECONDS_FOR_LAST_ANSWERS = 0.25


class Admin(Service):
    """HTTP beside a server: ``/livez``, ``/readyz``, ``/status``, ``/metrics``, ``/events``, and a page at ``/``.

    Start it with the server, by hand or in the same application. It stops after the server, by itself; its own
    ``stopService`` only waits for that.

    Args:
        service: the server.
        endpoint: where to listen.
        metrics: the figures that ``/metrics`` shows. From them it also knows the name of the node, if they watch one.
        may_drain: whether ``POST /drain?timeout=SECONDS`` begins a drain; otherwise it is forbidden.
        hosts: the names that browsers may call it by, beside ``localhost`` and addresses. By another name only
            ``/livez``, ``/readyz`` and ``/metrics`` are answered: it may be that of a page which wants to look in.

    Raises:
        MisuseError: one of ``hosts`` is no host name.
    """

    def __init__(
        self,
        service: DrainingService,
        endpoint: AnyEndpoint,
        metrics: Metrics,
        *,
        may_drain: bool = False,
        hosts: Iterable[str] = (),
    ) -> None:
        self._server = service
        self._events = Events(service, metrics)
        self._factory = _Factory(site(service, self._events, metrics, may_drain=may_drain, hosts=_read_hosts(hosts)))
        #: Where it listens; its ``host`` is known once it does.
        self.listener = Listener(endpoint, self._factory, service.drain.timers, patience=0)
        service.stop_after_drain(self._end)

    def privilegedStartService(self) -> None:
        """Listen on a TCP port, as the server does; raises what :meth:`startService` does."""
        super().privilegedStartService()
        if binds_tcp(self.listener.endpoint):
            self.listener.open()

    def startService(self) -> None:
        """Listen, unless it does.

        Raises:
            CannotListenError: the port cannot be bound.
        """
        super().startService()
        self.listener.open()
        self._events.start()

    def stopService(self) -> Deferred[Statistics]:
        """Wait until the server has ended, and this with it; fires with the final statistics."""
        super().stopService()
        return self._server.when_ended()

    def _end(self) -> Deferred[None]:
        closed = self.listener.close()
        self._events.end()
        self._factory.finish(self._server.clock)
        return closed.addCallback(lambda _: self._factory.when_empty())


def _read_hosts(hosts: Iterable[str]) -> frozenset[str]:
    if isinstance(hosts, str):
        raise MisuseError(f"hosts: expected a list of names, got {hosts!r}")
    try:
        return frozenset(read_host(host) for host in hosts)
    except ValueError as error:
        raise MisuseError(f"hosts: {error}") from None


@implementer(IProtocolNegotiationFactory)
class _Factory(WrappingFactory):
    """Keeps the connections of a Site, to close them."""

    noisy = False

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._timer: IDelayedCall | None = None
        self._for_empty: Waiters[None] = Waiters()

    def acceptableProtocols(self) -> list[bytes]:
        """Tell TLS what is spoken here. Without an answer Twisted refuses clients that ask, as most HTTP clients do."""
        return [b"http/1.1"]

    def finish(self, clock: Any) -> None:
        """Answer the requests that have been received, and close every connection."""
        for connection in list(self.protocols):
            read_waiting(connection)
            connection.unregisterProducer()
            connection.loseConnection()
        if self.protocols:
            self._timer = clock.callLater(_SECONDS_FOR_LAST_ANSWERS, self._abort)

    def when_empty(self) -> Deferred[None]:
        """Wait until no connection is left."""
        return self._for_empty.add() if self.protocols else succeed(None)

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        """Forget a connection that is closed."""
        super().unregisterProtocol(p)
        if not self.protocols:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._for_empty.fire(None)

    def _abort(self) -> None:
        self._timer = None
        for connection in list(self.protocols):
            connection.abortConnection()
