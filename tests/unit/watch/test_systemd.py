"""What systemd is told, by stand-ins for its socket; and the unit files."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.systemd import Systemd
from twisted_node import Drain, DrainingService
from twisted_node.watch._systemd import Notifier


class NotifierTests(SynchronousTestCase):
    """A server on a clock of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.service = DrainingService(self.drain, drain_timeout=300, lame_duck=20)
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "notify")
        self.systemd = Systemd(self.path)
        self.addCleanup(self.systemd.socket.close)
        self.notifier = Notifier(self.service, self.path)

    def start(self) -> None:
        self.service.startService()
        self.notifier.startService()

    def fill(self) -> int:
        """Fill systemd's queue as far as one socket may; return with how many messages."""
        filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(filler.close)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filler.sendto(b"STATUS=filler", self.path)
                sent += 1
        return sent

    def pump(self, seconds: int) -> list[dict[str, str]]:
        """Let time pass; return what was told meanwhile."""
        told = self.systemd.receive_all()
        for _ in range(seconds):
            self.clock.advance(1)
            told += self.systemd.receive_all()
        return told

    def test_serving(self) -> None:
        """It says ready once, and the numbers every ten seconds."""
        self.start()
        self.assertEqual(self.pump(0), [{"READY": "1", "STATUS": "serving: 0 in flight, 0 connections"}])
        self.drain.track("a", Deferred())
        self.drain.track("b", Deferred())
        told = self.pump(30)
        self.assertEqual(
            [told[0]["STATUS"], len(told)], ["serving: 2 in flight, 0 connections; the oldest: a (10.0 s)", 3]
        )
        self.assertEqual({key for each in told for key in each}, {"STATUS"})

    def test_handed_over(self) -> None:
        """The last thing it says is which process is the main one: the rest is for that one to say."""
        self.start()
        self.pump(0)
        for watcher in self.service._handover.watchers:
            watcher(77)
        self.assertEqual(self.pump(0), [{"MAINPID": "77"}])
        self.service.end("process 77 has taken over", lame_duck=5)
        self.assertEqual(self.pump(20), [])
        self.assertTrue(self.drain.ended)

    def test_taking_over(self) -> None:
        """It is silent until a predecessor lets the server accept, and says nothing at all if that ends before."""
        self.service._handover._inheritance.waits = True
        self.addCleanup(setattr, self.service._handover._inheritance, "waits", False)
        self.start()
        self.assertEqual(self.pump(20), [])
        self.service._handover._inheritance.begin()
        self.assertEqual(self.pump(0)[0]["READY"], "1")

    def test_not_taking_over(self) -> None:
        """A server that ends before it has accepted anything is never ready."""
        self.service._handover._inheritance.waits = True
        self.addCleanup(setattr, self.service._handover._inheritance, "waits", False)
        self.start()
        self.service.end("the predecessor does not wait")
        self.pump(1)
        self.service._handover._inheritance.begin()
        self.assertEqual(self.pump(1), [])

    def test_draining(self) -> None:
        """A drain longer than any TimeoutStopSec is announced, and its time claimed again and again."""
        self.start()
        work: Deferred[None] = Deferred()
        self.drain.track("slow one", work)
        self.pump(0)
        self.notifier.stopService()
        self.service.stopService()
        self.service.end("SIGTERM")
        first, *told = self.pump(200)
        self.assertEqual(first["STOPPING"], "1")
        self.assertEqual([each for each in told if "STOPPING" in each], [])
        self.assertEqual(len(told), 200)
        claims = [int(each["EXTEND_TIMEOUT_USEC"]) for each in [first, *told]]
        self.assertEqual((claims[0], claims[-1]), (302_000_000, 102_000_000))
        self.assertIn("1 in flight, 0 connections, 100 s left; the oldest: slow one (200.0 s)", told[-1]["STATUS"])
        self.drain.begin(5, "SIGTERM")
        (nearer,) = self.pump(0)
        self.assertEqual(nearer["EXTEND_TIMEOUT_USEC"], "7000000")
        self.assertNotIn("STOPPING", nearer)
        work.callback(None)
        self.assertEqual(self.pump(0)[-1], {"STATUS": "clean: 1 finished, 0 refused, 0 cut, 0 undelivered"})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lame_duck(self) -> None:
        """In a lame duck the server is not stopping yet; it claims what is left of that and of its drain."""
        self.start()
        self.drain.track("slow one", Deferred())
        self.pump(0)
        self.service.stopService()
        told = self.pump(19)
        self.assertEqual([each for each in told if "STOPPING" in each], [])
        claims = [int(each["EXTEND_TIMEOUT_USEC"]) for each in told]
        self.assertEqual(claims, [seconds * 1_000_000 for seconds in range(321, 302, -1)])
        told = self.pump(1)
        self.assertEqual([each["STOPPING"] for each in told if "STOPPING" in each], ["1"])

    def test_never_ready(self) -> None:
        """A server that was stopped before it started is not said to be ready."""
        self.service.end("SIGTERM")
        self.start()
        told = self.pump(0)
        self.assertEqual([each for each in told if "READY" in each], [])
        self.assertEqual(
            [told[0]["STOPPING"], told[-1]["STATUS"]], ["1", "clean: 0 finished, 0 refused, 0 cut, 0 undelivered"]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_names_cannot_speak(self) -> None:
        """A request's name cannot slip in a line of its own."""
        self.start()
        self.drain.track("x\nMAINPID=1", Deferred())
        self.pump(0)
        self.assertEqual([key for each in self.pump(10) for key in each], ["STATUS"])

    def test_busy(self) -> None:
        """Numbers that find systemd's queue full are dropped; what it must know is said later."""
        self.start()
        self.drain.track("slow one", Deferred())
        while self.fill():
            pass
        self.service.end("SIGTERM")
        self.systemd.receive_all()
        self.assertEqual(self.pump(1)[0]["STOPPING"], "1")

    def test_nobody_listens(self) -> None:
        """A socket that is gone is complained of once, and harms nothing."""
        self.systemd.socket.close()
        os.unlink(self.path)
        self.start()
        self.clock.pump([1] * 30)
        self.service.end("SIGTERM")
        self.successResultOf(self.service.when_ended())

    def test_environment(self) -> None:
        """The address is taken out of the environment, where child processes would find it."""
        environment = {"NOTIFY_SOCKET": self.path}
        self.assertIsNot(Notifier.from_environment(self.service, environment), None)
        self.assertEqual(environment, {})
        self.assertIs(Notifier.from_environment(self.service, environment), None)
        self.assertIs(Notifier.from_environment(self.service, {"NOTIFY_SOCKET": "vsock:2:1234"}), None)
