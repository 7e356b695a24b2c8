"""The drain for twisted.web: ``DrainingSite`` in the place of ``Site``.

While draining, requests in flight finish, and so does a request that its client has begun to send. Any other is refused
with 503 and ``Retry-After``. The last answer on a connection says ``Connection: close``. A connection without a request
stays open while anything is in flight, so that it can refuse. A websocket is told 1001, once no work that the program
tracks is in flight. HTTP/2 has no such header: there each request is served or refused, and the connection is closed,
with GOAWAY, when none of its requests is left.

A lame duck sends clients away in the same ways, one after the other; a connection without a request is closed as it
ends.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.web.server import Site
from zope.interface import implementer

from twisted_node.drain import Drain
from twisted_node.errors import MisuseError
from twisted_node.server._connections import Connections, IDrainingFactory
from twisted_node.web._channel import DrainingChannel
from twisted_node.web._connection import HTTPConnection
from twisted_node.web._twisted import negotiated_protocol
from twisted_node.web._websocket import Farewell

__all__ = ["DrainingSite"]


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
        #: Set by the service that listens; a site without one does not serve.
        self.connections: Connections | None = None
        self._farewell = Farewell(drain)

    def startFactory(self) -> None:
        """Begin to serve.

        Raises:
            MisuseError: no service listens: the site was not given to ``DrainingService.listen``.
        """
        self._check_served()
        super().startFactory()

    def protocol(self) -> Any:
        """Make what speaks HTTP on one connection."""
        return negotiated_protocol(DrainingChannel())

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make one connection: an :class:`HTTPConnection` around twisted.web's own protocol.

        Raises:
            MisuseError: as :meth:`startFactory`.
        """
        connections = self._check_served()
        return HTTPConnection(super().buildProtocol(addr), self, connections, self.drain, self._farewell)

    def _check_served(self) -> Connections:
        if self.connections is None:
            raise MisuseError("site: expected one that DrainingService.listen was given")
        return self.connections
