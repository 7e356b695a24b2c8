"""HTTP/2 in a draining site: each stream served, refused or cut; the connection closed with GOAWAY."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.certificates import Certificates
from tests.support.sockets import connect
from tests.support.transports import MemoryTransport
from tests.support.web import Hold, Producer
from twisted_node import Drain, DrainingService, DrainTimeout
from twisted_node.command._endpoints import server_endpoint
from twisted_node.web._site import DrainingSite


class HTTP2Client:
    """One HTTP/2 connection in memory, and what it has heard."""

    def __init__(self, site: DrainingSite, clock: Clock) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.h2.initiate_connection()
        self.transport = MemoryTransport(clock)
        self.transport.negotiatedProtocol = b"h2"  # type: ignore[attr-defined] # as TLS tells it
        self.transport.connect(site.buildProtocol(self.transport.getPeer()))
        self.events: list[Any] = []
        self.flush()

    def flush(self) -> None:
        self.transport.receive(self.h2.data_to_send())

    def ask(self, stream: int, path: str = "/", method: str = "GET", *, whole: bool = True) -> None:
        """Ask on a stream of this number."""
        headers = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "x")]
        self.h2.send_headers(stream, headers, end_stream=whole)
        self.flush()

    async def listen(self) -> list[Any]:
        """Hear what the server says; Twisted sends from the global reactor, in several turns."""
        for _ in range(20):
            await deferLater(reactor, 0)
            self.events += self.h2.receive_data(self.transport.take())
        return self.events

    async def statuses(self) -> dict[int | None, bytes]:
        """The statuses heard so far, by stream."""
        return {
            event.stream_id: dict(event.headers)[b":status"]
            for event in await self.listen()
            if isinstance(event, h2.events.ResponseReceived)
        }

    def ended(self) -> set[int | None]:
        """The streams that came to their regular end."""
        return {event.stream_id for event in self.events if isinstance(event, h2.events.StreamEnded)}

    def reset(self) -> set[int | None]:
        """The streams that were reset."""
        return {event.stream_id for event in self.events if isinstance(event, h2.events.StreamReset)}

    def going_away(self) -> bool:
        """Whether GOAWAY was heard."""
        return any(isinstance(event, h2.events.ConnectionTerminated) for event in self.events)


class HTTP2Tests(TestCase):
    """A site in memory, spoken to in HTTP/2."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(self.drain, drain_timeout=10)
        self.resource = Hold()
        self.site = DrainingSite(self.resource, drain=self.drain)
        self.service.listen(TCP4ServerEndpoint(MemoryReactorClock(), 0), self.site)
        self.client = HTTP2Client(self.site, self.clock)
        self.addCleanup(self.client.transport.leave)

    async def test_drain(self) -> None:
        """Streams in flight finish, new ones get 503 and Retry-After; then GOAWAY."""
        self.client.ask(1)
        self.client.ask(3, "/now")
        ended = self.service.stopService()
        self.client.ask(5)
        self.assertEqual(await self.client.statuses(), {3: b"200", 5: b"503"})
        (refusal,) = [e for e in self.client.events if isinstance(e, h2.events.ResponseReceived) and e.stream_id == 5]
        self.assertEqual(dict(refusal.headers)[b"retry-after"], b"10")
        self.assertNotIn(b"connection", dict(refusal.headers))
        self.assertFalse(self.client.going_away())
        self.resource.answer()
        # Finished, but Twisted has not sent it yet.
        self.assertEqual(self.drain.in_flight, 0)
        self.assertFalse(self.client.transport.half_closed)
        self.assertEqual((await self.client.statuses())[1], b"200")
        self.assertEqual(self.client.ended(), {1, 3, 5})
        self.assertTrue(self.client.going_away())
        self.assertTrue(self.client.transport.half_closed)
        self.client.transport.leave()
        statistics = self.successResultOf(ended)
        self.assertEqual((statistics.finished, statistics.refused, statistics.cut), (2, 1, 0))

    async def test_idle(self) -> None:
        """A connection without a stream is closed at once."""
        self.clock.advance(1)
        ended = self.service.stopService()
        await self.client.listen()
        self.assertTrue(self.client.going_away())
        self.client.transport.leave()
        self.successResultOf(ended)

    async def test_deadline(self) -> None:
        """At the deadline a stream without a response gets 503; one that has begun, or is half sent, is reset."""
        self.client.ask(1)
        self.client.ask(3)
        self.client.ask(5, method="POST", whole=False)
        producer = Producer()
        self.resource.requests[1].registerProducer(producer, True)
        self.resource.requests[1].write(b"begun")
        await self.client.listen()
        self.service.drain_timeout = 0.5
        ended = self.service.stopService()
        self.clock.advance(0.5)
        self.assertEqual(await self.client.statuses(), {1: b"503", 3: b"200"})
        self.assertEqual(self.client.reset(), {3, 5})
        self.assertTrue(producer.stopped)
        self.assertEqual([failure.type for failure in self.resource.failures], [DrainTimeout, DrainTimeout])
        self.assertTrue(self.client.going_away())
        self.client.transport.leave()
        self.assertEqual(self.successResultOf(ended).cut, 3)

    async def answer_much(self) -> None:
        """Have an answer that is larger than what the client allows for now."""
        self.client.ask(1)
        (request,) = self.resource.requests
        request.write(b"x" * 200_000)
        request.finish()
        await self.client.listen()
        self.assertEqual(self.client.ended(), set())

    async def test_no_room_at_the_deadline(self) -> None:
        """An answer for which its client has made no room by the deadline counts as cut."""
        await self.answer_much()
        ended = self.service.stopService()
        self.clock.pump([10, 1.1, 1.1])
        statistics = self.successResultOf(ended)
        self.assertEqual((statistics.cut, statistics.undelivered), (1, 0))

    async def test_room_in_the_drain(self) -> None:
        """One for which it makes room in time arrives whole."""
        await self.answer_much()
        ended = self.service.stopService()
        self.clock.advance(9)
        for stream in (None, 1):
            self.client.h2.increment_flow_control_window(1_000_000, stream)
        self.client.flush()
        await self.client.listen()
        self.assertEqual(self.client.ended(), {1})
        self.client.transport.leave()
        statistics = self.successResultOf(ended)
        self.assertEqual((statistics.cut, statistics.undelivered), (0, 0))

    async def test_gone_with_an_answer(self) -> None:
        """If the client goes before that, its answer was not delivered."""
        await self.answer_much()
        self.client.ask(3)
        self.client.transport.leave()
        # The second was still being served.
        self.assertEqual((self.drain.counts.cut, self.drain.counts.undelivered), (0, 2))

    async def test_longer_than_the_idle_timer(self) -> None:
        """A stream that is being served is not idle, however long that takes; the connection is, without a stream."""
        self.client.ask(1)
        self.clock.pump([50] * 5)
        self.resource.answer()
        self.assertEqual(await self.client.statuses(), {1: b"200"})
        self.assertEqual(self.client.ended(), {1})
        self.clock.pump([50] * 2)
        await self.client.listen()
        self.assertTrue(self.client.going_away())
        self.assertTrue(self.client.transport.closed)

    async def test_idle_in_the_drain(self) -> None:
        """In a drain the idle timer closes nothing: an idle connection stays to refuse."""
        busy = HTTP2Client(self.site, self.clock)
        self.addCleanup(busy.transport.leave)
        busy.ask(1)
        self.service.drain_timeout = 1000
        self.service.stopService()
        self.clock.pump([50] * 5)
        self.client.ask(1)
        self.assertEqual(await self.client.statuses(), {1: b"503"})
        self.assertFalse(self.client.transport.closed)

    async def test_stalled(self) -> None:
        """A stream that stops being sent is reset, and holds nothing up; one that goes on is served."""
        self.client.ask(1, method="POST", whole=False)
        ended = self.service.stopService()
        self.clock.advance(0.9)
        self.client.h2.send_data(1, b"x")
        self.client.flush()
        self.clock.advance(0.9)
        self.client.ask(3, method="POST", whole=False)
        self.client.h2.send_data(1, b"x", end_stream=True)
        self.client.flush()
        self.assertEqual(self.resource.bodies, [b"xx"])
        self.clock.advance(1.1)
        self.resource.answer()
        self.assertEqual(await self.client.statuses(), {1: b"200"})
        self.assertEqual(self.client.reset(), {3})
        self.client.transport.leave()
        statistics = self.successResultOf(ended)
        self.assertEqual((statistics.finished, statistics.refused, statistics.undelivered), (1, 1, 0))

    async def test_client_resets(self) -> None:
        """A stream that its client gives up is not waited for."""
        self.client.ask(1)
        ended = self.service.stopService()
        self.client.h2.reset_stream(1)
        self.client.flush()
        await self.client.listen()
        self.assertTrue(self.client.going_away())
        self.client.transport.leave()
        self.assertEqual(self.successResultOf(ended).undelivered, 1)


class HTTP2OverTLSTests(TestCase):
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

    async def test_start_tls(self) -> None:
        """A connection that has become TLS is closed after its linger, though its client never says good-bye."""
        certificates = Certificates(Path(self.mktemp()))
        options = PrivateCertificate.loadPEM(certificates.server.read_bytes()).options()

        class StartTLS(Protocol):
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                if data == b"start":
                    self.transport.write(b"go")
                    self.transport.startTLS(options)

        drain = Drain(reactor)
        service = DrainingService(drain, drain_timeout=0.2, linger=0.2)
        listener = service.listen(server_endpoint(reactor, "tcp:0:interface=127.0.0.1"), Factory.forProtocol(StartTLS))
        service.startService()
        self.addCleanup(service.stopService)
        host: Any = listener.host
        context = ssl.create_default_context(cafile=certificates.authority)
        context.check_hostname = False

        def shake() -> ssl.SSLSocket:
            raw = connect(host.port)
            raw.sendall(b"start")
            raw.recv(2)
            secure = context.wrap_socket(raw)
            secure.sendall(b"hello")
            return secure

        client = await deferToThread(shake)
        self.addCleanup(client.close)
        statistics = await service.stopService().addTimeout(5, reactor)
        self.assertEqual(statistics.cut, 1)

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
