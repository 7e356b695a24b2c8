"""A wall clock that is set while a server ends."""

from __future__ import annotations

import sys
import time

from tests.support.servers import ServerTestCase
from tests.support.sockets import read_to_end

#: A site that answers nothing, on a machine whose wall clock is set by an hour in its drain.
SITE = """
import sys, time
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted_node import Drain, DrainingService, own_process
from twisted_node.web import DrainingSite

class Root(Resource):
    isLeaf = True
    def render_GET(self, request):
        print("asked", file=sys.stderr, flush=True)
        return NOT_DONE_YET

offset = 0.0

def set_clock():
    global offset
    offset = float(sys.argv[1])

# What Twisted takes for the time.
reactor.seconds = lambda: time.time() + offset
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
drain = Drain(reactor)
service = DrainingService(drain, drain_timeout=1, linger=0.2)
service.listen(serverFromString(reactor, "tcp:0:interface=127.0.0.1"), DrainingSite(Root(), drain=drain))
own_process(service, reactor)
drain.when_draining().addCallback(lambda _: reactor.callLater(0.1, set_clock))
service.startService()
reactor.run()
"""


class WallClockTests(ServerTestCase):
    """The deadline of a drain goes by the monotonic clock."""

    def assert_cut_in_time(self, offset: int) -> None:
        """Have the clock set by so many seconds; the deadline and all that follows come as they should."""
        process, port = self.start(sys.executable, "-c", SITE, str(offset))
        client = self.connect(port)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        process.wait_for_log("asked")
        told = time.monotonic()
        process.signal()
        self.assertIn(b"HTTP/1.1 503 ", read_to_end(client))
        took = time.monotonic() - told
        # By the wall clock it would be at once, or in an hour.
        self.assertGreaterEqual(took, 1)
        # It stays connected: the linger has its time too.
        self.assertEqual(process.wait(), 1)
        took = time.monotonic() - told
        self.assertGreaterEqual(took, 1.2, process.log)
        self.assertNotIn("not ended in time", process.log)
        self.assertIn("cut: 0 finished, 0 refused, 1 cut", process.log)

    def test_back(self) -> None:
        """Set back an hour, it changes nothing."""
        self.assert_cut_in_time(-3600)

    def test_forward(self) -> None:
        """Nor set forward an hour."""
        self.assert_cut_in_time(3600)
