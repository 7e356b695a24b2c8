"""Handshakes that are half done: counted, and waited for."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.support.handshakes import connected, listening, postpone
from tests.support.logs import capture_logs
from twisted_node.server import _handshakes as handshakes
from twisted_node.server._handshakes import HandshakeWait, cookies_sent, count_half_done

LOOKS = handshakes._BETWEEN_LOOKS


class HandshakeTestCase(SynchronousTestCase):
    """Real sockets, whose handshakes stay half done until the client says something."""

    def open(self, address: tuple[str, int] = ("127.0.0.1", 0), **options: Any) -> socket.socket:
        listener = listening(address, **options)
        self.addCleanup(listener.close)
        postpone(listener)
        return listener

    def client(self, address: Any) -> socket.socket:
        client = connected(address)
        self.addCleanup(client.close)
        return client


class CountTests(HandshakeTestCase):
    """Counting them."""

    def test_none(self) -> None:
        """There are none where nobody connects."""
        self.assertEqual(count_half_done(self.open()), 0)

    def test_count(self) -> None:
        """All are counted, over IPv4 and IPv6, and those that are done are not."""
        for bound, hosts, options in (
            ("127.0.0.1", ["127.0.0.1"], {}),
            ("0.0.0.0", ["127.0.0.1", "127.0.0.2"], {}),
            ("::1", ["::1"], {}),
            ("::", ["::1"], {}),
            ("::", ["::1", "127.0.0.1"], {"dual_stack": True}),
        ):
            listener = self.open((bound, 0), **options)
            port = listener.getsockname()[1]
            clients = [self.client((host, port)) for host in hosts for _ in range(3)]
            self.assertEqual(count_half_done(listener), len(clients), (bound, hosts))
            clients.pop().sendall(b"x")
            self.assertEqual(count_half_done(listener), len(clients), (bound, hosts))

    def test_many(self) -> None:
        """Many are told in several answers."""
        listener = self.open()
        listener.listen(2000)
        clients = [self.client(listener.getsockname()) for _ in range(500)]
        self.assertEqual(count_half_done(listener), len(clients))

    def test_same_port(self) -> None:
        """Those of another address on the same port are not ours."""
        listener = self.open()
        other = self.open(("127.0.0.2", listener.getsockname()[1]))
        self.client(other.getsockname())
        self.assertEqual((count_half_done(listener), count_half_done(other)), (0, 1))

    def test_no_such_question(self) -> None:
        """A kernel that does not know the question says so."""
        self.patch(handshakes, "_SOCK_DIAG_BY_FAMILY", 9999)
        self.assertRaises(OSError, count_half_done, self.open())

    def test_no_such_protocol(self) -> None:
        """A system where it cannot be asked says so too."""
        self.patch(handshakes, "_NETLINK_SOCK_DIAG", 31)
        self.assertRaises(OSError, count_half_done, self.open())


class CookieTests(SynchronousTestCase):
    """Counting SYN cookies."""

    def counters(self, text: str) -> None:
        path = Path(self.mktemp())
        path.write_text(text)
        self.patch(handshakes, "_COUNTERS", str(path))

    def test_count(self) -> None:
        """The kernel's counter is found by its name."""
        self.counters("TcpExt: TW SyncookiesSent Pruned\nTcpExt: 1 22 333\nIpExt: InOctets\nIpExt: 5\n")
        self.assertEqual(cookies_sent(), 22)

    def test_here(self) -> None:
        """This kernel has it, or none have been sent."""
        self.assertGreaterEqual(cookies_sent(), 0)

    def test_unknown(self) -> None:
        """Where the system does not tell, it is taken for none."""
        self.counters("TcpExt: TW Pruned\nTcpExt: 1 333\n")
        self.assertEqual(cookies_sent(), 0)
        self.counters("")
        self.assertEqual(cookies_sent(), 0)
        self.patch(handshakes, "_COUNTERS", self.mktemp())
        self.assertEqual(cookies_sent(), 0)


class WaitTests(HandshakeTestCase):
    """Waiting for them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.listener = self.open()

    def wait(self, seconds: float = 1, blind_seconds: float = 0.2) -> HandshakeWait:
        return HandshakeWait(self.listener, self.clock, seconds, blind_seconds)

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_none(self) -> None:
        """With none half done, it is over at once."""
        self.successResultOf(self.wait().begin())

    def test_until_done(self) -> None:
        """It is over at the first look that finds none."""
        client = self.client(self.listener.getsockname())
        wait = self.wait()
        over = wait.begin()
        self.clock.advance(LOOKS)
        self.assertNoResult(over)
        self.assertEqual(wait.half_done, 1)
        client.sendall(b"x")
        self.assertNoResult(over)
        self.clock.advance(LOOKS)
        self.successResultOf(over)
        self.assertEqual(wait.half_done, 0)

    def test_not_for_ever(self) -> None:
        """One that is never done is waited for so many seconds."""
        self.client(self.listener.getsockname())
        wait = self.wait(seconds=1)
        over = wait.begin()
        self.clock.pump([LOOKS] * round(0.95 / LOOKS))
        self.assertNoResult(over)
        self.clock.advance(LOOKS)
        self.successResultOf(over)
        self.assertEqual(wait.half_done, 1)

    def test_cookies(self) -> None:
        """With SYN cookies about, which nobody can count, it takes three seconds, or less if it may not."""
        for seconds, expected in ((30, 3.0), (0.5, 0.5)):
            over = HandshakeWait(self.listener, self.clock, seconds, 0.2, cookies=True).begin()
            self.clock.pump([LOOKS] * (round(expected / LOOKS) - 1))
            self.assertNoResult(over)
            self.clock.advance(LOOKS)
            self.successResultOf(over)

    def test_end(self) -> None:
        """It may be ended before; that does nothing once it is over."""
        self.client(self.listener.getsockname())
        wait = self.wait()
        over = wait.begin()
        wait.end()
        self.successResultOf(over)
        wait.end()

    def test_blind(self) -> None:
        """Where the system does not tell, it waits a fixed time, and the log says why, once."""
        handshakes._say_once.cache_clear()
        self.addCleanup(handshakes._say_once.cache_clear)
        self.patch(handshakes, "_SOCK_DIAG_BY_FAMILY", 9999)
        events = capture_logs(self)
        for _ in range(2):
            over = self.wait(blind_seconds=0.2).begin()
            self.clock.advance(0.19)
            self.assertNoResult(over)
            self.clock.advance(0.01)
            self.successResultOf(over)
        self.assertEqual(
            [event["log_level"] for event in events if event["log_namespace"] == handshakes.__name__], [LogLevel.info]
        )

    def test_blind_and_hasty(self) -> None:
        """It never waits longer than it may, nor at all if nobody is to be expected."""
        self.patch(handshakes, "_SOCK_DIAG_BY_FAMILY", 9999)
        over = self.wait(seconds=0.1, blind_seconds=0.2).begin()
        self.clock.advance(0.1)
        self.successResultOf(over)
        self.successResultOf(self.wait(blind_seconds=0).begin())
