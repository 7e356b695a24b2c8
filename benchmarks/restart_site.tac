"""A site that drains, as examples/site.tac does, and streams too: what is restarted in restart.py."""

import os

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_node import Drain, DrainingService, own_process
from twisted_node.web import DrainingSite


class Wait(Resource):
    """Answer ok after N ms if the query says ms=N; in M parts over that time if it says parts=M."""

    isLeaf = True

    def render_GET(self, request):
        request.setHeader("Content-Type", "text/plain")
        seconds = float(request.args.get(b"ms", [b"0"])[0]) / 1000
        parts = int(request.args.get(b"parts", [b"0"])[0])
        if not seconds:
            return b"ok"
        answering = ensureDeferred(self.answer(request, seconds, max(parts, 1)))
        # A client that has gone, and the drain's deadline, both end it, and so it fails.
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(lambda _: None)
        return NOT_DONE_YET

    async def answer(self, request, seconds, parts):
        began = reactor.seconds()
        for number in range(1, parts + 1):
            # Whatever the parts before it took.
            await deferLater(reactor, max(0, began + seconds * number / parts - reactor.seconds()))
            request.write(b"ok")
        request.finish()


drain = Drain(reactor)
service = DrainingService(drain)
endpoint = f"tcp:{os.environ['PORT']}:interface={os.environ['HOST']}:backlog=1024"
service.listen(serverFromString(reactor, endpoint), DrainingSite(Wait(), drain=drain))
own_process(service, reactor)

application = Application("site")
service.setServiceParent(application)
