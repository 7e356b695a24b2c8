"""A site that ends its process itself: SIGHUP has a new one take its place, SIGTERM stops it.

HOST=127.0.0.1 PORT=8080 python examples/replaced.py
"""

import os
import signal
import sys
from contextlib import suppress

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ReactorNotRunning
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from twisted.web.static import Data

from twisted_node import Drain, DrainingService
from twisted_node.errors import HandoverError
from twisted_node.web import DrainingSite

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)

root = Resource()
root.putChild(b"", Data(b"ok\n", "text/plain"))
drain = Drain(reactor)
service = DrainingService(drain, drain_timeout=25)
host, port = os.environ.get("HOST", "127.0.0.1"), os.environ.get("PORT", "8080")
service.listen(
    serverFromString(reactor, f"tcp:{port}:interface={host}:backlog=1024"),
    DrainingSite(root, drain=drain),
)


def replace() -> None:
    # The log has said why not; this process serves on.
    service.replace().addErrback(lambda failure: failure.trap(HandoverError) and None)


def stop_reactor(_: object) -> None:
    # After SIGTERM it is stopping already.
    with suppress(ReactorNotRunning):
        reactor.stop()


def signalled(*_: object) -> None:
    # In a handler of signals, leave all to the reactor's next turn. Its type does not say that it has this.
    reactor.callFromThread(replace)  # type: ignore[attr-defined]


signal.signal(signal.SIGHUP, signalled)
# After a handover, the service ends by itself, when the last client has gone.
service.when_ended().addCallback(stop_reactor)
# SIGTERM and Ctrl-C have Twisted stop the reactor, which waits for the service.
reactor.addSystemEventTrigger("before", "shutdown", service.end, "the reactor was stopped")
service.startService()
reactor.run()
sys.exit(service.exit_status)
