"""twisted.web's own Site, stopped as Twisted stops it: the resource of examples/site.tac without a drain."""

import os

from twisted.application.service import Application
from twisted.application.strports import service
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site


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
        request.notifyFinish().addErrback(lambda _: timer.active() and timer.cancel())
        return NOT_DONE_YET


application = Application("site")
host, port = os.environ["HOST"], os.environ["PORT"]
service(f"tcp:{port}:interface={host}:backlog=1024", Site(Wait())).setServiceParent(application)
