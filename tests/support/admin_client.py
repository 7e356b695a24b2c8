"""An admin endpoint and its clients, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_node import Drain, DrainingService
from twisted_node.watch._admin import Admin
from twisted_node.watch._metrics import Metrics

__all__ = ["AdminCase", "AdminClient"]


_HOST = IPv4Address("TCP", "192.0.2.2", 80)


class AdminClient(StringTransportWithDisconnection):
    """An HTTP client's connection, in memory."""

    aborted = half_closed = False

    def __init__(self, admin: Admin, host: IAddress = _HOST) -> None:
        peer = IPv4Address("TCP", "192.0.2.1", 40000)
        super().__init__(hostAddress=host, peerAddress=peer)
        protocol = admin.listener.factory.buildProtocol(peer)
        assert protocol is not None
        self.protocol: Any = protocol
        self.protocol.makeConnection(self)

    def get(
        self, path: str, *headers: str, method: str = "GET", host: str | None = "192.0.2.2:80", body: bytes = b""
    ) -> tuple[int, dict[str, str], str]:
        """Send one request, by HTTP/1.0 if it has no host; return status, headers and body of its answer."""
        self.clear()
        version = "HTTP/1.0" if host is None else "HTTP/1.1"
        hosts = [] if host is None else [f"Host: {host}"]
        lines = [f"{method} {path} {version}", *hosts, *headers, "", ""]
        self.protocol.dataReceived("\r\n".join(lines).encode("latin-1") + body)
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body of the answer that has come."""
        head, _, body = self.value().decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.protocol.connectionLost(Failure(ConnectionDone()))


class AdminCase(SynchronousTestCase):
    """A server that serves nothing, and its admin endpoint, in memory."""

    may_drain = False
    hosts: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.drain = Drain(self.reactor, self.reactor.seconds)
        self.service = DrainingService(self.drain, drain_timeout=25)
        endpoint = TCP4ServerEndpoint(self.reactor, 0)
        self.metrics = Metrics(self.service)
        self.admin = Admin(self.service, endpoint, self.metrics, may_drain=self.may_drain, hosts=self.hosts)
        self.admin.startService()

    def start(self) -> AdminClient:
        self.service.startService()
        return AdminClient(self.admin)
