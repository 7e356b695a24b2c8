"""Timers that go by the monotonic clock, on the real reactor."""

from __future__ import annotations

import errno
import gc
import os
import time
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, LoopingCall
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import verify

from twisted_node.drain._timers import MonotonicTimers, monotonic_timers

reactor: Any = _reactor


class MonotonicTimersTests(TestCase):
    """What the reactor's own timers can do, without its clock."""

    timeout = 20

    def setUp(self) -> None:
        self.timers = MonotonicTimers(reactor)
        self.called: list[object] = []

    async def fired(self, delay: float) -> None:
        """Wait until a timer that is set now has fired."""
        fired: Deferred[None] = Deferred()
        self.timers.callLater(delay, fired.callback, None)
        await fired

    def test_interface(self) -> None:
        """They are a clock as Twisted knows it, by the monotonic clock."""
        self.assertTrue(verify.verifyObject(IReactorTime, self.timers))
        before, now, after = time.monotonic(), self.timers.seconds(), time.monotonic()
        self.assertTrue(before <= now <= after)

    async def test_order(self) -> None:
        """They fire by time, those of one time in any order, and none too early."""
        began = time.monotonic()
        self.timers.callLater(0.02, self.called.append, "second")
        self.timers.callLater(0.01, self.called.append, "first")
        self.timers.callLater(0, self.called.append, "at once")
        await self.fired(0.03)
        self.assertEqual(self.called, ["at once", "first", "second"])
        self.assertGreaterEqual(time.monotonic() - began, 0.03)
        self.assertEqual(self.timers.getDelayedCalls(), [])

    async def test_wall_clock(self) -> None:
        """The wall clock may be set back as anybody likes."""
        real, began = reactor.seconds, time.monotonic()
        self.patch(reactor, "seconds", lambda: real() - 3600)
        await self.fired(0.05)
        # By the wall clock it would take an hour.
        self.assertGreaterEqual(time.monotonic() - began, 0.05)

    async def test_moved(self) -> None:
        """One can be moved, both ways."""
        self.timers.callLater(60, self.called.append, "nearer").reset(0.01)
        self.timers.callLater(0.005, self.called.append, "farther").reset(0.02)
        await self.fired(0.03)
        self.assertEqual(self.called, ["nearer", "farther"])

    async def test_cancelled(self) -> None:
        """One that is cancelled does not fire, even if that is by another one of its time; nothing is left to read."""
        first, second, last = (self.timers.callLater(delay, self.called.append, delay) for delay in (0, 0.01, 60))
        self.timers.callLater(0, second.cancel)
        first.cancel()
        await self.fired(0.02)
        self.assertEqual(self.timers.getDelayedCalls(), [last])
        last.cancel()
        self.assertEqual((self.called, self.timers.getDelayedCalls()), ([], []))
        self.assertNotIn(self.timers, reactor.getReaders())

    async def test_cancelled_by_its_neighbour(self) -> None:
        """Two are due in one turn, and the first cancels the second."""
        second = self.timers.callLater(0.001, self.called.append, "second")
        self.timers.callLater(0, second.cancel)
        # Both are due when the reactor comes to them.
        while time.monotonic() < second.getTime():
            """Wait."""
        await self.fired(0)
        self.assertEqual(self.called, [])

    def test_many_cancelled(self) -> None:
        """Those that are cancelled do not pile up."""
        left = self.timers.callLater(60, self.called.append, "last")
        for _ in range(1000):
            self.timers.callLater(61, self.called.append, "never").cancel()
        self.assertLess(len(self.timers._pending), 100)
        left.cancel()

    async def test_earliest_of_many_cancelled(self) -> None:
        """The earliest of many may be cancelled as any other: it does not fire, and the others do."""
        many = [self.timers.callLater(0.01, self.called.append, number) for number in range(100)]
        many[0].cancel()
        await self.fired(0.02)
        self.assertEqual(set(self.called), set(range(1, 100)))

    async def test_failing(self) -> None:
        """One that fails is logged, and keeps no other from firing."""
        self.timers.callLater(0, lambda: 1 / 0)
        await self.fired(0.001)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_loop(self) -> None:
        """Twisted's own loops run on them."""
        loop = LoopingCall(self.called.append, "again")
        loop.clock = self.timers
        loop.start(0.001)
        while len(self.called) < 3:
            await self.fired(0.001)
        loop.stop()

    def test_reactor_ends(self) -> None:
        """The reactor may tell them of its end, and read them when nothing is due."""
        self.timers.doRead()
        self.timers.connectionLost(Failure(ConnectionError()))
        self.assertEqual(self.timers.logPrefix(), "timers")

    def test_descriptor(self) -> None:
        """Their file descriptor is closed with the last that knows them."""
        descriptor = self.timers.fileno()
        del self.timers
        gc.collect()
        with self.assertRaises(OSError) as raised:
            os.fstat(descriptor)
        self.assertEqual(raised.exception.errno, errno.EBADF)


class ChoiceTests(TestCase):
    """What timers are set with."""

    def test_reactor(self) -> None:
        """A reactor's go by the monotonic clock."""
        self.assertIsInstance(monotonic_timers(reactor), MonotonicTimers)

    def test_tests(self) -> None:
        """A test's clock is taken as it is, also one that is a reactor."""
        for clock in (Clock(), MemoryReactorClock()):
            self.assertIs(monotonic_timers(clock), clock)

    def test_no_descriptor(self) -> None:
        """Where the kernel has none to give, it is the reactor's own."""
        self.patch(os, "O_NONBLOCK", -1)
        self.assertIs(monotonic_timers(reactor), reactor)
