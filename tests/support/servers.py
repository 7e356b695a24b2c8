"""A site and a node as real processes, for tests in which a kernel decides."""

from __future__ import annotations

import socket
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process, heed_signals

#: Serves ``/big``, of as many bytes as the first argument says; ends as the others say.
SITE = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from twisted_node import Drain, DrainingService, own_process
from twisted_node.web import DrainingSite

class Answer(Resource):
    isLeaf = True
    def render_GET(self, request):
        return b"x" * int(sys.argv[1])

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
drain = Drain(reactor)
service = DrainingService(drain, drain_timeout=float(sys.argv[2]), linger=float(sys.argv[3]))
service.listen(serverFromString(reactor, sys.argv[4]), DrainingSite(Answer(), drain=drain))
own_process(service, reactor)
service.startService()
reactor.run()
"""

#: Answers each line with as many bytes as the first argument says, and closes behind ``bye``; ends as the site does.
LINES = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineReceiver
from twisted_node import Drain, DrainingService, own_process

class Talker(LineReceiver):
    def lineReceived(self, line):
        self.transport.write(b"x" * int(sys.argv[1]))
        if line == b"bye":
            self.transport.loseConnection()

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
drain = Drain(reactor)
service = DrainingService(drain, drain_timeout=float(sys.argv[2]), linger=float(sys.argv[3]))
service.listen(serverFromString(reactor, sys.argv[4]), Factory.forProtocol(Talker))
own_process(service, reactor)
service.startService()
reactor.run()
"""

#: A port of the kernel's choice.
ANY_PORT = "tcp:0:interface=127.0.0.1"


class ServerTestCase(SynchronousTestCase):
    """Starts servers, and ends them whatever becomes of the test."""

    def setUp(self) -> None:
        """Heed signals."""
        heed_signals(self)

    def start(self, *command: str) -> tuple[Process, int]:
        """Start a command that listens; returns it and its first port."""
        process = Process(*command)
        self.addCleanup(process.end)
        return process, process.port()

    def site(
        self, *, size: int = 0, drain_timeout: float = 25, linger: float = 1, endpoint: str = ANY_PORT
    ) -> tuple[Process, int]:
        """Start a site."""
        return self.start(sys.executable, "-c", SITE, str(size), str(drain_timeout), str(linger), endpoint)

    def lines(self, *, size: int, drain_timeout: float = 25, linger: float = 1) -> tuple[Process, int]:
        """Start a server of lines, of which nothing is known but when it closes a connection."""
        return self.start(sys.executable, "-c", LINES, str(size), str(drain_timeout), str(linger), ANY_PORT)

    def node(self, *options: str, endpoint: str = ANY_PORT) -> tuple[Process, int]:
        """Start a node that listens."""
        return self.start_node("--listen", endpoint, *options)

    def start_node(self, *options: str) -> tuple[Process, int]:
        """Start a node with whatever options; returns it and its first port."""
        return self.start(*RUNNERS["python"], *options)

    def connect(self, port: int, *, buffer: int | None = None) -> socket.socket:
        """Connect a client.

        Args:
            port: of this machine.
            buffer: bytes that the client's kernel takes before the client reads; None for the kernel's own choice.
        """
        client = socket.socket()
        self.addCleanup(client.close)
        client.settimeout(PATIENCE)
        if buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.connect(("127.0.0.1", port))
        return client
