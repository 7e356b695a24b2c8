"""The process whose place this one takes, with a reactor in memory."""

from __future__ import annotations

import os
import socket

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.handover_reactor import HandoverReactor
from twisted_node._version import VERSION
from twisted_node.handover._inheritance import Inheritance
from twisted_node.handover._predecessor import Predecessor, PredecessorState


class PredecessorTests(SynchronousTestCase):
    """One that has handed on two sockets, of which the first is wanted."""

    def setUp(self) -> None:
        self.reactor = HandoverReactor()
        self.line, other_end = socket.socketpair()
        self.handed = [socket.create_server(("127.0.0.1", 0)).detach() for _ in range(2)]
        for closed_later in (self.line, other_end):
            self.addCleanup(closed_later.close)
        self.inheritance = Inheritance([("a", self.handed[0]), ("b", self.handed[1])], self.line.fileno(), 99)
        taken = self.inheritance.take("a")
        assert taken is not None
        self.addCleanup(taken.close)
        self.addCleanup(self.inheritance.close_rest)
        self.gave_up: list[str] = []
        self.may_be_ready = True

    def start(self) -> Predecessor:
        predecessor = Predecessor(
            self.inheritance,
            self.line.fileno(),
            self.reactor,
            give_up=self.gave_up.append,
            may_be_ready=lambda: self.may_be_ready,
        )
        self.reactor.advance(0)
        return predecessor

    def ready(self) -> bytes:
        return f"ready {os.getpid()} {VERSION} 0".encode()

    def test_taken_over(self) -> None:
        """We say that we are ready, and accept when it lets us go; it is gone when its line has ended."""
        predecessor = self.start()
        self.assertEqual(self.reactor.said(), [self.ready()])
        self.assertRaises(OSError, os.fstat, self.handed[1])
        our_turn = self.inheritance.when_our_turn()
        self.assertNoResult(our_turn)
        predecessor.tell_stop(3)
        with capturedLogs() as logs:
            self.reactor.hear(b"go")
        self.assertEqual(logs[0]["pid"], 99)
        self.successResultOf(our_turn)
        self.successResultOf(self.inheritance.when_our_turn())
        predecessor.tell_stop(3)
        predecessor.tell_stop(-1)
        self.assertEqual(self.reactor.said(), [b"stop 3.000", b"stop 0.000"])
        gone = predecessor.when_gone()
        self.reactor.hear(b"ended 0")
        self.assertNoResult(gone)
        self.reactor.lose_line()
        self.successResultOf(gone)
        self.successResultOf(predecessor.when_gone())
        self.assertEqual((predecessor.state, predecessor.status), (PredecessorState.GONE, 0))
        self.assertEqual(self.gave_up, [])

    def test_ends_without_a_word(self) -> None:
        """One that is killed has ended with status 1."""
        predecessor = self.start()
        self.reactor.hear(b"go")
        self.reactor.lose_line()
        self.assertEqual(predecessor.status, 1)

    def test_needed(self) -> None:
        """We are ready when all that is needed is there."""
        late: Deferred[str] = Deferred()
        self.inheritance.need(late)
        self.inheritance.need(succeed(1))
        self.start()
        self.assertEqual(self.reactor.said(), [])
        late.callback("its result")
        self.assertEqual(self.reactor.said(), [self.ready()])
        self.assertEqual(self.successResultOf(late), "its result")

    def test_needed_fails(self) -> None:
        """Something that is needed fails: we say so, and give up."""
        failing = fail(OSError("no database"))
        self.inheritance.need(failing)
        self.start()
        self.assertEqual(self.reactor.said(), [b"failed no database"])
        self.assertEqual(self.gave_up, ["not ready: no database"])
        self.failureResultOf(failing, OSError)

    def test_ending_ourselves(self) -> None:
        """We are being stopped already: we are not ready."""
        self.may_be_ready = False
        self.start()
        self.assertEqual(self.reactor.said(), [])

    def test_it_does_not_wait(self) -> None:
        """Its line ends before it has let us go: we give up, and are ready for nobody any more."""
        late: Deferred[None] = Deferred()
        self.inheritance.need(late)
        self.start()
        self.reactor.lose_line()
        late.callback(None)
        self.assertEqual(self.gave_up, ["process 99 does not wait for this one any more"])
        self.assertTrue(self.inheritance.waits)
