"""ENDPOINT strings, and what is said of wrong ones."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twisted.internet import endpoints as twisted_endpoints
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python import systemd as twisted_systemd
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Certificates
from tests.support.paths import short_folder
from twisted_node.command import _endpoints as endpoints
from twisted_node.command._endpoints import is_local, is_open_to_all_users, server_endpoint
from twisted_node.errors import MisuseError

#: Whether this Twisted knows ``tls:``, as 26.4 and later ones do.
HAS_TLS_ENDPOINT = tuple(map(int, version("Twisted").split(".")[:2])) >= (26, 4)


def said_of(description: str, error: Exception, option: str = "--admin") -> str:
    """What an error says of an endpoint; it must be one line that begins with the option and the endpoint."""
    text, named = str(error), f"{option} {description}: "
    assert text.startswith(named), text
    assert "\n" not in text, text
    return text.removeprefix(named)


class EndpointStringTests(SynchronousTestCase):
    """Strings that mean something."""

    def make(self, description: str) -> Any:
        return server_endpoint(MemoryReactorClock(), description)

    def wrong(self, description: str) -> str:
        """What is said of a wrong one."""
        error = self.assertRaises(MisuseError, server_endpoint, MemoryReactorClock(), description, "--admin")
        return said_of(description, error)

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
        unknown = "unknown kind of endpoint: {!r}; expected one such as tcp:7000 or unix:/run/node"
        for description, text in (
            ("", unknown.format("")),
            ("tcp", "port is missing"),
            ("tcp:", "expected a number, got ''"),
            ("tcp:8x07", "expected a number, got '8x07'"),
            ("tcp:http", "expected a number, got 'http'"),
            ("tcp:80:backlog=many", "expected a number, got 'many'"),
            ("ssl:443:backlog=many", f"[Errno 2] No such file or directory: '{os.getcwd()}/server.pem'"),
            ("nonsense:80", unknown.format("nonsense")),
            ("TCP:80", unknown.format("TCP")),
            ("7000", "expected a kind of endpoint first: tcp:7000"),
            (":7000", "expected a kind of endpoint first: tcp:7000"),
            ("127.0.0.1:7000", "expected a kind of endpoint first: tcp:7000:interface=127.0.0.1"),
            ("localhost:7000", "expected a kind of endpoint first: tcp:7000:interface=localhost"),
            ("/run/node", "expected a kind of endpoint first: unix:/run/node"),
            ("./node", "expected a kind of endpoint first: unix:./node"),
            ("1:2:3", unknown.format("1")),
            ("tcp:80:colour=red", "'colour'= is no part of such an endpoint"),
            ("tcp6:80:interface=::1", r"'interface' is given twice; a colon within a part is written \:"),
            ("tcp:1:2:3:4:5", r"too many parts; a colon within a part is written \:"),
            ("haproxy:tcp", "port is missing"),
            ("haproxy:tcp:8x", "expected a number, got '8x'"),
            ("haproxy:7000", "expected a kind of endpoint first: tcp:7000"),
            ("unix", "address is missing"),
            ("unix:", "address is missing"),
            ("unix:x:mode=999", "expected a mode such as 660, got '999'"),
            ("ssl:80:privateKey=/nowhere/key.pem", "[Errno 2] No such file or directory: '/nowhere/key.pem'"),
        ):
            self.assertEqual(self.wrong(description), text)

    def test_pem(self) -> None:
        """Files without a usable certificate or key are named, with OpenSSL's reason."""
        folder = Path(self.mktemp())
        certificates, others = Certificates(folder / "a"), Certificates(folder / "b")
        broken = folder / "broken.pem"
        broken.write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        good = f"privateKey={certificates.server}"
        for rest, files in (
            (f"privateKey={broken}", [broken]),
            (f"{good}:certKey={broken}", [certificates.server, broken]),
            (f"{good}:clientCA={broken}", [certificates.server, broken]),
            (f"{good}:extraCertChain={broken}", [certificates.server, broken]),
        ):
            pattern = "no usable certificate and key, in PEM, in " + " and ".join(map(str, files)) + r" \([\w ,]+\)"
            self.assertRegex(self.wrong(f"ssl:0:{rest}"), rf"\A{pattern}\Z")
        text = self.wrong(f"ssl:0:{good}:certKey={others.authority}")
        self.assertEqual(text, "Certificate public and private keys do not match.")
        self.assertEqual(self.wrong(f"ssl:0:{good}:sslmethod=SSLv1"), "sslmethod: OpenSSL has no 'SSLv1'")

    def test_no_tls(self) -> None:
        """What needs the tls extra says so."""
        program = (
            "import sys; sys.modules['OpenSSL'] = None\n"
            "from twisted.internet import reactor\n"
            "from twisted_node import MisuseError\n"
            "from twisted_node.command._endpoints import server_endpoint\n"
            "for description in ('ssl:80', 'ssl:80:clientCA=ca.pem', 'tls:certificates:port=80'):\n"
            "    try: server_endpoint(reactor, description)\n"
            "    except MisuseError as error: print(str(error).removeprefix(f'endpoint {description}: '))\n"
        )
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        needed = "{}: needs the tls extra: pip install 'twisted-node[tls]'\n"
        unknown = "unknown kind of endpoint: 'tls'; expected one such as tcp:7000 or unix:/run/node\n"
        self.assertEqual(said, needed.format("ssl") * 2 + (needed.format("tls") if HAS_TLS_ENDPOINT else unknown))


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
        error = self.assertRaises(MisuseError, self.inherit, description, **environment)
        return said_of(description, error, "endpoint")

    def test_wrapped(self) -> None:
        """Inside haproxy they are left to Twisted, which finds only those with names."""
        self.assertEqual(
            self.wrong("haproxy:systemd:domain=INET:index=0", LISTEN_FDS="1"),
            "systemd: needs its sockets (LISTEN_FDS), and a process that stays in front",
        )

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
            ("domain=INET:colour=red", "'colour'= is no part of such an endpoint"),
            ("index=0", "domain is missing"),
        ):
            self.assertEqual(self.wrong(f"systemd:{rest}", LISTEN_FDS="2"), text)
            # With names, Twisted says it itself.
            self.assertEqual(self.wrong(f"systemd:{rest}", LISTEN_FDS="2", LISTEN_FDNAMES="a:b"), text)
        text = "domain: expected INET, INET6 or UNIX, got 'IN'"
        self.assertEqual(self.wrong("systemd:domain=IN:index=0", LISTEN_FDS="1"), text)

    def test_left_to_twisted(self) -> None:
        """Sockets with names are left to Twisted, which has none of this process."""
        self.assertIn("needs its sockets", self.wrong(LISTEN_FDS="2", LISTEN_FDNAMES="a:b"))


class ListeningTests(SynchronousTestCase):
    """Endpoints that cannot be listened to, and the modes of unix sockets, with the real reactor."""

    def setUp(self) -> None:
        self.folder = short_folder(self)

    def listen(self, description: str, **options: Any) -> Any:
        """Listen; stop at the end of the test."""
        endpoint = server_endpoint(reactor, description, "--admin", **options)
        port: Any = self.successResultOf(endpoint.listen(Factory()))
        self.addCleanup(port.connectionLost, Failure(ConnectionDone()))
        self.addCleanup(port.stopReading)
        return port

    def wrong(self, description: str) -> str:
        """What is said of one that cannot be listened to."""
        endpoint = server_endpoint(reactor, description, "--admin")
        return said_of(description, self.failureResultOf(endpoint.listen(Factory()), MisuseError).value)

    def test_ports(self) -> None:
        """The error names the option, whatever is wrong with the port."""
        expected = "expected a port from 0 to 65535"
        for description in ("tcp:65536", "tcp:-1", "tcp6:99999999999999999999", "haproxy:tcp:70000"):
            self.assertEqual(self.wrong(description), expected)
        certificates = Certificates(self.folder / "certificates")
        for more in ("", f":clientCA={certificates.authority}"):
            self.assertEqual(self.wrong(f"ssl:65536:privateKey={certificates.server}{more}"), expected)
        port = self.listen("tcp:0:interface=127.0.0.1").getHost().port
        self.assertEqual(self.wrong(f"tcp:{port}:interface=127.0.0.1"), "Address already in use")
        self.assertEqual(self.wrong("tcp:0:interface=192.0.2.1"), "Cannot assign requested address")

    def test_adopted(self) -> None:
        """So it does for an inherited socket that is none."""
        environ = self.folder / "environ"
        self.patch(endpoints, "Path", lambda _: environ)
        environ.write_text(f"LISTEN_PID={os.getpid()}\0LISTEN_FDS=1\0")
        self.patch(twisted_systemd.ListenFDs, "inheritedDescriptors", lambda _: [os.open(environ, os.O_RDONLY)])
        self.assertIn("Socket operation on non-socket", self.wrong("systemd:domain=INET:index=0"))

    def test_paths(self) -> None:
        """A unix socket that cannot be made is told with its folder, or by what the system says."""
        file = self.folder / "file"
        file.touch()
        long = self.folder / ("x" * 108)
        for path, lock, text in (
            ("/nowhere/x", 1, "cannot write to the folder /nowhere: No such file or directory"),
            ("/nowhere/x", 0, "No such file or directory"),
            (file / "x", 1, f"cannot write to the folder {file}: Not a directory"),
            (file / "x", 0, "Not a directory"),
            (self.folder, 1, "Address already in use"),
            (long, 1, "AF_UNIX path too long"),
        ):
            self.assertEqual(self.wrong(f"unix:{path}:lockfile={lock}"), text)

    def test_path_taken(self) -> None:
        """A unix socket that another process listens on is told as such."""
        path = self.folder / "x"
        os.symlink(str(os.getppid()), f"{path}.lock")
        self.assertEqual(self.wrong(f"unix:{path}"), "another process listens there")

    def test_modes(self) -> None:
        """A private one is for its own user unless its string gives a mode; any other is as Twisted makes it."""
        modes: list[int] = []
        # Without the chmod of Twisted it has its mode from the first moment.
        self.patch(os, "chmod", lambda _, mode: modes.append(mode))
        for number, (rest, private, mode) in enumerate(
            (
                ("", True, 0o600),
                (":lockfile=0", True, 0o600),
                (":mode=660", True, 0o660),
                (":660", True, 0o660),
                (":mode=666", True, 0o666),
                ("", False, 0o666),
                (":mode=640", False, 0o640),
                (":backlog=7", True, 0o600),
            )
        ):
            for kind in ("unix:", "haproxy:unix:"):
                name = f"{self.folder}/{number}{kind.replace(':', '')}"
                before = os.umask(0o027)
                self.addCleanup(os.umask, before)
                self.listen(f"{kind}{name}{rest}", private=private)
                self.assertEqual(stat.S_IMODE(os.stat(name).st_mode), mode, (kind, rest))
                self.assertEqual(modes.pop(), mode)
                self.assertEqual(os.umask(before), 0o027, "the process keeps its own")

    def test_open_to_all_users(self) -> None:
        """Only a path that others may use is open to all users of the machine."""
        for mode, open_to_all in ((0o600, False), (0o660, False), (0o666, True), (0o602, True)):
            host = self.listen(f"unix:{self.folder}/{mode}:mode={mode:o}").getHost()
            self.assertIs(is_open_to_all_users(host), open_to_all)
        self.assertFalse(is_open_to_all_users(UNIXAddress(b"/nowhere/x")))
        self.assertTrue(is_open_to_all_users(UNIXAddress(b"\0abstract")))
        self.assertFalse(is_open_to_all_users(IPv4Address("TCP", "0.0.0.0", 80)))
        self.assertFalse(is_open_to_all_users(None))


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
