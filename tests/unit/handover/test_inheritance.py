"""What a predecessor handed on."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.handover import _line
from twisted_node.handover._inheritance import VARIABLE, Inheritance, inherit, tell_successor


class InheritTests(SynchronousTestCase):
    """The variable that tells of it."""

    def setUp(self) -> None:
        self.patch(_line, "_kept", set())
        self.line, self.other_end = socket.socketpair()
        self.listening = socket.create_server(("127.0.0.1", 0))
        for each in (self.line, self.other_end, self.listening):
            self.addCleanup(each.close)

    def told(self, **changed: object) -> dict[str, str]:
        """An environment with the variable."""
        line = self.line.fileno()
        told = tell_successor(line, os.fstat(line).st_ino, [("a", self.listening.fileno())])
        text = told[VARIABLE.encode()].decode()
        for name, value in changed.items():
            text = text.replace(f'"{name}":', f'"{name}": {value}, "was":')
        return {VARIABLE: text, "OTHER": "1"}

    def nothing(self, environment: dict[str, str]) -> None:
        """Nothing is taken over, and the variable is removed all the same."""
        with capturedLogs() as logs:
            inheritance = inherit(environment)
        self.assertFalse(inheritance.waits)
        self.assertEqual(environment, {"OTHER": "1"})
        self.assertEqual([event["variable"] for event in logs], [VARIABLE])

    def test_none(self) -> None:
        """Without the variable there is no predecessor."""
        inheritance = inherit({})
        self.assertFalse(inheritance.waits)
        self.assertIsNone(inheritance.claim_line())
        self.successResultOf(inheritance.when_our_turn())
        inheritance.need(Deferred())
        inheritance.tell_failed("nobody is told")
        self.assertEqual(inheritance.needed, [])

    def test_taken_over(self) -> None:
        """The variable is removed, all descriptors are closed on exec, and a socket is found by what was asked for."""
        environment = self.told()
        for each in (self.line, self.listening):
            os.set_inheritable(each.fileno(), True)
        inheritance = inherit(environment)
        self.assertEqual(environment, {"OTHER": "1"})
        self.assertEqual((inheritance.waits, inheritance.predecessor), (True, os.getpid()))
        self.assertEqual(_line._kept, {self.line.fileno()})
        self.assertFalse(os.get_inheritable(self.line.fileno()) or os.get_inheritable(self.listening.fileno()))
        self.assertIsNone(inheritance.take("b"))
        taken = inheritance.take("a")
        assert taken is not None
        self.assertEqual((taken.getsockname(), taken.getblocking()), (self.listening.getsockname(), False))
        self.assertIsNone(inheritance.take("a"))
        self.assertEqual(inheritance.taken, [0])
        taken.detach()

    def test_order(self) -> None:
        """Of several that were asked for in the same way, the first goes first."""
        first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        addresses = [first.getsockname(), second.getsockname()]
        inheritance = Inheritance([("a", first.detach()), ("a", second.detach())])
        taken = [inheritance.take("a"), inheritance.take("a")]
        self.assertEqual([each.getsockname() for each in taken if each is not None], addresses)
        for each in taken:
            assert each is not None
            each.close()

    def test_line_is_claimed_once(self) -> None:
        """One service speaks on the line."""
        inheritance = inherit(self.told())
        self.assertEqual([inheritance.claim_line(), inheritance.claim_line()], [self.line.fileno(), None])

    def test_tell_failed(self) -> None:
        """A predecessor is told of a failure at once; one that has gone is not."""
        inheritance = inherit(self.told())
        inheritance.tell_failed(OSError("in\nuse"))
        self.assertEqual(self.other_end.recv(100), b"failed in use\n")
        self.other_end.close()
        inheritance.tell_failed("too late")

    def test_somebody_elses(self) -> None:
        """A child of the process that it was meant for has other files in the places of the line and the sockets."""
        with open(os.devnull) as other:
            for changed in (
                {"line": other.fileno()},
                {"line": 10_000},
                {"line": "null"},
                {"sockets": f'[["a", {other.fileno()}]]'},
            ):
                self.nothing(self.told(**changed))

    def test_nonsense(self) -> None:
        """Whatever else is in the variable is nothing."""
        for text in ("", "{}", "[]", '{"line": 1, "predecessor": 2, "sockets": 3}'):
            self.nothing({VARIABLE: text, "OTHER": "1"})

    def test_surrogates(self) -> None:
        """A path that is no text comes through."""
        path = os.fsdecode(b"/\xff")
        line = self.line.fileno()
        told: Mapping[bytes, bytes] = tell_successor(line, os.fstat(line).st_ino, [(path, self.listening.fileno())])
        inheritance = inherit({name.decode(): value.decode() for name, value in told.items()})
        taken = inheritance.take(path)
        assert taken is not None
        taken.detach()
