"""The handover of a service, with a reactor in memory and real listening sockets."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.handover_reactor import START, HandoverReactor, let_be_replaced
from twisted_node import Drain, DrainingService, ErrorCode, HandoverError, MisuseError, Phase
from twisted_node.handover import _inheritance, _supervisors
from twisted_node.handover._inheritance import Inheritance
from twisted_node.names import peer_name
from twisted_node.server import _handover
from twisted_node.testing import MemoryEndpoint

# Its interfaces depend on the platform.
reactor: Any = _reactor

TCP = "tcp:0:interface=127.0.0.1"

NOT_NOW, NOT_HERE = ErrorCode.TEMPORARILY_UNAVAILABLE, ErrorCode.PRECONDITION_FAILED


class HandoverTestCase(SynchronousTestCase):
    """A service whose process anybody may take the place of."""

    def setUp(self) -> None:
        let_be_replaced(self)
        self.reactor = HandoverReactor()

    def make(self, lame_duck: float = 0.0, clock: Any = None) -> DrainingService:
        clock = clock or self.reactor
        self.drain = Drain(clock, self.reactor.seconds)
        self.service = DrainingService(self.drain, lame_duck=lame_duck)
        self.addCleanup(self.service.end, "the test is over")
        return self.service

    def listen(self, endpoint: Any = None) -> Any:
        factory = Factory()
        factory.noisy = False
        return self.service.listen(endpoint or serverFromString(reactor, TCP), factory)


class SuccessorTests(HandoverTestCase):
    """Another process takes the place of this one."""

    def start(self, lame_duck: float = 0.0) -> None:
        self.make(lame_duck)
        self.first, self.second = self.listen(), self.listen()
        self.service.startService()

    def hand_over(self, said: bytes = b"ready 77 1.2 0,1") -> int:
        replaced = self.service.replace()
        self.reactor.hear(said)
        return self.successResultOf(replaced)

    def why_not(self, replaced: Deferred[int], code: ErrorCode = ErrorCode.ABORT) -> str:
        error = self.failureResultOf(replaced, HandoverError).value
        self.assertEqual(error.code, code)
        return str(error)

    def test_handed_over(self) -> None:
        """The successor is told to go, our copies are closed, and we are a lame duck for at least a second."""
        self.start()
        told: list[int] = []
        self.service.watch_handover(told.append)
        self.service.watch_handover(lambda _: self.assertEqual(self.reactor.said(), []))
        self.assertEqual(self.hand_over(), 77)
        self.assertEqual(told, [77])
        self.assertEqual(self.reactor.said(), [b"go"])
        self.assertFalse(self.first.is_open or self.second.is_open)
        self.assertIs(self.drain.phase, Phase.LAME_DUCK)
        self.reactor.advance(0.9)
        self.assertIs(self.drain.phase, Phase.LAME_DUCK)
        self.reactor.advance(0.2)
        self.successResultOf(self.service.when_ended())
        self.assertEqual(self.reactor.said(), [b"ended 0"])
        self.assertEqual(self.drain.reason, "process 77 has taken over")

    def test_longer_lame_duck(self) -> None:
        """A lame duck that is longer than a second is as long as it is; clients go at their next answer."""
        self.start(lame_duck=3)
        self.hand_over()
        shedding = self.service.connections.shedding
        assert shedding is not None
        self.assertEqual(shedding.chance, 1)
        self.reactor.advance(2.9)
        self.assertIs(self.drain.phase, Phase.LAME_DUCK)
        self.reactor.advance(0.2)
        self.assertTrue(self.drain.ended)

    def test_what_the_successor_lacks(self) -> None:
        """A listener that the successor does not take is closed as in any shutdown, and the log names it."""
        self.start()
        closed: list[str] = []

        def noted(name: str, listener: Any, action: str) -> None:
            act = getattr(listener, action)

            def note_and_act() -> Any:
                closed.append(f"{name} {action}")
                return act()

            self.patch(listener, action, note_and_act)

        for name, listener in (("first", self.first), ("second", self.second)):
            for action in ("close", "leave_to_successor"):
                noted(name, listener, action)
        address = peer_name(self.first.host)
        with capturedLogs() as events:
            self.hand_over(b"ready 77 1.2 1")
        self.assertEqual(closed[:2], ["first close", "second leave_to_successor"])
        warned = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual(warned, [f"{address} is closed: process 77 does not listen there"])

    def test_cut(self) -> None:
        """The successor is told of what was cut; when it is stopped itself, we drain at once, and by its deadline."""
        self.start()
        self.hand_over()
        self.drain.track("work", Deferred()).addErrback(lambda _: None)
        self.reactor.said()
        self.reactor.hear(b"stop 2")
        self.assertIs(self.drain.phase, Phase.DRAINING)
        self.reactor.advance(2)
        self.successResultOf(self.service.when_ended())
        self.assertEqual(self.reactor.said(), [b"ended 1"])
        self.assertEqual(self.service.exit_status, 1)

    def test_fails(self) -> None:
        """A successor that does not come changes nothing, and the next one may."""
        self.start()
        with capturedLogs() as logs:
            replaced = self.service.replace()
            self.assertIn("is to take its place already", self.why_not(self.service.replace(), NOT_NOW))
            self.reactor.lose_line()
            self.assertIn("is to take its place already", self.why_not(self.service.replace(), NOT_NOW))
            self.reactor.processes[0].end(1)
        why = self.why_not(replaced)
        self.assertEqual(str(logs[-1]["why"]), why)
        self.assertIs(self.drain.phase, Phase.SERVING)
        self.assertTrue(self.first.is_open)
        self.assertEqual(self.hand_over(), 77)

    def test_patience(self) -> None:
        """A successor is waited for as long as is wished, within reason."""
        self.start()
        self.assertRaises(MisuseError, self.service.replace, patience=-1)
        replaced = self.service.replace(patience=3)
        self.reactor.advance(3)
        self.reactor.processes[0].end(signal=9)
        self.assertIn("not ready after 3 s", self.why_not(replaced))

    def test_cannot_be_started(self) -> None:
        """The system cannot start a process; it may later."""
        self.start()
        self.reactor.cannot_start = OSError(11, "no more processes")
        self.assertIn("it cannot be started", self.why_not(self.service.replace()))
        self.reactor.cannot_start = None
        self.hand_over()

    def test_stopped_meanwhile(self) -> None:
        """A stop, or a drain that a message begins, kills a successor that does not serve yet."""
        self.start()
        replaced = self.service.replace()
        self.service.end("SIGTERM", lame_duck=5)
        self.assertTrue(self.reactor.processes[0].killed)
        self.reactor.processes[0].end(signal=9)
        self.assertEqual(self.why_not(replaced), "process 4321: this process is to end: SIGTERM")
        self.setUp()
        self.start()
        self.service.replace().addErrback(lambda _: None)
        self.drain.begin(5, "a message")
        self.assertTrue(self.reactor.processes[0].killed)
        self.reactor.processes[0].end(signal=9)

    def test_refused(self) -> None:
        """It is ending, waits for its own turn, or nothing can be started or handed on."""
        self.start()
        self.service.end("SIGTERM", lame_duck=5)
        self.assertEqual(self.why_not(self.service.replace(), NOT_NOW), "it is ending already")
        self.make(clock=Clock())
        self.assertIn("its reactor cannot start a process", self.why_not(self.service.replace(), NOT_HERE))
        self.make()
        self.listen(MemoryEndpoint())
        self.service.startService()
        why_not = self.why_not(self.service.replace(), ErrorCode.NOT_SUPPORTED)
        self.assertIn("standard input cannot be handed on", why_not)

    def test_unknown_endpoint(self) -> None:
        """An endpoint that does not ask a known reactor has a socket that nobody could find again."""
        self.start()
        self.first._asked = None
        self.assertIn("an endpoint does not ask the reactor", self.why_not(self.service.replace(), NOT_HERE))

    def test_supervised(self) -> None:
        """Somebody takes the end of this process for the service's."""
        self.start()
        self.patch(_supervisors, "own_pidfile", lambda: "x.pid")
        self.assertIn("the pidfile x.pid", self.why_not(self.service.replace(), NOT_HERE))

    def test_untold_systemd(self) -> None:
        """Whoever watches a handover need not be somebody who tells systemd of it."""
        self.patch(_handover, "START", type(START)(100, 99, "python", ("python",), "/", {b"NOTIFY_SOCKET": b"/run/x"}))
        self.start()
        self.service.watch_handover(lambda _: None)
        self.assertIn("nobody here tells systemd", self.why_not(self.service.replace(), NOT_HERE))
        self.service.watch_handover(lambda _: None, tells_systemd=True)
        self.assertEqual(self.hand_over(), 77)

    def test_sockets_of_others(self) -> None:
        """A socket that somebody else has opened keeps its number, whether we listen with it or not."""
        environment = {b"LISTEN_PID": b"100", b"LISTEN_FDS": b"0"}
        self.patch(_handover, "START", type(START)(100, 99, "python", ("python",), "/", environment))
        self.make()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            number = os.dup(listening.fileno())
            listener = self.listen(AdoptedStreamServerEndpoint(reactor, number, socket.AF_INET))
            self.service.startService()
            replaced = self.service.replace()
            process = self.reactor.processes[0]
            self.assertEqual(process.inodes[number], os.fstat(listening.fileno()).st_ino)
            self.reactor.hear(b"ready 77 1.2 -")
            self.successResultOf(replaced)
        self.assertFalse(listener.is_open)


class PredecessorTests(HandoverTestCase):
    """This process takes the place of another."""

    def setUp(self) -> None:
        super().setUp()
        line, other_end = socket.socketpair()
        self.addCleanup(line.close)
        self.addCleanup(other_end.close)
        self.patch(_inheritance, "inherited", Inheritance((), line.fileno(), 99))
        self.make()

    def start(self) -> None:
        self.service.startService()
        self.reactor.advance(0)

    def go(self) -> None:
        self.start()
        self.assertTrue(self.reactor.said()[0].startswith(b"ready "))
        self.reactor.hear(b"go")

    def test_takes_over(self) -> None:
        """The service accepts when it is told to go."""
        self.start()
        accepting = self.service.when_accepting()
        self.assertNoResult(accepting)
        why_not = self.failureResultOf(self.service.replace(), HandoverError).value
        self.assertEqual(str(why_not), "it does not serve yet")
        self.reactor.hear(b"go")
        self.successResultOf(accepting)

    def test_ready_after(self) -> None:
        """It is ready when the program is."""
        connected: Deferred[str] = Deferred()
        self.service.ready_after(connected)
        self.start()
        self.assertEqual(self.reactor.said(), [])
        connected.callback("a database")
        self.assertTrue(self.reactor.said()[0].startswith(b"ready "))

    def test_second_service(self) -> None:
        """Only the first service of a process speaks on the line."""
        self.start()
        self.make()
        self.start()
        self.assertEqual(len(self.reactor.lines), 1)

    def test_gives_up(self) -> None:
        """The predecessor does not wait any more: the service ends, and so does the process, with status 1."""
        self.start()
        with capturedLogs() as logs:
            self.reactor.lose_line()
        self.assertEqual(logs[0]["why"], "process 99 does not wait for this one any more")
        self.successResultOf(self.service.when_ended())
        self.assertEqual(self.service.exit_status, 1)

    def test_ends_after_the_predecessor(self) -> None:
        """One that is stopped sooner tells its predecessor, waits for its end, and has the worse status of both."""
        for said, status in ((b"ended 0", 0), (b"ended 1", 1)):
            self.setUp()
            self.go()
            self.service.drain_timeout = 7
            ended = self.service.end("SIGTERM")
            self.assertEqual(self.reactor.said(), [b"stop 7.000"])
            self.reactor.hear(said)
            self.assertNoResult(ended)
            self.reactor.lose_line()
            self.successResultOf(ended)
            self.assertEqual(self.service.exit_status, status)

    def test_replaced(self) -> None:
        """One that is replaced in its turn lets its predecessor have its own time, unless it is stopped then."""
        self.go()
        self.reactor.said()
        replaced = self.service.replace()
        self.reactor.hear(b"ready 77 1.2 -")
        self.assertEqual(self.successResultOf(replaced), 77)
        self.assertEqual(self.reactor.said(0), [])
        self.drain.track("work", Deferred())
        self.service.end("SIGTERM")
        self.assertEqual(self.reactor.said(0), [b"stop 25.000"])

    def test_ends_later(self) -> None:
        """The status of a predecessor that had ended before is its own."""
        self.go()
        self.reactor.hear(b"ended 1")
        self.reactor.lose_line()
        self.successResultOf(self.service.end("SIGTERM"))
        self.assertEqual(self.service.exit_status, 0)

    def test_stopped_before(self) -> None:
        """One that is stopped before it is its turn is not ready."""
        self.service.startService()
        self.service.end("SIGTERM")
        self.reactor.advance(0)
        self.assertEqual(self.reactor.said(), [])
