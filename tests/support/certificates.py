"""Certificates for the tests of TLS: an authority, a server, a client."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certificates:
    """Writes ``ca.pem``, ``server.pem`` and ``client.pem``, the latter two with their keys, into a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = folder / "ca.pem"
        self.server = folder / "server.pem"
        self.client = folder / "client.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        for path in (self.server, self.client):
            # One certificate and then its key, as the endpoints read them from one file.
            certificate = authority.issue_cert("127.0.0.1")
            path.write_bytes(certificate.cert_chain_pems[0].bytes() + certificate.private_key_pem.bytes())

    def client_context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """What a client needs to connect."""
        context = ssl.create_default_context(cafile=self.authority)
        if with_certificate:
            context.load_cert_chain(self.client)
        return context
