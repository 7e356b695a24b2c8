"""TLS handshakes that are under way when a server is told to end."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

from tests.support.certificates import Certificates
from tests.support.lines import message
from tests.support.processes import Process
from tests.support.servers import ServerTestCase

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class TlsHandshakeTests(ServerTestCase):
    """The client's last flight, with its first request, comes after the signal."""

    certificates: Certificates

    def setUp(self) -> None:
        super().setUp()
        folder = Path(self.mktemp())
        self.certificates = Certificates(folder)
        pem = self.certificates.server.absolute()
        self.endpoint = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"

    def assert_answered(self, process: Process, port: int, request: bytes, answer: bytes, **versions: Any) -> None:
        """Begin a handshake, have the server told to end, and go on a good while later."""
        client = self.connect(port)
        context = self.certificates.client_context()
        for name, version in versions.items():
            setattr(context, name, version)
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(received, sent, server_hostname="127.0.0.1")
        self.assertRaises(ssl.SSLWantReadError, tls.do_handshake)
        client.sendall(sent.read())
        # The server's part of the handshake. (It comes as a whole: it is less than the kernel moves at once.)
        received.write(client.recv(65_536))
        process.signal()
        process.wait_for_log("draining")
        with self.assertRaises(subprocess.TimeoutExpired):
            # Longer than a client that has just connected is waited for.
            process.popen.wait(0.2)
        self.finish_handshake(client, tls, received, sent)
        tls.write(request)
        client.sendall(sent.read())
        self.assertIn(answer, self.read(client, tls, received))
        client.close()
        self.assertEqual(process.wait(), 0, process.log)

    def finish_handshake(
        self, client: socket.socket, tls: ssl.SSLObject, received: ssl.MemoryBIO, sent: ssl.MemoryBIO
    ) -> None:
        """With TLS 1.3 this is the client's last flight; with TLS 1.2 the server answers it."""
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:  # noqa: PERF203 # the interface of ssl
                client.sendall(sent.read())
                received.write(client.recv(65_536))
            else:
                return

    def read(self, client: socket.socket, tls: ssl.SSLObject, received: ssl.MemoryBIO) -> bytes:
        """What the client gets until the end."""
        data = b""
        while True:
            try:
                if not (chunk := tls.read()):
                    return data
                data += chunk
            except ssl.SSLWantReadError:  # noqa: PERF203 # the interface of ssl
                received.write(client.recv(65_536))

    def test_site(self) -> None:
        """A site answers it: it refuses, in so many words."""
        self.assert_answered(*self.site(linger=10, endpoint=self.endpoint), GET, b"503 Service Unavailable")

    def test_site_with_tls_1_2(self) -> None:
        """So it does if the request comes a round trip later, as with TLS 1.2."""
        process, port = self.site(linger=10, endpoint=self.endpoint)
        self.assert_answered(process, port, GET, b"503 Service Unavailable", maximum_version=ssl.TLSVersion.TLSv1_2)

    def test_node(self) -> None:
        """A node refuses too."""
        process, port = self.node("--linger", "10", endpoint=self.endpoint)
        self.assert_answered(process, port, message("tcp_request"), b"server_shutting_down")

    def test_client_that_never_finishes(self) -> None:
        """A handshake that is not finished costs the linger, and nothing counts as cut."""
        process, port = self.node("--linger", "0.3", endpoint=self.endpoint)
        client = self.connect(port)
        client.sendall(b"\x16\x03\x01")
        process.signal()
        with self.assertRaises(subprocess.TimeoutExpired):
            process.popen.wait(0.2)
        self.assertEqual(process.wait(), 0, process.log)
