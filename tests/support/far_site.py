"""A site on an endpoint, the one argument, whose requests take as many milliseconds as they ask for."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import serverFromString
from twisted.logger import FileLogObserver, formatEventAsClassicLogText, globalLogBeginner
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_node import Drain, DrainingService, own_process
from twisted_node.web import DrainingSite

reactor: Any = _reactor


class Wait(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> Any:
        def answer() -> None:
            request.write(b"done")
            request.finish()

        milliseconds = int(request.args[b"ms"][0])
        if not milliseconds:
            return b"done"
        reactor.callLater(milliseconds / 1000, answer)
        return NOT_DONE_YET


def main() -> None:
    globalLogBeginner.beginLoggingTo(
        [FileLogObserver(sys.stderr, formatEventAsClassicLogText)], redirectStandardIO=False
    )
    drain = Drain(reactor)
    service = DrainingService(drain)
    service.listen(serverFromString(reactor, sys.argv[1]), DrainingSite(Wait(), drain=drain))
    own_process(service, reactor)
    service.startService()
    reactor.run()


if __name__ == "__main__":
    main()
