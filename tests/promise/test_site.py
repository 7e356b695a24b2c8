"""What a site of a user's own promises its clients, on real sockets: each test has a process of its own."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, TextMessage
from wsproto.events import Request as UpgradeRequest

from tests.support.patience import PATIENCE
from tests.support.processes import Process
from tests.support.sockets import connect, read_to_end

#: Its arguments: the drain timeout and the site's idle timer, in seconds.
PROGRAM = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted_node import Drain, DrainingService, own_process
from twisted_node.web import DrainingSite

drain_timeout, idle = map(float, sys.argv[1:])
HTTPChannel.abortTimeout = idle

class StormPages(Resource):
    def getChild(self, path, request):
        return self
    def render_GET(self, request):
        if request.path == b"/big":
            return b"x" * 20_000_000
        request.write(b"[")
        LoopingCall(request.write, b"1,").start(0.05)
        return NOT_DONE_YET

class Later:
    def buildProtocol(self, request):
        return self
    def negotiationStarted(self, transport):
        self.transport = transport
    def negotiationFinished(self):
        pass
    def textMessageReceived(self, message):
        drain.track(message, deferLater(reactor, 1, lambda: self.transport.sendTextMessage("reply")))
    def connectionLost(self, reason):
        pass

root = StormPages()
try:
    from twisted.web.websocket import WebSocketResource
except ImportError:
    pass
else:
    root.putChild(b"ws", WebSocketResource(Later()))
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)])
drain = Drain(reactor)
service = DrainingService(drain, drain_timeout=drain_timeout)
service.listen(serverFromString(reactor, "tcp:0:interface=127.0.0.1"), DrainingSite(root, drain=drain, timeout=idle))
own_process(service, reactor)
service.startService()
reactor.run()
"""


class SitePromiseTests(SynchronousTestCase):
    """A site with an idle timer, a big page, a page without end, and a websocket that answers a second later."""

    def start(self, drain_timeout: float, idle: float = 60) -> int:
        """Start the site; return its port."""
        self.process = Process(sys.executable, "-c", PROGRAM, str(drain_timeout), str(idle))
        self.addCleanup(self.process.end)
        return self.process.port()

    def ask(self, request: bytes) -> socket.socket:
        """Send a request, and wait until its answer has begun."""
        client = connect(self.process.port())
        self.addCleanup(client.close)
        client.sendall(request)
        select.select([client], [], [], PATIENCE)
        return client

    def test_slow_reader(self) -> None:
        """The site's idle timer does not end what a client goes on reading: it gets all, and the status is 0."""
        self.start(60, idle=0.2)
        client = self.ask(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        self.process.signal()
        # Far longer than the idle timer and the abort behind it, with most of the answer still in the process.
        self.process.wait_for_log("draining")
        threading.Event().wait(1)
        self.assertIn(b"\r\n\r\n" + b"x" * 20_000_000, read_to_end(client))
        client.close()
        self.assertEqual(self.process.wait(), 0)

    def test_cut_without_length(self) -> None:
        """An answer without a length that the deadline cuts ends in a reset; one in chunks just lacks its last."""
        for version, reset in ((b"1.0", True), (b"1.1", False)):
            self.start(0.3)
            client = self.ask(b"GET /endless HTTP/%b\r\nHost: x\r\n\r\n" % version)
            self.process.signal()
            if reset:
                self.assertRaises(ConnectionResetError, read_to_end, client)
            else:
                self.assertFalse(read_to_end(client).endswith(b"0\r\n\r\n"))
            client.close()
            self.assertEqual(self.process.wait(), 1)

    def test_curl(self) -> None:
        """Curl says so of either."""
        for version, status in (("--http1.0", 56), ("--http1.1", 18)):
            port = self.start(0.3)
            curl = subprocess.Popen(
                ["curl", "--silent", "--no-buffer", version, f"http://127.0.0.1:{port}/endless"], stdout=subprocess.PIPE
            )
            assert curl.stdout is not None
            self.assertEqual(curl.stdout.read(1), b"[")
            self.process.signal()
            curl.stdout.read()
            curl.stdout.close()
            self.assertEqual(curl.wait(PATIENCE), status)
            self.assertEqual(self.process.wait(), 1)

    def converse(self, drain_timeout: float) -> list[Any]:
        """Send a message over a websocket, stop the site, and return what comes."""
        try:
            import twisted.web.websocket  # noqa: F401 # to see whether there is one
        except ImportError:
            raise SkipTest("this Twisted has no websockets") from None
        self.start(drain_timeout)
        websocket = WSConnection(ConnectionType.CLIENT)
        client = self.ask(websocket.send(UpgradeRequest("x", "/ws")))
        websocket.receive_data(client.recv(65536))
        self.assertEqual([type(event) for event in websocket.events()], [AcceptConnection])
        client.sendall(websocket.send(TextMessage("question")))
        # Nothing tells that it was read.
        threading.Event().wait(0.5)
        self.process.signal()
        heard: list[Any] = []
        while data := client.recv(65536):
            websocket.receive_data(data)
            for event in websocket.events():
                heard.append(event.code if isinstance(event, CloseConnection) else getattr(event, "data", None))
                if isinstance(event, CloseConnection):
                    client.sendall(websocket.send(event.response()))
        client.close()
        return heard

    def test_websocket(self) -> None:
        """A websocket gets the answer that the program works on, and is told 1001 behind that."""
        self.assertEqual(self.converse(25), ["reply", 1001])
        self.assertEqual(self.process.wait(), 0)

    def test_websocket_at_the_deadline(self) -> None:
        """If the answer is not ready by the deadline, it is told 1001, and the status says that something was cut."""
        self.assertEqual(self.converse(0.2), [1001])
        self.assertEqual(self.process.wait(), 1)
