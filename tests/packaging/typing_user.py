"""Programs as users write them: for mypy to read, with the plugin of mypy-zope and without it, not to be run."""

# Twisted's own serverFromString, Application and setServiceParent are not annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import msgspec
from twisted.application.service import Application
from twisted.internet import reactor as running_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock, deferLater
from twisted.protocols.wire import Echo
from twisted.web.resource import Resource

from twisted_node import Drain, DrainingService, Node, NodeFactory, Request, RequestError, Statistics, own_process, run
from twisted_node.testing import MemoryServer
from twisted_node.watch import Admin, Metrics, Notifier
from twisted_node.web import DrainingSite

# Without the plugin mypy takes no method of the reactor for one.
reactor: Any = running_reactor


def drain_alone() -> None:
    drain = Drain(reactor)
    job: Deferred[str] = deferLater(reactor, 0.2, str, 3)
    tracked: Deferred[str] = drain.track("job", job)
    tracked.addCallback(print)
    reactor.addSystemEventTrigger("before", "shutdown", drain.begin, 5.0, "the reactor was stopped")


def drain_in_a_test() -> float:
    clock = Clock()
    drained: Deferred[Statistics] = Drain(clock, clock.seconds).begin(5)
    drained.addCallback(lambda statistics: print(statistics.took))
    return clock.seconds()


def any_factory() -> None:
    service = DrainingService(Drain(reactor), drain_timeout=25)
    service.listen(serverFromString(reactor, "tcp:8080"), ServerFactory.forProtocol(Echo))
    service.listen(TCP4ServerEndpoint(reactor, 8081), ServerFactory.forProtocol(Echo))
    own_process(service, reactor)
    service.startService()


def web() -> None:
    drain = Drain(reactor)
    service = DrainingService(drain)
    service.listen(serverFromString(reactor, "tcp:8080"), DrainingSite(Resource(), drain=drain))
    service.stop_after_drain(lambda: None)


def watched() -> None:
    service = DrainingService(Drain(reactor))
    metrics = Metrics(service)
    metrics.watch(node)
    metrics.observe("GET", "ok", 0.012)
    admin = Admin(service, serverFromString(reactor, "tcp:8080:interface=127.0.0.1"), metrics, may_drain=True)
    application = Application("mine")
    admin.setServiceParent(application)
    service.setServiceParent(application)
    notifier = Notifier.from_environment(service)
    if notifier is not None:
        notifier.setServiceParent(application)


node = Node()


class Read(msgspec.Struct):
    key: str


@node.handle("read", Read)
def read(request: Request[Read]) -> dict[str, str]:
    if not request.body.key:
        raise RequestError(20, "no such key")
    return {"key": request.body.key}


@node.handle("ask")
async def ask(request: Request[dict[str, Any]]) -> dict[str, Any]:
    return await node.rpc("n2", {"type": "read", "key": request.body["key"]}, timeout=0.5)


def in_memory() -> list[bytes]:
    server = MemoryServer()
    node.bind(server.drain)
    server.listen(NodeFactory(node))
    client = server.connect()
    client.send(b'{"src": "c1", "dest": "n1", "body": {"type": "read", "key": "a"}}\n')
    server.stop()
    server.clock.advance(1)
    print(client.closed)
    return client.lines()


run(node)
