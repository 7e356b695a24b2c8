"""What a service is put together from."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tests.support.logs import capture_logs
from twisted_node import Drain, DrainingService, MisuseError, Node, NodeFactory
from twisted_node.testing import MemoryEndpoint
from twisted_node.web import DrainingSite


@implementer(IStreamServerEndpoint)
class Taken:
    """An endpoint where somebody else listens."""

    def listen(self, protocolFactory: Any) -> Any:
        raise CannotListenError(None, 80, OSError("taken"))


class ChecksTestCase(SynchronousTestCase):
    """A service in memory, with a factory for it."""

    def setUp(self) -> None:
        self.events = capture_logs(self)
        self.drain = Drain(Clock())
        self.service = DrainingService(self.drain)
        self.factory = Factory.forProtocol(Protocol)

    def warnings(self) -> list[str]:
        warned = [event for event in self.events if event["log_level"].name == "warn"]
        return [formatEvent(event) for event in warned]


class MisuseTests(ChecksTestCase):
    """An argument that is not what it should be is named, with what was expected."""

    def test_drain(self) -> None:
        """A drain is a Drain, and has one service."""
        wrong: Any = Clock()
        self.assertRaisesRegex(MisuseError, "^drain: expected a Drain, got <.*Clock", DrainingService, wrong)
        self.assertRaisesRegex(MisuseError, "^drain: .* another service", DrainingService, self.drain)

    def test_times(self) -> None:
        """A time is a number; what was wrong takes the drain from nobody."""
        wrong: Any = "25"
        drain = Drain(Clock())
        with self.assertRaisesRegex(MisuseError, "^drain_timeout: expected seconds"):
            DrainingService(drain, drain_timeout=wrong)
        DrainingService(drain)

    def test_endpoint(self) -> None:
        """An endpoint is no factory, and no text; of text it is said what makes an endpoint of it."""
        wrong: Any = self.factory
        self.assertRaisesRegex(MisuseError, "^endpoint: ", self.service.listen, wrong, MemoryEndpoint())
        self.assertRaisesRegex(
            MisuseError, r"^endpoint: .* serverFromString\(reactor, 'tcp:1'\)", self.service.listen, "tcp:1", wrong
        )

    def test_factory(self) -> None:
        """A factory is a factory."""
        wrong: Any = Protocol
        self.assertRaisesRegex(MisuseError, "^factory: ", self.service.listen, MemoryEndpoint(), wrong)
        self.assertFalse(self.service.listens)

    def test_other_drain(self) -> None:
        """A site or a node works with the drain of its service."""
        node = Node()
        node.bind(Drain(Clock()))
        for factory in (NodeFactory(node), DrainingSite(Resource(), drain=Drain(Clock()))):
            self.assertRaisesRegex(MisuseError, "^factory: ", self.service.listen, MemoryEndpoint(), factory)

    def test_without_service(self) -> None:
        """A site or a node that its service does not serve does not listen."""
        node = Node("n1")
        node.bind(Drain(Clock()))
        for factory in (NodeFactory(node), DrainingSite(Resource(), drain=Drain(Clock()))):
            self.assertRaisesRegex(MisuseError, "DrainingService.listen", factory.doStart)

    def test_plain_site(self) -> None:
        """A plain Site is warned of, also inside another factory; no other factory is."""
        for factory in (WrappingFactory(Site(Resource())), self.factory, DrainingSite(Resource(), drain=self.drain)):
            self.service.listen(MemoryEndpoint(), factory)
        (warning,) = self.warnings()
        self.assertIn("twisted_node.web.DrainingSite", warning)


class ListenTests(ChecksTestCase):
    """When a service listens."""

    def test_after_the_start(self) -> None:
        """What is added after the start listens at once, and an error is raised there."""
        self.service.startService()
        listener = self.service.listen(MemoryEndpoint(), self.factory)
        self.assertIsNotNone(listener.host)
        self.assertRaises(CannotListenError, self.service.listen, Taken(), self.factory)

    def test_while_draining(self) -> None:
        """What is added to a drain does not listen, which is warned of."""
        self.service.startService()
        self.service.stopService()
        endpoint = MemoryEndpoint()
        self.service.listen(endpoint, self.factory)
        self.assertRaises(ConnectionRefusedError, endpoint.connect)
        self.assertIn("the drain has begun", self.warnings()[0])

    def test_privileged(self) -> None:
        """TCP ports are bound in the first step of a start, once; anything else is not."""
        reactor = MemoryReactorClock()
        for description in ("tcp:80", "haproxy:tcp:81", "unix:path"):
            self.service.listen(serverFromString(reactor, description), self.factory)
        self.service.privilegedStartService()
        self.assertEqual([server[0] for server in reactor.tcpServers], [80, 81])
        self.assertEqual(reactor.unixServers, [])
        self.service.startService()
        self.assertEqual((len(reactor.tcpServers), len(reactor.unixServers)), (2, 1))
