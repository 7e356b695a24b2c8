"""A site that drains, and that SIGUSR2 restarts: HOST=127.0.0.1 PORT=8080 twistd -n --pidfile= -y examples/site.tac."""

import os

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_node import Drain, DrainingService, own_process
from twisted_node.web import DrainingSite


class Wait(Resource):
    """Answer ok, after N ms if the query says ms=N."""

    isLeaf = True

    def render_GET(self, request):
        request.setHeader("Content-Type", "text/plain")
        ms = float(request.args.get(b"ms", [b"0"])[0])
        if not ms:
            return b"ok"

        def answer():
            request.write(b"ok")
            request.finish()

        timer = reactor.callLater(ms / 1000, answer)
        # A client that has gone, and the drain's deadline, both end the wait.
        request.notifyFinish().addErrback(lambda _: timer.active() and timer.cancel())
        return NOT_DONE_YET

    render_POST = render_GET


drain = Drain(reactor)
service = DrainingService(drain)
host, port = os.environ.get("HOST", "127.0.0.1"), os.environ.get("PORT", "8080")
service.listen(
    serverFromString(reactor, f"tcp:{port}:interface={host}:backlog=1024"),
    DrainingSite(Wait(), drain=drain),
)
own_process(service, reactor)

application = Application("site")
service.setServiceParent(application)
