"""The order of a shutdown."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.support.lines import bodies, message
from tests.support.logs import capture_logs
from tests.support.memory import House
from tests.support.visitor import Visitor
from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.server._client_waits import FIRST_WORDS
from twisted_node.server._service import DrainingService
from twisted_node.server._shutdown import MAX_GRACE
from twisted_node.server._states import ServiceState
from twisted_node.testing import MemoryClient, MemoryEndpoint

# Its interfaces depend on the platform.
reactor: Any = _reactor


class ServiceTestCase(SynchronousTestCase):
    """A service in memory, with a node, a plain endpoint and a control endpoint."""

    def setUp(self) -> None:
        self.captured = capture_logs(self)
        self.start()

    @property
    def events(self) -> list[LogEvent]:
        """What our own modules have logged since the last start."""
        since = self.captured[self.started :]
        return [event for event in since if str(event.get("log_namespace")).startswith("twisted_node.")]

    @property
    def log(self) -> list[str]:
        """The same as lines."""
        return [formatEvent(event) for event in self.events]

    def start(self, **options: Any) -> None:
        self.house = House()
        self.clock, self.drain, self.node = self.house.clock, self.house.drain, self.house.node
        self.service = DrainingService(self.drain, **{"drain_timeout": 10, "linger": 2, **options})
        self.connections = self.service.connections
        self.endpoint, self.control_endpoint = MemoryEndpoint(), MemoryEndpoint()
        self.service.listen(self.endpoint, self.house.factory())
        self.service.listen(self.control_endpoint, self.house.factory(control=True))
        # The factories were told of the house's own connections; the service's are what counts.
        for listener in self.service._shutdown.listeners:
            listener.factory.connections = self.connections  # type: ignore[attr-defined] # a NodeFactory
        self.service.startService()
        self.started = len(self.captured)

    def connect(self, *, control: bool = False, lingers: bool = False) -> MemoryClient:
        client = (self.control_endpoint if control else self.endpoint).connect()
        client.lingers = lingers
        # No longer new.
        self.clock.advance(FIRST_WORDS * 2)
        return client

    def busy_client(self, latency: float, *, lingers: bool = False) -> MemoryClient:
        """A client with a request in flight for so many seconds more."""
        client = self.connect(lingers=lingers)
        client.send(message("tcp_request", 1, latency_ms=latency * 1000))
        return client

    def types(self, client: MemoryClient) -> list[str]:
        return [body["type"] for body in bodies(client.received)]

    def assert_clean(self, ended: Deferred[Statistics]) -> Statistics:
        """The service has ended, and nothing is left of it."""
        statistics = self.successResultOf(ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.connections), 0)
        return statistics


class StopTests(ServiceTestCase):
    """A service that is stopped."""

    def test_interface(self) -> None:
        """It is a Twisted service, to be added to an application."""
        verifyObject(IService, self.service)

    def test_nothing_open(self) -> None:
        """With nothing open it ends where it is stopped."""
        statistics = self.assert_clean(self.service.stopService())
        self.assertEqual((statistics.phase, self.service.running), (Phase.DRAINED, 0))
        for endpoint in (self.endpoint, self.control_endpoint):
            self.assertRaises(ConnectionRefusedError, endpoint.connect)

    def test_idle(self) -> None:
        """Idle connections are half-closed at once; their clients close, and that is all."""
        clients = [self.connect() for _ in range(3)]
        self.assert_clean(self.service.stopService())
        self.assertTrue(all(client.gone for client in clients))

    def test_in_flight(self) -> None:
        """What is in flight is answered first, refusing on every connection meanwhile."""
        busy, idle = self.busy_client(3), self.connect()
        ended = self.service.stopService()
        self.assertRaises(ConnectionRefusedError, self.endpoint.connect)
        self.clock.advance(2)
        self.assertFalse(idle.closed)
        idle.send(message("tcp_request", 2))
        self.assertEqual(self.types(idle), ["tcp_request_error"])
        self.assertNoResult(ended)
        self.clock.advance(1)
        statistics = self.assert_clean(ended)
        self.assertEqual(self.types(busy), ["tcp_request_ok"])
        self.assertEqual((statistics.finished, statistics.refused, statistics.cut), (1, 1, 0))

    def test_listeners_close_in_the_same_turn(self) -> None:
        """Whatever begins the drain, the listeners close as its consequence, at once."""
        self.busy_client(3)
        self.drain.begin(5)
        self.assertRaises(ConnectionRefusedError, self.endpoint.connect)

    def test_lingering_clients(self) -> None:
        """Clients that do not close cost the linger once, all together."""
        clients = [self.connect(lingers=True) for _ in range(3)]
        ended = self.service.stopService()
        self.clock.advance(1.9)
        self.assertEqual([(client.closed, client.gone) for client in clients], [(True, False)] * 3)
        self.assertNoResult(ended)
        self.clock.advance(0.1)
        self.assert_clean(ended)

    def test_half_a_line(self) -> None:
        """A client in the middle of a line may end it, within the linger."""
        client = self.connect()
        line = message("tcp_request", 1)
        client.send(line[:20])
        ended = self.service.stopService()
        self.clock.advance(1)
        client.send(line[20:])
        self.assertEqual(self.types(client), ["tcp_request_error"])
        self.assert_clean(ended)

    def test_deadline(self) -> None:
        """At the deadline what is left is cut and answered, and connections have a grace."""
        client = self.busy_client(60, lingers=True)
        ended = self.service.stopService()
        self.clock.advance(10)
        self.assertEqual([body["error"] for body in bodies(client.received)], ["drain_timeout"])
        self.assertNoResult(ended)
        self.clock.advance(MAX_GRACE)
        statistics = self.assert_clean(ended)
        self.assertEqual((statistics.phase, statistics.cut), (Phase.TIMED_OUT, 1))

    def test_nobody_asks_at_the_deadline(self) -> None:
        """Half a line is not waited for at the deadline."""
        self.start(linger=60)
        asking = self.connect()
        asking.send(b'{"src"')
        self.busy_client(60)
        ended = self.service.stopService()
        self.clock.advance(10)
        self.assertTrue(asking.closed)
        self.assert_clean(ended)

    def test_twice(self) -> None:
        """Stopping again joins the first stop."""
        self.busy_client(3)
        first, second = self.service.stopService(), self.service.stopService()
        self.clock.advance(3)
        statistics = self.assert_clean(first)
        self.assertIs(self.assert_clean(second), statistics)
        self.assertEqual(self.successResultOf(self.service.stopService()), statistics)

    def test_again_after_the_end(self) -> None:
        """Stopping again after the end changes nothing, even if its deadline would be nearer."""
        self.drain.begin(50)
        self.clock.advance(1)
        self.assert_clean(self.service.stopService())

    def test_cancelled(self) -> None:
        """Whoever cancels their waiting for the end keeps nobody else from it."""
        self.busy_client(3)
        leaving, staying = self.service.stopService(), self.service.when_ended()
        leaving.addErrback(lambda _: None).cancel()
        self.clock.advance(3)
        self.assert_clean(staying)

    def test_sibling(self) -> None:
        """In a MultiService, that one's stop waits for it."""
        parent = MultiService()
        self.service.setServiceParent(parent)
        self.busy_client(3)
        stopped: Deferred[Any] = parent.stopService()
        self.clock.advance(2)
        self.assertNoResult(stopped)
        self.clock.advance(1)
        self.successResultOf(stopped)

    def test_made_while_draining(self) -> None:
        """A service made when its drain has begun does not listen, and ends."""
        drain = Drain(self.clock)
        drain.begin(5)
        service = DrainingService(drain)
        endpoint = MemoryEndpoint()
        service.listen(endpoint, Factory.forProtocol(Protocol))
        service.startService()
        self.assertRaises(ConnectionRefusedError, endpoint.connect)
        self.successResultOf(service.stopService())


class ServiceLameDuckTests(ServiceTestCase):
    """Serving on for a while, so that balancers notice."""

    def setUp(self) -> None:
        super().setUp()
        self.start(lame_duck=5)

    def test_serves_on(self) -> None:
        """A lame duck takes connections and requests, then drains."""
        ended = self.service.stopService()
        client = self.connect()
        client.send(message("tcp_request", 1))
        self.assertEqual(self.types(client), ["tcp_request_ok"])
        self.clock.advance(5)
        self.assert_clean(ended)

    def test_second_end(self) -> None:
        """A second end, without a lame duck, begins the drain."""
        ended = self.service.stopService()
        self.service.end("SIGTERM")
        self.assert_clean(ended)

    def test_watched(self) -> None:
        """Whoever begins the drain by a message can watch it, until it has ended; what is idle is closed at once."""
        self.busy_client(3)
        idle, control = self.connect(), self.connect(control=True)
        ended = self.service.stopService()
        control.send(message("tcp_shutdown", 1))
        self.assertEqual((idle.closed, control.closed), (True, False))
        for seconds in (0, 2):
            self.clock.advance(seconds)
            control.send(message("tcp_drain_status", 2))
            self.assertEqual(bodies(control.received)[-1]["status"], "draining")
        self.clock.advance(1)
        self.assertTrue(control.closed)
        self.assert_clean(ended)

    def test_drain_in_between(self) -> None:
        """Whoever begins the drain before the lame duck is over cannot push the end away, only bring it nearer."""
        for timeout, ends_by in ((100, 15), (12, 13), (0, 1)):
            self.start(lame_duck=5)
            # Its time has begun with the client's.
            self.busy_client(60)
            began = self.clock.seconds()
            ended = self.service.stopService()
            self.clock.advance(1)
            self.drain.begin(timeout, "a message")
            self.assertEqual(self.service.ends_by, began + ends_by)
            self.clock.advance(ends_by - 1)
            self.assertEqual(self.assert_clean(ended).cut, 1)

    def test_ends_by(self) -> None:
        """By when it is over is known from its beginning, and stays when the drain begins by itself."""
        self.busy_client(60)
        self.assertEqual(self.service.would_end_by(), self.clock.seconds() + 10)
        promised = self.service.would_end_by(lame_duck=5)
        self.service.stopService()
        self.assertEqual(self.service.ends_by, promised)
        self.clock.advance(5)
        self.assertEqual((self.drain.phase, self.service.ends_by), (Phase.DRAINING, promised))
        self.assertEqual(self.service.would_end_by(lame_duck=5), promised)

    def test_begun_by_the_drain(self) -> None:
        """A lame duck that was asked of the drain itself is the service's too."""
        self.drain.lame_duck(1, 5)
        self.assertIs(self.service.state, ServiceState.LAME_DUCK)
        self.assertEqual(self.service.ends_by, self.clock.seconds() + 6)

    def test_second_lame_duck(self) -> None:
        """A second lame duck may end sooner than the first; it never ends later."""
        self.busy_client(60)
        began = self.clock.seconds()
        for lame_duck, ends_by in ((5, 15), (60, 15), (1, 11)):
            self.service.end("SIGTERM", lame_duck=lame_duck)
            self.assertEqual(self.service.ends_by, began + ends_by)
        self.clock.advance(1)
        self.assertIs(self.drain.phase, Phase.DRAINING)

    def test_said_once(self) -> None:
        """Two that ask for the same are one line in the log."""
        self.service.end("SIGTERM", lame_duck=5)
        self.service.stopService()
        self.assertEqual(self.log, ["lame duck for 5 s: SIGTERM"])


class MessageTests(ServiceTestCase):
    """A drain that somebody else began."""

    def shut_down(self, *, lingers: bool = False, **fields: Any) -> MemoryClient:
        control = self.connect(control=True, lingers=lingers)
        control.send(message("tcp_shutdown", 7, **fields))
        return control

    def test_ends_the_service(self) -> None:
        """It ends the service; the connection that asked for it stays to see that, and closes."""
        busy, ended = self.busy_client(3), self.service.when_ended()
        control = self.shut_down()
        self.clock.advance(3)
        self.assertTrue(busy.gone)
        self.assertFalse(control.closed)
        control.send(message("tcp_drain_status", 8))
        self.assertEqual(self.types(control), ["tcp_shutdown_ok", "tcp_drain_status_ok"])
        self.assertNoResult(ended)
        control.half_close()
        self.assert_clean(ended)

    def test_kept_for_the_linger(self) -> None:
        """A connection that stays is closed when the drain has been over for the linger; nothing is cut by that."""
        self.busy_client(3)
        control, ended = self.shut_down(lingers=True), self.service.when_ended()
        self.clock.pump([3, 1.9])
        self.assertFalse(control.closed)
        self.clock.pump([0.2, 0])
        self.assertEqual(self.assert_clean(ended).cut, 0)

    def test_kept_no_longer(self) -> None:
        """With a long linger it is closed at the deadline, with the grace."""
        self.start(linger=8)
        self.shut_down(drain_timeout_ms=5000, lingers=True)
        ended = self.service.when_ended()
        self.clock.advance(5)
        self.assertNoResult(ended)
        self.clock.advance(MAX_GRACE)
        self.assertEqual(self.assert_clean(ended).cut, 0)

    def test_signal_releases(self) -> None:
        """A stop keeps no connection, before or after the drain's end."""
        self.shut_down()
        self.assert_clean(self.service.stopService())
        self.start()
        self.busy_client(3)
        self.shut_down()
        ended = self.service.stopService()
        self.clock.advance(3)
        self.assert_clean(ended)

    def test_stop_brings_the_deadline_nearer(self) -> None:
        """A stop while draining may bring the deadline nearer, and the end with it."""
        self.busy_client(60)
        self.shut_down(drain_timeout_ms=50_000)
        self.assertEqual(self.service.ends_by, self.clock.seconds() + 50)
        self.clock.advance(1)
        ended = self.service.stopService()
        self.assertEqual(self.service.ends_by, self.clock.seconds() + 10)
        self.clock.advance(10)
        self.assertEqual(self.assert_clean(ended).cut, 1)

    def test_stop_never_pushes_it_away(self) -> None:
        """A stop while draining never pushes the deadline away."""
        self.busy_client(60)
        self.shut_down(drain_timeout_ms=5_000)
        ended = self.service.stopService()
        self.clock.advance(5)
        self.assertEqual(self.assert_clean(ended).cut, 1)

    def test_work_after_the_end(self) -> None:
        """What a kept connection asks for after the drain's end is cut in the end, and answered."""
        self.start(linger=8)
        self.node.handle("question", while_draining=True)(lambda _: Deferred())
        control = self.shut_down(drain_timeout_ms=5000, lingers=True)
        control.send(message("question", 8))
        self.clock.advance(5)
        self.assertEqual([body.get("code") for body in bodies(control.received)], [None, 0])
        # In its grace it may ask again.
        control.send(message("question", 9))
        self.clock.advance(MAX_GRACE)
        self.assertEqual([body.get("code") for body in bodies(control.received)], [None, 0, 0])
        self.assertEqual(self.assert_clean(self.service.when_ended()).cut, 2)
        self.assertEqual([line for line in self.log if " cut by " in line], ["1 cut by the deadline"] * 2)

    def test_last_client_gone_with_its_cut(self) -> None:
        """A client that was waiting for no more than what is cut in the end, and goes with it, ends the service."""
        self.node.handle("question", while_draining=True)(lambda _: Deferred())
        control = self.shut_down(drain_timeout_ms=5000)
        control.send(message("question", 8))
        control.half_close()
        self.clock.advance(5)
        self.assertTrue(control.gone)
        self.assertEqual(self.assert_clean(self.service.when_ended()).cut, 1)


class EndlessTests(ServiceTestCase):
    """A service that a message's drain does not end, as on standard input."""

    def setUp(self) -> None:
        super().setUp()
        self.start(ends_with_drain=False)

    def test_goes_on(self) -> None:
        """It goes on refusing, for as long as it takes."""
        client = self.connect()
        self.drain.begin(5, "a message")
        self.clock.advance(1000)
        client.send(message("tcp_request", 1))
        self.assertEqual(self.types(client), ["tcp_request_error"])
        self.assertIsNone(self.service.ends_by)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_then_ends(self) -> None:
        """Its end comes when it is asked for, with the time of a drain for the answers to get out."""
        client = self.connect(lingers=True)
        self.drain.begin(5, "a message")
        self.clock.advance(1000)
        ended = self.service.end("standard input ended")
        self.assertEqual(self.service.ends_by, self.clock.seconds() + 10)
        self.assertTrue(client.closed)
        client.close()
        self.assert_clean(ended)

    def test_ends_while_draining(self) -> None:
        """Asked for while draining, the end follows the drain."""
        busy = self.busy_client(3)
        self.drain.begin(5, "a message")
        ended = self.service.end("standard input ended")
        self.assertEqual(self.service.ends_by, self.clock.seconds() + 5)
        self.clock.advance(3)
        self.assertEqual(self.types(busy), ["tcp_request_ok"])
        self.assert_clean(ended)


class CutTests(ServiceTestCase):
    """An impatient second signal."""

    def test_cut(self) -> None:
        """What is in flight is cut and answered at once; connections have their grace from then."""
        busy = self.busy_client(60, lingers=True)
        told: list[float] = []
        self.service.watch_end(told.append)
        ended = self.service.end("SIGTERM")
        self.clock.advance(1)
        self.service.cut("a second SIGTERM")
        self.assertEqual([body["error"] for body in bodies(busy.received)], ["drain_timeout"])
        self.clock.pump([0, MAX_GRACE])
        self.assertEqual(self.assert_clean(ended).cut, 1)
        now = self.clock.seconds()
        self.assertEqual([round(now - each, 6) for each in told], [-8.0, 1.0])

    def test_said(self) -> None:
        """The log names what cut, and each line that tells of a loss is a warning."""
        self.busy_client(60, lingers=True)
        Unread(self.connections, loses=True)
        self.service.end("SIGTERM")
        self.service.cut("a second SIGTERM")
        self.clock.pump([0, MAX_GRACE])
        self.assertEqual(
            self.log[1:],
            [
                "1 cut by a second SIGTERM; the oldest: tcp_request 1 from c1 (0.0 s)",
                "1 connections closed by a second SIGTERM with answers that their clients did not read: a visitor",
                "cut: 0 finished, 0 refused, 2 cut, 0 undelivered, in 0.000 s",
            ],
        )
        self.assertEqual([event["log_level"] for event in self.events[1:]], [LogLevel.warn] * 3)

    def test_busy_client(self) -> None:
        """A client that is likely to ask again is not waited for after a cut, not even while connections close."""
        for cut_first in (True, False):
            self.start()
            busy = Visitor(self.connections, asks_again_within=1)
            self.clock.advance(0.1)
            if cut_first:
                self.service.cut("no time")
            else:
                self.service.end("SIGTERM")
                self.assertEqual(busy.told, ["drain"])
                self.service.cut("a second SIGTERM")
            self.assertEqual(busy.told, ["drain", "last words", "close"])
            busy.leave()
            self.assert_clean(self.service.when_ended())

    def test_lingering(self) -> None:
        """A client that is only lingered for has no more than the grace either, and nothing is cut."""
        self.start(linger=8)
        self.connect(lingers=True)
        ended = self.service.end("SIGTERM")
        self.clock.advance(1)
        self.service.cut("a second SIGTERM")
        self.clock.pump([0, MAX_GRACE])
        self.assertEqual(self.assert_clean(ended).cut, 0)

    def test_first_of_all(self) -> None:
        """A cut without a stop before is a stop that waits for nothing."""
        self.busy_client(60)
        self.service.cut("no time")
        self.assertEqual(self.assert_clean(self.service.when_ended()).cut, 1)

    def test_while_stopping_the_rest(self) -> None:
        """A cut while something is stopped after the drain leaves nothing behind."""
        stopping: Deferred[None] = Deferred()
        self.service.stop_after_drain(lambda: stopping)
        ended = self.service.end("SIGTERM")
        self.clock.advance(1)
        self.service.cut("a second SIGTERM")
        self.assertNoResult(ended)
        stopping.callback(None)
        self.assert_clean(ended)

    def test_after_the_end(self) -> None:
        """A cut after the end changes nothing."""
        ended = self.service.end("SIGTERM")
        self.service.cut("a second SIGTERM")
        self.assertEqual(self.assert_clean(ended).cut, 0)


class Unread(Visitor):
    """A connection whose client has not read everything, and that is gone as soon as it is ended."""

    def close_now(self) -> None:
        self.leave()


class UnreadTests(ServiceTestCase):
    """Answers that could not be delivered."""

    def test_counted(self) -> None:
        """They count as cut in all that is said about the end, however fast their connections are gone."""
        for _ in range(2):
            Unread(self.connections, loses=True)
        ended = self.service.end("SIGTERM")
        self.clock.pump([10, MAX_GRACE])
        self.assertEqual(self.assert_clean(ended).cut, 2)
        self.assertEqual(
            self.log[-2:],
            [
                (
                    "2 connections closed by the deadline with answers that their clients did not read: "
                    "a visitor, a visitor"
                ),
                "cut: 0 finished, 0 refused, 2 cut, 0 undelivered, in 0.000 s",
            ],
        )


class StopAfterDrainTests(ServiceTestCase):
    """What the requests need is stopped when they have ended."""

    def test_order(self) -> None:
        """One after the other, the last one given first, each waited for, after the last connection has gone."""
        order: list[Any] = []
        pool: Deferred[None] = Deferred()

        def stop(name: str, result: Any = None) -> Callable[[], Any]:
            def stopping() -> Any:
                order.append((name, len(self.connections)))
                return result

            return stopping

        self.service.stop_after_drain(stop("database"))
        self.service.stop_after_drain(stop("pool", pool))
        client = self.busy_client(3, lingers=True)
        ended = self.service.stopService()
        self.clock.advance(3)
        self.assertEqual(order, [])
        client.close()
        self.assertEqual(order, [("pool", 0)])
        self.assertNoResult(ended)
        pool.callback(None)
        self.assertEqual(order, [("pool", 0), ("database", 0)])
        self.assert_clean(ended)

    def test_failures(self) -> None:
        """What fails to stop is logged, and keeps nothing else from stopping."""
        stopped: list[str] = []

        def raises() -> None:
            raise ValueError("no")

        self.service.stop_after_drain(lambda: stopped.append("first"))
        self.service.stop_after_drain(raises)
        self.service.stop_after_drain(lambda: fail(ValueError("no")))
        self.assert_clean(self.service.stopService())
        self.assertEqual(stopped, ["first"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)


class StartTests(ServiceTestCase):
    """A service that starts."""

    def test_other_factories(self) -> None:
        """Any factory may listen; the service knows its address once it has started."""
        service = DrainingService(Drain(self.clock))
        endpoint = MemoryEndpoint()
        listener = service.listen(endpoint, Factory.forProtocol(Protocol))
        self.assertIsNone(listener.host)
        service.startService()
        self.assertIsNotNone(listener.host)
        endpoint.connect()

    def test_cannot_listen(self) -> None:
        """A port that cannot be bound is raised, and the others are closed again."""

        @implementer(IStreamServerEndpoint)
        class Taken:
            def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
                return fail(CannotListenError(None, 80, OSError("taken")))

        service = DrainingService(Drain(self.clock))
        before, after = MemoryEndpoint(), MemoryEndpoint()
        for endpoint in (before, Taken(), after):
            service.listen(endpoint, Factory.forProtocol(Protocol))
        self.assertRaises(CannotListenError, service.startService)
        for endpoint in (before, after):
            self.assertRaises(ConnectionRefusedError, endpoint.connect)

    def test_cannot_listen_later(self) -> None:
        """An endpoint that takes its time and fails is logged."""

        @implementer(IStreamServerEndpoint)
        class Slow:
            listening: Deferred[IListeningPort] = Deferred()

            def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
                return self.listening

        service = DrainingService(Drain(self.clock))
        service.listen(endpoint := Slow(), Factory.forProtocol(Protocol))
        service.startService()
        endpoint.listening.errback(ValueError("late"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class StepsInTheLogTests(ServiceTestCase):
    """What an operator reads."""

    def test_clean(self) -> None:
        """Why it began, what is in flight, what is left every five seconds, and how it ended."""
        self.busy_client(7)
        self.connect()
        self.service.end("SIGTERM")
        self.clock.pump([1, 1, 1, 1, 1, 1, 0.8])
        self.assertEqual(
            self.log,
            [
                ("draining, at most 10.0 s: SIGTERM; 1 in flight; the oldest: tcp_request 1 from c1 (0.2 s)"),
                "1 in flight, 2 connections, 5.0 s left; the oldest: tcp_request 1 from c1 (5.2 s)",
                "clean: 1 finished, 0 refused, 0 cut, 0 undelivered, in 6.800 s",
            ],
        )

    def test_waiting_for_clients(self) -> None:
        """After the drain, what is left is connections."""
        self.start(linger=8)
        self.connect(lingers=True)
        self.service.end("SIGTERM")
        self.clock.pump([5, 3])
        self.assertEqual(
            self.log[1:],
            [
                "0 in flight, 1 connections, 5.0 s left",
                "clean: 0 finished, 0 refused, 0 cut, 0 undelivered, in 0.000 s",
            ],
        )


class ServiceOnSocketsTests(TestCase):
    """What only a socket shows."""

    timeout = 20

    async def serve(self, **options: Any) -> tuple[House, DrainingService, socket.socket]:
        """A service on a real socket, whose time is a clock's, and a client that does not read."""
        house = House()
        service = DrainingService(house.drain, drain_timeout=10, linger=2, **options)
        house.node.handle("much")(lambda _: {"data": "x" * 8_000_000})
        factory = house.factory()
        listener = service.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"), factory)
        service.startService()
        host: Any = listener.host
        client = socket.socket()
        self.addCleanup(client.close)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.connect((host.host, host.port))
        client.sendall(message("much", 1))
        while not house.drain.counts.finished:
            await deferLater(reactor, 0.001)
        return house, service, client

    async def test_client_that_does_not_read(self) -> None:
        """Answers that a client has not read at the end count as cut; a dead peer costs no more than the deadline."""
        house, service, _ = await self.serve()
        ended = service.stopService()
        await deferLater(reactor, 0.01)
        self.assertNoResult(ended)
        house.clock.advance(10)
        house.clock.advance(MAX_GRACE)
        statistics = await ended
        self.assertEqual((statistics.cut, statistics.finished, statistics.phase), (1, 1, Phase.DRAINED))
        self.assertEqual(house.clock.getDelayedCalls(), [])

    async def test_queue(self) -> None:
        """Who waits in the queue is counted in the log, refused in so many words, and waited for."""
        house, service, first = await self.serve()
        first.close()
        await service.connections.when_empty()
        log = capture_logs(self)
        host: Any = service._shutdown.listeners[0].host
        clients = [socket.create_connection((host.host, host.port), self.timeout) for _ in range(3)]
        ended = service.stopService()
        self.assertIn(" 3 accepted from the queue; 0 in flight", "\n".join(map(formatEvent, log)))
        for client in clients:
            client.sendall(message("tcp_request", 5))
        for client in clients:
            (body,) = bodies(await deferToThread(client.recv, 1000))
            self.assertEqual(body["error"], "server_shutting_down")
            client.close()
        self.assertEqual((await ended).refused, 3)
        self.assertEqual(house.clock.getDelayedCalls(), [])
