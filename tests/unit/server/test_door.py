"""The door of a listening TCP socket: once it is shut nothing new begins, and what has begun comes through."""

from __future__ import annotations

import select
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.handshakes import connected, is_held_off, listening, postpone
from twisted_node.server import _door as door_module
from twisted_node.server._door import Door
from twisted_node.server._handshakes import cookies_sent, count_half_done

#: No option of the kernel's.
NO_OPTION = 9999

LOCAL: list[tuple[tuple[str, int], dict[str, Any], list[str]]] = [
    (("127.0.0.1", 0), {}, ["127.0.0.1"]),
    (("0.0.0.0", 0), {}, ["127.0.0.1"]),
    (("::1", 0), {}, ["::1"]),
    (("::", 0), {}, ["::1"]),
    (("::", 0), {"dual_stack": True}, ["::1", "127.0.0.1"]),
]


class DoorTestCase(SynchronousTestCase):
    """Real sockets, on which nobody accepts but the test."""

    def open(self, address: tuple[str, int] = ("127.0.0.1", 0), **options: Any) -> socket.socket:
        listener = listening(address, **options)
        self.addCleanup(listener.close)
        return listener

    def client(self, address: Any) -> socket.socket:
        client = connected(address)
        self.addCleanup(client.close)
        return client

    def accept(self, listener: socket.socket) -> socket.socket:
        """Accept one that is on its way already."""
        self.assertTrue(select.select([listener], [], [], 10)[0])
        accepted, _ = listener.accept()
        self.addCleanup(accepted.close)
        return accepted

    def shut(self, listener: socket.socket) -> Door:
        door = Door(listener)
        door.shut()
        self.addCleanup(door.remove)
        self.assertTrue(door.is_shut)
        return door

    def assert_stays_open(self, listener: socket.socket) -> None:
        door = Door(listener)
        door.shut()
        self.assertFalse(door.is_shut)
        door.remove()

    def check(self, address: tuple[str, int], options: dict[str, Any], hosts: list[str]) -> None:
        """The whole life of a door."""
        listener = self.open(address, **options)
        port = listener.getsockname()[1]
        # A connection that is served, one that waits, and one that is half done do not stand in the way of the door.
        self.client((hosts[0], port))
        served = self.accept(listener)
        waiting = self.client((hosts[0], port))
        postpone(listener)
        half_done = [self.client((host, port)) for host in hosts]
        door = self.shut(listener)
        for host in hosts:
            for ttl in (None, 255):
                self.assertTrue(is_held_off((host, port), ttl=ttl), (host, ttl))
        for client in (waiting, *half_done):
            client.sendall(b"x")
        # Those that were held off are not among them.
        arrived = [self.accept(listener).recv(1) for _ in (waiting, *half_done)]
        self.assertEqual(arrived, [b"x"] * len(arrived))
        self.assertRaises(BlockingIOError, listener.accept)
        listener.close()
        door.remove()
        for host in hosts:
            self.assertRaises(ConnectionRefusedError, connected, (host, port))
        # The next start finds the address free, though a connection is still open.
        self.open((address[0], port), **options)
        served.close()


class FilterTests(DoorTestCase):
    """With the privilege to filter."""

    def test_filter(self) -> None:
        """A filter drops each SYN."""
        for address, options, hosts in LOCAL:
            # Whether it is had shows where there is nothing else.
            self.patch(door_module, "_SO_ATTACH_REUSEPORT_CBPF", NO_OPTION)
            probe = Door(self.open())
            probe.shut()
            if not probe.is_shut:
                raise SkipTest("to filter needs CAP_NET_ADMIN")
            self.check(address, options, hosts)


class DecoyTests(DoorTestCase):
    """Without it."""

    def setUp(self) -> None:
        self.patch(door_module, "_SO_ATTACH_FILTER", NO_OPTION)

    def test_decoy(self) -> None:
        """A decoy drops each SYN, whatever TTL it comes with."""
        for address, options, hosts in LOCAL:
            self.check(address, options, hosts)

    def test_shared_address(self) -> None:
        """A socket that may share its address gets none: the others would be shut too."""
        listener = self.open(reuse_port=True)
        self.open(listener.getsockname(), reuse_port=True)
        self.assert_stays_open(listener)
        self.assertFalse(is_held_off(listener.getsockname()))

    def test_joined_later(self) -> None:
        """Somebody who has come to share the address meanwhile gets all that comes once the door is removed."""
        listener = self.open()
        address = listener.getsockname()
        door = self.shut(listener)
        successor = self.open(address, reuse_port=True)
        listener.close()
        door.remove()
        for _ in range(20):
            self.client(address)
            self.accept(successor)

    def test_impossible(self) -> None:
        """Where it cannot be had, nothing of it is left."""
        self.patch(door_module, "_SO_ATTACH_REUSEPORT_CBPF", NO_OPTION)
        listener = self.open()
        self.assert_stays_open(listener)
        self.assertEqual(listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), 0)
        for _ in range(2):
            self.client(listener.getsockname())
            self.accept(listener)

    def test_cookies(self) -> None:
        """If SYN cookies are about, the decoy sends one itself: otherwise the kernel would take none any more."""
        if Path("/proc/sys/net/ipv4/tcp_syncookies").read_text() == "0\n":
            raise SkipTest("this system sends no SYN cookies")
        for address, options, hosts in LOCAL:
            listener = self.open(address, **options)
            before = cookies_sent()
            door = Door(listener, cookies=True)
            door.shut()
            self.assertGreater(cookies_sent(), before)
            self.assertEqual(count_half_done(listener), 0)
            for host in hosts:
                for ttl in (None, 255):
                    self.assertTrue(is_held_off((host, listener.getsockname()[1]), ttl=ttl))
            door.remove()

    def test_no_way_to_fill_it(self) -> None:
        """Where our own connection to the decoy fails, it drops what comes from other machines all the same."""
        self.patch(door_module, "_FILL_TIMEOUT", 0)
        listener = self.open()
        self.shut(listener)
        self.assertTrue(is_held_off(listener.getsockname()))


class ElsewhereTests(DoorTestCase):
    """Another system than Linux."""

    def test_shorter_queue(self) -> None:
        """The queue is made as short as can be, and the door stays open."""
        self.patch(door_module, "_ON_LINUX", False)
        listener = self.open()
        self.assert_stays_open(listener)
        address = listener.getsockname()
        self.client(address)
        self.assertTrue(is_held_off(address))
        self.accept(listener)
