"""The reactor as an endpoint has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Certificates
from twisted_node.command._endpoint_reactors import Listening
from twisted_node.command._endpoints import server_endpoint, wants_client_certificates
from twisted_node.errors import MisuseError


class ListeningReactorTests(SynchronousTestCase):
    """What says why it cannot listen."""

    def test_reactor(self) -> None:
        """Whatever else an endpoint needs of the reactor, it gets."""
        listening: Any = Listening(reactor, MisuseError)
        self.assertTrue(IReactorTCP.providedBy(listening) and IReactorTime.providedBy(listening))
        self.assertEqual(listening.callLater, reactor.callLater)


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
            self.assertTrue(str(error).endswith(f": {path}: no certificates in it"), error)

    def test_broken_certificate(self) -> None:
        """So is a file with a broken one, and one that is not there."""
        path = Path(self.mktemp())
        path.write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        for wrong in (path, Path("/nowhere/ca.pem")):
            self.assertRaises(MisuseError, self.make, f"clientCA={wrong}")
