"""ENDPOINT strings, and what is said of wrong ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twisted.internet import endpoints as twisted_endpoints
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Certificates
from twisted_node.command import _endpoints as endpoints
from twisted_node.command._endpoints import is_local, server_endpoint, wants_client_certificates
from twisted_node.errors import MisuseError

#: Whether this Twisted knows ``tls:``, as 26.4 and later ones do.
HAS_TLS_ENDPOINT = tuple(map(int, version("Twisted").split(".")[:2])) >= (26, 4)


class EndpointTests(SynchronousTestCase):
    """Strings that mean something."""

    def make(self, description: str) -> Any:
        return server_endpoint(MemoryReactorClock(), description)

    def wrong(self, description: str) -> str:
        """What is said of a wrong one."""
        text = str(self.assertRaises(MisuseError, server_endpoint, MemoryReactorClock(), description))
        self.assertNotIn("\n", text)
        return text

    def test_twisted(self) -> None:
        """Whatever Twisted listens on."""
        for description, kind in (
            ("tcp:80", twisted_endpoints.TCP4ServerEndpoint),
            ("tcp6:80:interface=\\:\\:1", twisted_endpoints.TCP6ServerEndpoint),
            ("unix:/run/x:mode=600", twisted_endpoints.UNIXServerEndpoint),
            ("haproxy:tcp:80", twisted_endpoints._WrapperServerEndpoint),
        ):
            self.assertIsInstance(self.make(description), kind, description)

    def test_stdio(self) -> None:
        """Standard input and output are no endpoint."""
        self.assertEqual(self.wrong("stdio:"), "stdio: is what the node speaks when it is given no endpoint")

    def test_wrong(self) -> None:
        """Anything else is a line that says what is wrong."""
        for description, text in (
            ("", "Unknown endpoint type: ''"),
            ("tcp", "missing 1 required positional argument: 'port'"),
            ("tcp:", "invalid literal for int() with base 10: ''"),
            ("nonsense:80", "Unknown endpoint type: 'nonsense'"),
            ("tcp:80:colour=red", "got an unexpected keyword argument 'colour'"),
            ("haproxy:tcp", "missing 1 required positional argument: 'port'"),
            ("ssl:80:privateKey=/nowhere/key.pem", "[Errno 2] No such file or directory: '/nowhere/key.pem'"),
        ):
            self.assertEqual(self.wrong(description), text)

    def test_no_tls(self) -> None:
        """What needs the tls extra says so."""
        program = (
            "import sys; sys.modules['OpenSSL'] = None\n"
            "from twisted.internet import reactor\n"
            "from twisted_node import MisuseError\n"
            "from twisted_node.command._endpoints import server_endpoint\n"
            "for description in ('ssl:80', 'ssl:80:clientCA=ca.pem', 'tls:certificates:port=80'):\n"
            "    try: server_endpoint(reactor, description)\n"
            "    except MisuseError as error: print(error)\n"
        )
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        needed = "{}: needs the tls extra: pip install 'twisted-node[tls]'\n"
        unknown = "Unknown endpoint type: 'tls'\n"
        self.assertEqual(said, needed.format("ssl") * 2 + (needed.format("tls") if HAS_TLS_ENDPOINT else unknown))


class ClientCertificateTests(SynchronousTestCase):
    """Endpoints that let in only clients with a certificate."""

    def setUp(self) -> None:
        self.certificates = Certificates(Path(self.mktemp()))

    def make(self, *more: str) -> Any:
        """Make an endpoint and listen; the options of its TLS."""
        reactor = MemoryReactorClock()
        description = ":".join(("ssl:443", f"privateKey={self.certificates.server}", "backlog=7", *more))
        server_endpoint(reactor, description).listen(Factory())
        ((port, _, options, backlog, interface),) = reactor.sslServers
        self.assertEqual((port, backlog, interface), (443, 7, ""))
        return options

    def test_wanted(self) -> None:
        """The string says whether they are wanted."""
        self.assertTrue(wants_client_certificates("ssl:443:clientCA=ca.pem"))
        self.assertFalse(wants_client_certificates("ssl:443"))
        self.assertFalse(wants_client_certificates("tcp:443:clientCA=ca.pem"))

    def test_options(self) -> None:
        """A client must show one, and the authority must have signed it."""
        options = self.make(f"clientCA={self.certificates.authority}")
        self.assertTrue(options.verify and options.requireCertificate)
        self.assertIsNotNone(options.trustRoot)

    def test_any_file(self) -> None:
        """Several certificates, with or without a last newline, as Windows writes them, with text around."""
        text = self.certificates.authority.read_bytes()
        other = Certificates(Path(self.mktemp())).authority.read_bytes()
        path = Path(self.mktemp())
        for content in (text, text.rstrip(), text.replace(b"\n", b"\r\n"), b"A comment\n" + text + b"\nThe end\n"):
            path.write_bytes(content)
            self.assertEqual(len(self.trusted(path)), 1)
        path.write_bytes(other + text)
        self.assertEqual(len(self.trusted(path)), 2)

    def test_not_wanted(self) -> None:
        """Without ``clientCA`` a client need show none."""
        self.assertFalse(self.make().verify)

    def trusted(self, path: Path) -> list[Any]:
        """The certificates that are trusted."""
        roots: list[Any] = self.make(f"clientCA={path}").trustRoot._caCerts
        return roots

    def test_no_certificate(self) -> None:
        """A file without one would lock everybody out, so it is refused."""
        path = Path(self.mktemp())
        for content in (b"", b"nothing here\n", self.certificates.authority.read_bytes()[:100]):
            path.write_bytes(content)
            error = self.assertRaises(MisuseError, self.make, f"clientCA={path}")
            self.assertEqual(str(error), f"{path}: no certificates in it")

    def test_broken_certificate(self) -> None:
        """So is a file with a broken one, and one that is not there."""
        path = Path(self.mktemp())
        path.write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        for wrong in (path, Path("/nowhere/ca.pem")):
            self.assertRaises(MisuseError, self.make, f"clientCA={wrong}")


class SystemdTests(SynchronousTestCase):
    """Sockets that were inherited."""

    def setUp(self) -> None:
        self.environ = Path(self.mktemp())
        self.patch(endpoints, "Path", lambda _: self.environ)

    def inherit(self, description: str = "systemd:domain=INET:index=0", **environment: str) -> Any:
        """Make an endpoint in an environment, that of this process unless it says otherwise."""
        environment = {"LISTEN_PID": str(os.getpid()), **environment}
        self.environ.write_text("".join(f"{name}={value}\0" for name, value in environment.items()) + "odd\0")
        return server_endpoint(MemoryReactorClock(), description)

    def wrong(self, description: str = "systemd:domain=INET:index=0", **environment: str) -> str:
        """What is said of an endpoint that cannot be made."""
        return str(self.assertRaises(MisuseError, self.inherit, description, **environment))

    def test_none(self) -> None:
        """Without any, the error says what is needed."""
        needed = "systemd: needs its sockets (LISTEN_FDS), and a process that stays in front"
        self.assertEqual(self.wrong(), needed)
        self.assertEqual(self.wrong(LISTEN_PID="1", LISTEN_FDS="1"), needed)
        self.assertEqual(self.wrong("systemd:domain=INET:index=1", LISTEN_FDS="1"), needed)

    def test_no_proc(self) -> None:
        """So it does where the environment cannot be read anew."""
        self.assertIn("needs its sockets", self.wrong_without_proc())

    def wrong_without_proc(self) -> str:
        return str(self.assertRaises(MisuseError, server_endpoint, MemoryReactorClock(), "systemd:domain=INET:index=0"))

    def test_names(self) -> None:
        """Sockets without names are seen too, by their index or by systemd's own name for such a socket."""
        for description, descriptor, family in (
            ("systemd:domain=INET:index=0", 3, socket.AF_INET),
            ("systemd:INET6:1", 4, socket.AF_INET6),
            ("systemd:domain=UNIX:name=unknown", 4, socket.AF_UNIX),
        ):
            endpoint = self.inherit(description, LISTEN_FDS="2")
            self.assertIsInstance(endpoint, twisted_endpoints.AdoptedStreamServerEndpoint)
            self.assertEqual((endpoint.fileno, endpoint.addressFamily), (descriptor, family))

    def test_wrong(self) -> None:
        """A string that names no socket, or too many, is told in Twisted's words."""
        for rest, text in (
            ("domain=INET", "Specify exactly one of descriptor index or name"),
            ("domain=INET:index=0:name=a", "Specify exactly one of descriptor index or name"),
            ("domain=INET:colour=red", "got an unexpected keyword argument 'colour'"),
            ("index=0", "missing 1 required positional argument: 'domain'"),
        ):
            self.assertEqual(self.wrong(f"systemd:{rest}", LISTEN_FDS="2"), text)
            # With names, Twisted says it itself.
            self.assertEqual(self.wrong(f"systemd:{rest}", LISTEN_FDS="2", LISTEN_FDNAMES="a:b"), text)
        text = "module 'socket' has no attribute 'AF_IN'"
        self.assertEqual(self.wrong("systemd:domain=IN:index=0", LISTEN_FDS="1"), text)

    def test_left_to_twisted(self) -> None:
        """Sockets with names are left to Twisted, which has none of this process."""
        self.assertIn("needs its sockets", self.wrong(LISTEN_FDS="2", LISTEN_FDNAMES="a:b"))


class LocalTests(SynchronousTestCase):
    """Addresses that other machines can reach, and those that they cannot."""

    def test_local(self) -> None:
        """The loopback addresses and everything that is no network address are local."""
        for address in (
            IPv4Address("TCP", "127.0.0.1", 80),
            IPv4Address("TCP", "127.9.9.9", 80),
            IPv6Address("TCP", "::1", 80),
            UNIXAddress(b"/run/x"),
            None,
        ):
            self.assertTrue(is_local(address), address)

    def test_not_local(self) -> None:
        """All others are not, nor is what is no address at all."""
        for host in ("0.0.0.0", "192.0.2.1"):
            self.assertFalse(is_local(IPv4Address("TCP", host, 80)), host)
        for host in ("::", "fe80::1%eth0", "2001:db8::1"):
            self.assertFalse(is_local(IPv6Address("TCP", host, 80)), host)
        self.assertFalse(is_local(IPv4Address("TCP", "localhost", 80)))
