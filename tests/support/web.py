"""A site in memory, for the tests of HTTP."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from tests.support.transports import MemoryTransport
from twisted_node import Drain, DrainingService
from twisted_node.web._site import DrainingSite


@implementer(IPushProducer, IPullProducer)
class Producer:
    """Something that streams."""

    def __init__(self) -> None:
        self.stopped = False

    def resumeProducing(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def stopProducing(self) -> None:
        self.stopped = True


class Hold(Resource):
    """Keeps each request until it is told to go on."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.bodies: list[bytes] = []
        self.failures: list[Failure] = []

    def render(self, request: Any) -> Any:
        request.notifyFinish().addErrback(self.failures.append)
        self.bodies.append(request.content.read())
        if request.path == b"/now":
            return b"now"
        self.requests.append(request)
        return NOT_DONE_YET

    def answer(self, number: int = 0) -> None:
        request = self.requests[number]
        request.write(b"held")
        request.finish()


def get(path: str = "/", *headers: str) -> bytes:
    """A request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def statuses(output: bytes) -> list[int]:
    """The status of each response."""
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", output)]


class WebTests(SynchronousTestCase):
    """A site with held requests, and a drain of 10 s with a linger of 1 s."""

    #: What each draw of a lame duck gives, from 0 to 1.
    draws = 0.0

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(self.drain, drain_timeout=10, random_number=lambda: self.draws)
        self.resource = Hold()
        self.site = self.make_site(self.resource)

    def make_site(self, resource: Any, **options: Any) -> DrainingSite:
        site = DrainingSite(resource, drain=self.drain, **options)
        self.service.listen(TCP4ServerEndpoint(MemoryReactorClock(), 0), site)
        site.doStart()
        self.addCleanup(site.doStop)
        return site

    def connect(self, site: DrainingSite | None = None) -> MemoryTransport:
        transport = MemoryTransport(self.clock)
        transport.connect((site or self.site).buildProtocol(transport.getPeer()))
        return transport

    def ask(self, data: bytes | None = None) -> MemoryTransport:
        """Make a connection that has sent something."""
        transport = self.connect()
        transport.receive(get() if data is None else data)
        return transport

    def stop(self, *, lame_duck: float = 0.0, draws: float = 0.0) -> Deferred[Any]:
        """Stop the service."""
        self.draws = draws
        self.service.lame_duck = lame_duck
        return self.service.stopService()

    def check_ended(self, ended: Deferred[Any], **counts: int) -> None:
        """The service has ended, with these counts."""
        statistics = self.successResultOf(ended)
        for name, count in counts.items():
            self.assertEqual(getattr(statistics, name), count, name)
        leftover = [call for call in self.clock.getDelayedCalls() if "_updateLogDateTime" not in str(call)]
        self.assertEqual(leftover, [])
