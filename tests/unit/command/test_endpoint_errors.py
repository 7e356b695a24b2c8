"""What is said of an endpoint that cannot be made; see ``test_endpoints`` for strings that are wrong."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.command._endpoint_errors import explain


class ExplainTests(SynchronousTestCase):
    """Errors that no string of an endpoint brings about by itself."""

    def test_other_openssl_errors(self) -> None:
        """What OpenSSL does not explain still names the file."""
        error = SSL.Error()
        expected = "no usable certificate and key, in PEM, in server.pem (OpenSSL does not say why)"
        self.assertEqual(explain(error, ["ssl", "443"]), expected)

    def test_no_words(self) -> None:
        """An error without words is shown by its kind, any other by its words."""
        self.assertEqual(explain(IndexError("out of range"), ["plugin"]), "out of range")
        self.assertEqual(explain(ValueError(), ["tcp", "80"]), "ValueError()")
