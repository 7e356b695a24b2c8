"""The process that is to take our place, with a reactor in memory."""

from __future__ import annotations

import errno
import json
import os
import socket

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.handover_reactor import START, HandoverReactor
from twisted_node import HandoverError
from twisted_node.handover import _line
from twisted_node.handover._inheritance import VARIABLE
from twisted_node.handover._successor import Ready, Successor, SuccessorState, _is_open


class SuccessorTests(SynchronousTestCase):
    """One that is handed two sockets, of which somebody else has opened one."""

    def setUp(self) -> None:
        self.patch(_line, "_kept", set())
        self.reactor = HandoverReactor()
        self.stopped: list[float] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.successor = Successor(self.reactor, self.reactor, patience=60, stopped=self.stopped.append)
        self.addCleanup(_line.close_lines)

    def start(self) -> Deferred[Ready]:
        descriptor = self.listening.fileno()
        ready = self.successor.start(START, [('["tcp", "", 80]', descriptor)], {12: descriptor})
        self.process = self.reactor.processes[0]
        # One that a test does not look at has ended by its end.
        self.addCleanup(ready.addErrback, lambda _: None)
        return ready

    def reason(self, ready: Deferred[Ready]) -> str:
        """Why there is none."""
        self.assertIs(self.successor.state, SuccessorState.FAILED)
        self.assertEqual(_line._kept, set())
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if call.active()], [])
        return str(self.failureResultOf(ready, HandoverError).value)

    def test_started(self) -> None:
        """It gets its command, its folder, its sockets and a line; nothing of that stays open here but the line."""
        opened = len(os.listdir("/proc/self/fd"))
        self.start()
        self.assertEqual(self.process.arguments, [b"/bin/python", b"-m", b"program"])
        self.assertEqual((self.process.path, self.process.environment[b"PATH"]), (b"/srv", b"/bin"))
        told = json.loads(self.process.environment[VARIABLE.encode()])
        self.assertEqual(told["sockets"], [['["tcp", "", 80]', 13]])
        self.assertEqual((told["line"], told["predecessor"]), (14, os.getpid()))
        self.assertEqual(told["inode"], self.process.inodes[14])
        inode = os.fstat(self.listening.fileno()).st_ino
        self.assertEqual([self.process.inodes[number] for number in (12, 13)], [inode, inode])
        self.assertEqual(len(os.listdir("/proc/self/fd")), opened + 1)

    def test_goes(self) -> None:
        """It says that it is ready, and is told to go; the launcher of a daemon may have ended."""
        ready = self.start()
        self.process.end()
        self.assertNoResult(ready)
        self.reactor.hear(b"ready 77 1.2 0,3")
        self.assertEqual(self.successResultOf(ready), Ready(77, "1.2", frozenset({0, 3})))
        self.assertEqual(self.successor.pid, 77)
        self.successor.go()
        self.reactor.hear(b"ready 78 1.2 -", b"stop 2.5")
        self.assertEqual((self.successor.pid, self.stopped), (77, [2.5]))
        self.successor.abandon("too late")
        self.successor.tell_end(1)
        self.assertEqual(self.reactor.said(), [b"go", b"ended 1"])
        self.reactor.advance(100)
        self.reactor.lose_line()
        self.assertIs(self.successor.state, SuccessorState.GONE)
        self.assertFalse(self.process.killed)

    def test_ends(self) -> None:
        """It ends before it is ready; how, and its last words, are told."""
        for end, said, expected in (
            (
                {"status": 3},
                (),
                "process 4321: it ended with status 3 before it was ready; what it has logged says why",
            ),
            (
                {"signal": 9},
                (),
                "process 4321: it was ended by SIGKILL before it was ready; what it has logged says why",
            ),
            ({"status": 1}, (b"failed the port is taken",), "process 4321: the port is taken"),
        ):
            self.setUp()
            ready = self.start()
            self.reactor.hear(*said)
            self.reactor.lose_line()
            self.assertNoResult(ready)
            self.process.end(**end)
            self.assertEqual(self.reason(ready), expected)

    def test_daemon_ends(self) -> None:
        """The launcher of a daemon has ended well, and then the daemon ends."""
        ready = self.start()
        self.process.end()
        self.reactor.lose_line()
        self.assertIn("it ended with status 0 before it was ready", self.reason(ready))

    def test_ends_without_ending(self) -> None:
        """Its line ends, and it does not: it is killed after a second."""
        ready = self.start()
        self.reactor.lose_line()
        self.reactor.advance(0.9)
        self.assertFalse(self.process.killed)
        self.reactor.advance(0.2)
        self.assertTrue(self.process.killed)
        self.process.end(signal=9)
        self.reason(ready)

    def test_time_is_up(self) -> None:
        """It is not ready in time: it is killed, and what it says then comes too late."""
        ready = self.start()
        self.reactor.advance(60)
        self.assertTrue(self.process.killed)
        self.successor.tell_end(0)
        self.process.end(signal=9)
        self.assertEqual(self.reason(ready), "process 4321: it was not ready after 60 s, and was killed")

    def test_abandoned(self) -> None:
        """It is not wanted any more; its launcher may have ended already."""
        ready = self.start()
        self.process.end()
        self.successor.abandon("enough")
        self.assertEqual(self.reason(ready), "process 4321: enough")

    def test_speaks_nonsense(self) -> None:
        """What it says is not understood: its line is ended, and it fails."""
        for said in (b"ready 1", b"stop soon", b"hello"):
            self.setUp()
            ready = self.start()
            self.reactor.hear(said)
            self.process.end(1)
            self.assertIn("it ended with status 1", self.reason(ready))

    def test_stop_before_it_goes(self) -> None:
        """It has nothing to say about our end before it serves."""
        ready = self.start()
        self.reactor.hear(b"stop 1")
        self.assertEqual(self.stopped, [])
        self.process.end()
        self.reactor.lose_line()
        self.reason(ready)

    def test_cannot_be_started(self) -> None:
        """The system cannot start a process, or has no descriptor left."""
        self.reactor.cannot_start = OSError(errno.EAGAIN, "no more processes")
        ready = self.successor.start(START, [], {})
        self.assertEqual(self.reason(ready), "it cannot be started: [Errno 11] no more processes")
        self.setUp()

        def no_pair() -> None:
            raise OSError(errno.EMFILE, "too many files")

        self.patch(socket, "socketpair", no_pair)
        ready = self.successor.start(START, [], {})
        self.assertEqual(self.reason(ready), "it cannot be started: [Errno 24] too many files")

    def test_closed_standard_streams(self) -> None:
        """A descriptor that is not open is not handed on."""
        self.assertFalse(_is_open(-1))
