"""A draining server without a reactor or a socket."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_node._typing import AnyFactory
from twisted_node.drain import Drain, Statistics
from twisted_node.errors import MisuseError
from twisted_node.server._service import DrainingService
from twisted_node.testing._client import MemoryClient
from twisted_node.testing._turns import TurnClock, Turns

__all__ = ["MemoryEndpoint", "MemoryServer"]


class MemoryServer:
    """A :class:`~twisted_node.server.DrainingService` without a reactor or a socket.

    Args:
        drain_timeout: seconds, as for the service.
        lame_duck: seconds, as for the service.
        linger: seconds, as for the service.
        random_number: draws numbers, as for the service.
    """

    def __init__(
        self,
        *,
        drain_timeout: float = 25.0,
        lame_duck: float = 0.0,
        linger: float = 1.0,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        self._turns = Turns()
        #: The clock of all timers and of all times that are measured, in seconds.
        self.clock: Clock = TurnClock(self._turns)
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(
            self.drain, drain_timeout=drain_timeout, lame_duck=lame_duck, linger=linger, random_number=random_number
        )
        self._endpoints: list[MemoryEndpoint] = []

    def listen(self, factory: AnyFactory) -> None:
        """Serve with a factory.

        Args:
            factory: makes the protocols; with several factories, :meth:`connect` takes the position of one.

        Raises:
            MisuseError: the server has started.
        """
        if self.service.running:
            raise MisuseError("the server has started: listen first, then connect")
        endpoint = MemoryEndpoint(self._turns)
        self._endpoints.append(endpoint)
        self.service.listen(endpoint, factory)

    def connect(self, position: int = 0) -> MemoryClient:
        """Connect a client; the server is started if it has not been.

        Args:
            position: of the factory, in the order of :meth:`listen`.

        Raises:
            ConnectionRefusedError: the server does not listen any more.
        """
        if not self.service.running and not self.drain.refusing:
            self.service.startService()
        return self._endpoints[position].connect()

    def stop(self) -> Deferred[Statistics]:
        """Stop the server, as a signal does.

        Returns:
            Fires with the final statistics when the last connection is closed.
        """
        with self._turns:
            return self.service.stopService()


@implementer(IStreamServerEndpoint)
class MemoryEndpoint:
    """A server endpoint in memory, for clients that are connected by a call."""

    def __init__(self, turns: Turns | None = None) -> None:
        self._turns = turns or Turns()
        self._factory: IProtocolFactory | None = None

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Serve with a factory."""
        self._factory = factory
        factory.doStart()
        port: IListeningPort = _MemoryPort(self)
        return succeed(port)

    def connect(self) -> MemoryClient:
        """Connect a client.

        Raises:
            ConnectionRefusedError: nobody listens, or the factory refuses.
        """
        if self._factory is None:
            raise ConnectionRefusedError
        client = MemoryClient(self._turns)
        protocol = self._factory.buildProtocol(client.getPeer())
        if protocol is None:
            raise ConnectionRefusedError
        client.serve(protocol)
        return client

    def close(self) -> None:
        """Stop listening."""
        factory, self._factory = self._factory, None
        if factory is not None:
            factory.doStop()


@implementer(IListeningPort)
class _MemoryPort:
    def __init__(self, endpoint: MemoryEndpoint) -> None:
        self._endpoint = endpoint

    def startListening(self) -> None:
        """Do nothing: it listens already."""

    def stopListening(self) -> None:
        """Refuse connections from now on."""
        self._endpoint.close()

    def getHost(self) -> IAddress:
        """Return the server's address, which is made up."""
        return IPv4Address("TCP", "192.0.2.2", 80)
