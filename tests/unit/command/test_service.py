"""From options to a service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import Sink
from twisted_node import Drain, DrainingService, MisuseError, Node
from twisted_node.command._options import Options
from twisted_node.command._service import NodeService, _make_node
from twisted_node.node._node import requests_of


def options(*arguments: str, **values: Any) -> Options:
    """A command line; ``run`` puts a node among its values."""
    read = Options()
    read.parseOptions(arguments)
    read.update(values)
    return read


class Part(Service):
    """Something that is started, and says so."""

    def __init__(self, start: Callable[[str], object]) -> None:
        self._start = start

    def privilegedStartService(self) -> None:
        self._start("privileged")

    def startService(self) -> None:
        self._start("started")


class NodeServiceTests(SynchronousTestCase):
    """The parts of what the command runs."""

    def setUp(self) -> None:
        self.server = DrainingService(Drain(clock := Clock(), clock.seconds))

    def test_order(self) -> None:
        """The admin endpoint comes before the server, what tells the supervisor after it, in both steps of a start."""
        told: list[tuple[str, str, bool]] = []

        def part(name: str) -> Part:
            return Part(lambda step: told.append((name, step, bool(self.server.running))))

        service = NodeService(self.server, admin=part("admin"), notifier=part("notifier"))
        service.privilegedStartService()
        service.startService()
        self.assertEqual(
            told,
            [
                *(("admin", "privileged", False), ("notifier", "privileged", False)),
                *(("admin", "started", False), ("notifier", "started", True)),
            ],
        )
        self.successResultOf(service.stopService())

    def test_failure(self) -> None:
        """What fails at the start, in whichever step, ends the process with one line."""

        def fail(_: str) -> None:
            raise MisuseError("--listen tcp:1: Permission denied")

        service = NodeService(self.server, admin=Part(fail))
        for start in (service.privilegedStartService, service.startService):
            self.assertEqual(self.assertRaises(SystemExit, start).code, "node: --listen tcp:1: Permission denied")


class MakeNodeTests(SynchronousTestCase):
    """The node that the options ask for."""

    def make(self, read: Options, *, on_sockets: bool = True) -> Node:
        self.service = DrainingService(Drain(clock := Clock(), clock.seconds), drain_timeout=7)
        return _make_node(self.service, read, on_sockets)

    def test_names(self) -> None:
        """The option comes first, then the name that an app has given; on sockets there is always one."""
        self.assertEqual(self.make(options()).node_id, "n1")
        self.assertIsNone(self.make(options(), on_sockets=False).node_id)
        self.assertEqual(self.make(options(app=Node("mine"))).node_ids, ("mine",))
        self.assertEqual(self.make(options("--node-id", "n7", app=Node("mine"))).node_ids, ("n7",))

    def test_answers(self) -> None:
        """It answers the task's message unless it is an app, and about the drain whatever it is."""
        for read, code in ((options(), None), (options(app=Node()), 10)):
            node, drain = self.make(read), self.service.drain
            node.bind(drain)
            drain.track("work", Deferred())
            sink = Sink()
            for type_ in ("tcp_request", "tcp_drain_status", "statistics", "tcp_shutdown"):
                requests_of(node).receive(message(type_), sink)
            self.assertEqual([body.get("code") for body in bodies(sink.take())], [code, None, None, None])
            self.assertEqual(drain.deadline, 7)

    def test_taken(self) -> None:
        """An app cannot answer itself what every node answers."""
        node = Node()
        node.handle("tcp_shutdown")(lambda _: None)
        error = self.assertRaises(MisuseError, self.make, options(app=node))
        self.assertEqual(str(error), "type 'tcp_shutdown' has a handler already; every node answers that by itself")
