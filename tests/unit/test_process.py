"""``own_process``: what it refuses, and what a child that is forked lets go of."""

from __future__ import annotations

import atexit
import signal
import socket
import threading
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twisted_node import Drain, DrainingService, MisuseError, own_process, process
from twisted_node.process import REPLACE_SIGNAL, SIGNALS
from twisted_node.server._listening import Listener, close_copies
from twisted_node.testing import MemoryEndpoint


class OwnProcessTests(SynchronousTestCase):
    """A process that nobody owns yet."""

    def setUp(self) -> None:
        self.owners: list[Any] = []
        self.patch(process, "_owners", self.owners)
        self.reactor: Any = MemoryReactorClock()
        clock = Clock()
        self.service = DrainingService(Drain(clock, clock.seconds))

    def refusal(self, service: Any, reactor: Any) -> str:
        """The error of a call."""
        return str(self.assertRaises(MisuseError, own_process, service, reactor))

    def test_arguments(self) -> None:
        """An argument that is none is named, with what was expected; nothing has changed by it."""
        self.assertIn("service: expected a DrainingService, got", self.refusal(self.reactor, self.service))
        self.assertIn("reactor: expected a reactor, got", self.refusal(self.service, Clock()))
        self.assertEqual(self.owners, [])

    def test_main_thread(self) -> None:
        """Only the main thread handles signals."""
        said: list[str] = []
        thread = threading.Thread(target=lambda: said.append(self.refusal(self.service, self.reactor)))
        thread.start()
        thread.join()
        self.assertIn("expected to be called in the main thread", said[0])

    def test_twice(self) -> None:
        """A process ends with one service."""
        self.owners.append(object())
        self.assertIn("expected to be called once", self.refusal(self.service, self.reactor))

    def test_forked_child(self) -> None:
        """A child handles signals as before, wakes no reactor, and has no exit hook of ours."""
        wakeup = signal.set_wakeup_fd(-1)
        self.addCleanup(signal.set_wakeup_fd, wakeup)
        before = {number: signal.getsignal(number) for number in SIGNALS}
        own_process(self.service, self.reactor)
        (owner,) = self.owners
        self.assertEqual({signal.getsignal(number) for number in SIGNALS} - {signal.SIG_IGN}, {owner._signalled})
        atexit.register(owner._exit)
        # One that the program handles itself by now is left to it.
        self.addCleanup(signal.signal, signal.SIGHUP, before[signal.SIGHUP])
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        owner._disown()
        after = {number: signal.getsignal(number) for number in SIGNALS}
        self.assertEqual(after, {**before, signal.SIGHUP: signal.SIG_IGN})
        self.assertEqual(signal.set_wakeup_fd(-1), -1)


class ReplaceTests(SynchronousTestCase):
    """The signal that has another process take the place of this one."""

    def setUp(self) -> None:
        self.patch(process, "_owners", [])
        self.reactor = cast(Any, MemoryReactorClock())
        self.called: list[tuple[Any, ...]] = []
        self.reactor.callFromThread = lambda *call: self.called.append(call)
        clock = Clock()
        self.drain = Drain(clock, clock.seconds)
        self.service = DrainingService(self.drain, lame_duck=5)
        for number in (*SIGNALS, REPLACE_SIGNAL):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        # What is closed in a child is not this process's to lose.
        self.addCleanup(signal.set_wakeup_fd, signal.set_wakeup_fd(-1))
        self.patch(process, "close_copies", lambda: None)
        self.patch(process, "close_lines", lambda: None)
        signal.signal(REPLACE_SIGNAL, signal.SIG_DFL)

    def start(self) -> Any:
        own_process(self.service, self.reactor)
        for function, arguments, options in self.reactor.whenRunningHooks[:1]:
            function(*arguments, **options)
        return process._owners[0]

    def test_asked_for(self) -> None:
        """It asks for a replacement in the reactor's turn; that there is none is for the log to say."""
        owner = self.start()
        signal.raise_signal(REPLACE_SIGNAL)
        self.assertEqual(self.called, [(owner._replace,)])
        with capturedLogs() as logs:
            owner._replace()
        self.assertIn("its reactor cannot start a process", str(logs[0]["why"]))

    def test_own_handler(self) -> None:
        """A program that handles the signal itself goes on doing so, and the log says what that costs."""
        handler = lambda *_: None  # noqa: E731 - it is compared
        signal.signal(REPLACE_SIGNAL, handler)
        owner = self.start()
        self.assertIs(signal.getsignal(REPLACE_SIGNAL), handler)
        self.service.startService()
        self.service.listen(MemoryEndpoint(), Factory())
        with capturedLogs() as logs:
            owner._look_at_service()
        self.assertIn("SIGUSR2 is left to the program", logs[0]["log_format"])
        owner._disown()
        self.assertIs(signal.getsignal(REPLACE_SIGNAL), handler)

    def test_next_signal(self) -> None:
        """After a handover the next signal ends the lame duck, as a second one does."""
        owner = self.start()
        for watcher in self.service._handover.watchers:
            watcher(77)
        self.service.end("process 77 has taken over", lame_duck=5)
        owner._signalled(signal.SIGTERM, None)
        ((end, name),) = self.called
        end(name)
        self.assertTrue(self.drain.ended)

    def test_next_signal_in_the_drain(self) -> None:
        """Once that lame duck is over, the next signal is the first: it cuts nothing."""
        owner = self.start()
        for watcher in self.service._handover.watchers:
            watcher(77)
        self.drain.track("work", Deferred())
        self.service.end("process 77 has taken over")
        owner._signalled(signal.SIGTERM, None)
        self.assertEqual(self.called, [(owner._stop, "SIGTERM")])

    def test_ignored(self) -> None:
        """Where the signal was ignored from the start, it stays so, without a word."""
        signal.signal(REPLACE_SIGNAL, signal.SIG_IGN)
        owner = self.start()
        self.service.startService()
        self.service.listen(MemoryEndpoint(), Factory())
        with capturedLogs() as logs:
            owner._look_at_service()
        self.assertEqual(logs, [])

    def test_forked_child(self) -> None:
        """A child handles it as before."""
        owner = self.start()
        owner._disown()
        self.assertIs(signal.getsignal(REPLACE_SIGNAL), signal.SIG_DFL)


class CopyTests(SynchronousTestCase):
    """Listening sockets in a child that was forked."""

    def test_closed(self) -> None:
        """Each that is open is closed."""
        listening = socket.socket()
        self.addCleanup(listening.close)
        listener, closed = (Listener(MemoryEndpoint(), Factory(), Clock(), patience=0) for _ in range(2))
        listener._port = SimpleNamespace(socket=listening)  # type: ignore[assignment] # as much of one as is looked at
        close_copies()
        self.assertEqual(listening.fileno(), -1)
        self.assertIs(closed._port, None)
