"""The path of a listening unix socket: whose it is, and who may connect."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import unix
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from tests.support.paths import short_folder
from twisted_node.server._paths import find_path_and_mode, path_identity


class PathsTestCase(SynchronousTestCase):
    """A path for a socket."""

    def setUp(self) -> None:
        self.path = short_folder(self) / "socket"

    def bind(self, address: str | tuple[str, int], family: int = socket.AF_UNIX) -> socket.socket:
        bound = socket.socket(family)
        self.addCleanup(bound.close)
        bound.bind(address)
        return bound


class IdentityTests(PathsTestCase):
    """Which file a path is."""

    def setUp(self) -> None:
        super().setUp()
        reactor: Any = MemoryReactor()
        self.port = unix.Port(os.fsencode(self.path), Factory(), reactor=reactor)
        self.port.socket = self.bind(os.fspath(self.path))

    def test_same(self) -> None:
        """It stays the same as long as nobody touches it."""
        self.assertIsNotNone(path_identity(self.port))
        self.assertEqual(path_identity(self.port), path_identity(self.port))

    def test_taken(self) -> None:
        """Another file of that name is not the same; no file is none."""
        before = path_identity(self.port)
        self.path.rename(self.path.with_name("before"))
        self.assertIsNone(path_identity(self.port))
        self.bind(os.fspath(self.path))
        self.assertNotIn(path_identity(self.port), (before, None))


class AdoptedTests(PathsTestCase):
    """The path and the mode of a socket that somebody else has bound."""

    def find(self, bound: socket.socket) -> tuple[bytes, int] | None:
        reactor: Any = MemoryReactor()
        return find_path_and_mode(AdoptedStreamServerEndpoint(reactor, bound.fileno(), bound.family))

    def test_mode(self) -> None:
        """The mode is that of the path; the socket stays open."""
        bound = self.bind(os.fspath(self.path))
        self.path.chmod(0o640)
        self.assertEqual(self.find(bound), (os.fsencode(self.path), 0o640))
        self.assertEqual(bound.getsockname(), os.fspath(self.path))

    def test_without_its_path(self) -> None:
        """One whose path is gone has no mode to keep."""
        bound = self.bind(os.fspath(self.path))
        self.path.unlink()
        self.assertIsNone(self.find(bound))

    def test_never_a_path(self) -> None:
        """One in the abstract namespace has none, nor has one of another family."""
        self.assertIsNone(self.find(self.bind(f"\0twisted-node-test-paths-{os.getpid()}")))
        self.assertIsNone(self.find(self.bind(("127.0.0.1", 0), socket.AF_INET)))
