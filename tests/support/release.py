"""A node or a site as one release of a program: ``release.py KIND ENDPOINT ADMIN LAME_DUCK BAD``.

KIND is ``node`` or ``site``, ADMIN the endpoint of ``/readyz`` or empty, LAME_DUCK in seconds. While there is a file
BAD, the release is a bad one: it does not come up.

The site answers ``/?ms=N&parts=M`` after N milliseconds, or in M parts over that time, and each message to its
websocket, ``/ws``, after 0.2 s.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet import reactor as _reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_node import Drain, DrainingService, own_process, run
from twisted_node.watch import Admin, Metrics
from twisted_node.web import DrainingSite

reactor: Any = _reactor


class Wait(Resource):
    """Answers when it was asked to."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self

    def render_GET(self, request: Request) -> Any:
        seconds = float(request.args[b"ms"][0]) / 1000
        if not seconds:
            return b"done"
        answering = ensureDeferred(self.answer(request, seconds, int(request.args[b"parts"][0]) or 1))
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(lambda _: None)
        return NOT_DONE_YET

    async def answer(self, request: Request, seconds: float, parts: int) -> None:
        began = reactor.seconds()
        for number in range(1, parts + 1):
            await deferLater(reactor, max(0.0, began + seconds * number / parts - reactor.seconds()))
            request.write(b"done")
        request.finish()


class Talk:
    """Answers each message of a websocket."""

    transport: Any

    def __init__(self, drain: Drain) -> None:
        self.drain = drain

    def buildProtocol(self, request: Request) -> Any:
        return Talk(self.drain)

    def negotiationStarted(self, transport: Any) -> None:
        self.transport = transport

    def negotiationFinished(self) -> None: ...

    def textMessageReceived(self, message: str) -> None:
        answering = deferLater(reactor, 0.2, lambda: self.transport.sendTextMessage("done"))
        self.drain.track("message", answering).addErrback(lambda _: None)

    def connectionLost(self, reason: object) -> None: ...


def serve_site(endpoint: str, admin: str, lame_duck: float) -> None:
    """Serve the site until it has drained."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    drain, parent, root = Drain(reactor), MultiService(), Wait()
    try:
        from twisted.web.websocket import WebSocketResource
    except ImportError:
        pass
    else:
        root.putChild(b"ws", WebSocketResource(Talk(drain)))
    service = DrainingService(drain, lame_duck=lame_duck)
    service.listen(serverFromString(reactor, endpoint), DrainingSite(root, drain=drain))
    if admin:
        Admin(service, serverFromString(reactor, admin), Metrics(service)).setServiceParent(parent)
    service.setServiceParent(parent)
    own_process(service, reactor)
    parent.startService()
    reactor.run()


def main() -> None:
    kind, endpoint, admin, lame_duck, bad = sys.argv[1:]
    if Path(bad).exists():
        raise ImportError("this is a bad release")
    if kind == "site":
        serve_site(endpoint, admin, float(lame_duck))
    else:
        run(arguments=["--listen", endpoint, "--lame-duck", lame_duck, *(["--admin", admin] if admin else [])])


if __name__ == "__main__":
    main()
