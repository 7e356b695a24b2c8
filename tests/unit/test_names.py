"""How addresses are named."""

from __future__ import annotations

from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.names import peer_name


class PeerNameTests(SynchronousTestCase):
    """The name of a client."""

    def test_kinds_of_address(self) -> None:
        """Addresses are named as a person would: IPv6 and unix ones too."""
        self.assertEqual(peer_name(IPv6Address("TCP", "::1", 80)), "[::1]:80")
        self.assertEqual(peer_name(UNIXAddress(b"/x")), "/x")
        self.assertEqual(peer_name(UNIXAddress(b"\0x")), "@x")
        self.assertEqual(peer_name(UNIXAddress(None)), "a unix socket")
        self.assertEqual(peer_name("standard input"), "standard input")
