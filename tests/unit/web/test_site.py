"""twisted.web's Site, drained, in memory."""

from __future__ import annotations

import io
import re
import ssl
from pathlib import Path
from typing import Any

from klein import Klein
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tests.support.certificates import Certificates
from tests.support.sockets import connect
from tests.support.web import Hold, WebTests, get, statuses
from twisted_node import Drain, DrainingService
from twisted_node.command._endpoints import server_endpoint
from twisted_node.errors import MisuseError
from twisted_node.server._connections import Connections
from twisted_node.web._site import DrainingSite


class ServingTests(WebTests):
    """Before a drain it is a Site."""

    def test_arguments(self) -> None:
        """It takes what Site takes, and makes the requests that it is told to."""

        class Mine(Request):
            pass

        site = self.make_site(self.resource, requestFactory=Mine, timeout=3)
        transport = self.connect(site)
        transport.receive(get())
        self.assertIsInstance(self.resource.requests[0], Mine)
        self.assertEqual(site.timeOut, 3)
        self.assertIs(site.reactor, self.clock)

    def test_without_service(self) -> None:
        """Without a service it does not serve, which would cut its requests unseen; whoever stands in for one may."""
        drain = Drain(self.clock, self.clock.seconds)
        site = DrainingSite(self.resource, drain=drain)
        self.assertRaisesRegex(MisuseError, "^site: ", site.doStart)
        self.assertRaisesRegex(MisuseError, "^site: ", site.buildProtocol, None)
        site.connections = Connections(self.clock)
        transport = self.connect(site)
        transport.receive(get("/now") + get())
        self.assertEqual(drain.in_flight, 1)
        drain.begin(5)
        self.resource.answer()
        self.assertEqual(statuses(transport.take()), [200, 200])
        self.assertTrue(transport.half_closed)
        transport.leave()


class AccessLogTests(WebTests):
    """The access log."""

    def test_logs_to_the_end(self) -> None:
        """Requests that end after the port has closed are logged: those served, those refused, those cut."""
        path = Path(self.mktemp())
        site = DrainingSite(self.resource, drain=self.drain, logPath=str(path))
        self.service.listen(TCP4ServerEndpoint(MemoryReactorClock(), 0), site)
        site.doStart()
        clients = [self.connect(site) for _ in range(4)]
        clients[0].receive(get("/served"))
        clients[1].receive(get("/cut"))
        clients[2].receive(b"GET /half?x HTTP/1.1\r\n")
        ended = self.stop()
        site.doStop()
        clients[3].receive(get("/refused"))
        self.resource.answer()
        self.clock.advance(10)
        for client in clients:
            client.leave()
        self.check_ended(ended, finished=1, refused=2, cut=1)
        logged = sorted(re.findall(r'"GET (\S+) \S+" (\d+)', path.read_text()))
        self.assertEqual(logged, [("/cut", "503"), ("/half?x", "503"), ("/refused", "503"), ("/served", "200")])
        self.assertIsNone(site._logFile)

    def test_log_file(self) -> None:
        """A log file that somebody sets is used as with Site."""
        stream = io.StringIO()
        self.site.logFile = stream
        self.ask(get("/now")).leave()
        self.assertIn("/now", stream.getvalue())
        self.site._logFile = None


class KleinTests(WebTests):
    """Klein's resource works in it."""

    def test_klein(self) -> None:
        """A Klein route in flight finishes; at the deadline its Deferred is cancelled and the client told 503."""
        app = Klein()
        waiting: list[Deferred[bytes]] = []

        @app.route("/<name>")
        def greet(request: Any, name: str) -> Any:
            waiting.append(Deferred())
            return succeed(b"now " + name.encode()) if name == "bob" else waiting[-1]

        site = self.make_site(app.resource())
        clients = [self.connect(site) for _ in range(3)]
        clients[0].receive(get("/bob"))
        self.assertIn(b"now bob", clients[0].take())
        clients[1].receive(get("/ann"))
        clients[2].receive(get("/eve"))
        ended = self.stop()
        clients[0].receive(get("/bob"))
        self.assertEqual(statuses(clients[0].take()), [503])
        waiting[1].callback(b"hello ann")
        output = clients[1].take()
        self.assertIn(b"hello ann", output)
        self.assertIn(b"Connection: close", output)
        self.clock.advance(10)
        self.assertEqual(statuses(clients[2].take()), [503])
        for client in clients:
            client.leave()
        self.check_ended(ended, finished=2, refused=1, cut=1)
        self.assertEqual(self.flushLoggedErrors(), [])


class InterfaceTests(SynchronousTestCase):
    """What shows through."""

    def test_alpn(self) -> None:
        """It offers what Site offers to TLS."""
        site = DrainingSite(Resource(), drain=Drain(Clock()))
        self.assertEqual(site.acceptableProtocols(), Site(Resource()).acceptableProtocols())


class ALPNTests(TestCase):
    """Over real TLS."""

    async def test_alpn(self) -> None:
        """TLS negotiates h2 with a client that offers it, and http/1.1 with one that does not."""
        folder = Path(self.mktemp())
        certificates = Certificates(folder)
        drain = Drain(reactor)
        service = DrainingService(drain)
        where = f"ssl:0:interface=127.0.0.1:privateKey={certificates.server}:certKey={certificates.server}"
        listener = service.listen(server_endpoint(reactor, where), DrainingSite(Hold(), drain=drain))
        service.startService()
        self.addCleanup(service.stopService)
        host: Any = listener.host
        for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
            self.assertEqual(await self.negotiate(host.port, certificates, offered), chosen)

    def negotiate(self, port: int, certificates: Certificates, offered: list[str]) -> Deferred[str | None]:
        """Shake hands in a thread."""
        context = ssl.create_default_context(cafile=certificates.authority)
        context.check_hostname = False
        if offered:
            context.set_alpn_protocols(offered)

        def shake() -> str | None:
            with connect(port) as raw, context.wrap_socket(raw) as secure:
                secure.sendall(b"")
                return secure.selected_alpn_protocol()

        return deferToThread(shake)
