"""Bodies that no path of the admin endpoint needs."""

from __future__ import annotations

import tempfile
from typing import Any

from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.support.admin_client import AdminCase, AdminClient
from twisted_node.watch._admin_request import AdminRequest

_TOO_LONG = (413, "body too long: no path here needs one\n")


class BodyTests(AdminCase):
    """A body that is too long is refused when that is known, and never kept."""

    may_drain = True

    def setUp(self) -> None:
        super().setUp()
        self.client = self.start()
        # Twisted keeps bodies of 100,000 bytes and more, and those of an unknown length, in a file.
        self.patch(tempfile, "TemporaryFile", None)

    def post(self, *headers: str, path: str = "/livez", body: bytes = b"") -> tuple[int, dict[str, str], str]:
        return self.client.get(path, *headers, method="POST", body=body)

    def timers(self) -> list[Any]:
        """What is to be called in the next minute, but for the samples of the live view."""
        return [call for call in self.reactor.getDelayedCalls() if "_sample" not in str(call)]

    def test_length(self) -> None:
        """A head that says so is answered at once, and the connection is closed behind the answer."""
        for path in ("/livez", "/drain", "/status", "/nothing"):
            client = self.client = AdminClient(self.admin)
            status, headers, body = self.post("Content-Length: 209715200", path=path)
            self.assertEqual((status, body), _TOO_LONG)
            self.assertEqual((headers["Connection"], headers["Content-Length"]), ("close", str(len(body))))
            self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
            self.assertTrue(client.half_closed)
            client.clear()
            for _ in range(100):
                client.protocol.dataReceived(bytes(65536))
            self.assertEqual((client.value(), client.connected), (b"", True))
            self.reactor.advance(1)
            self.assertFalse(client.connected)
        self.assertIs(self.drain.refusing, False)

    def test_not_asked_for(self) -> None:
        """A client that asks whether to send such a body is not told to."""
        status, _, body = self.post("Content-Length: 209715200", "Expect: 100-continue")
        self.assertEqual((status, body), _TOO_LONG)

    def test_chunks(self) -> None:
        """A body of unknown length is refused as soon as it is too long."""
        self.client.clear()
        self.client.protocol.dataReceived(
            b"POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + bytes(4096)
        )
        self.assertEqual(self.client.value(), b"")
        self.client.protocol.dataReceived(b"\r\n1\r\nx\r\n")
        self.assertEqual(self.client.answer()[::2], _TOO_LONG)
        self.client.clear()
        self.client.protocol.dataReceived(b"1000\r\n" + bytes(4096) + b"\r\n0\r\n\r\n")
        self.assertEqual(self.client.value(), b"", "it is answered once")
        self.assertIs(self.drain.refusing, False)

    def test_short(self) -> None:
        """A short body is taken, and changes no answer."""
        self.assertEqual(self.post("Content-Length: 4096", body=bytes(4096))[0], 405)
        self.assertEqual(self.post("Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n")[0], 405)
        self.assertEqual(self.client.get("/livez")[::2], (200, "ok\n"))

    def test_client_leaves(self) -> None:
        """A client that closes behind the answer is not waited for."""
        self.post("Content-Length: 209715200")
        self.client.loseConnection()
        self.assertEqual(self.timers(), [])

    def test_end(self) -> None:
        """The end of the server waits no longer for such a client than for any other."""
        self.post("Content-Length: 209715200")
        ended = self.service.end("SIGTERM")
        self.reactor.advance(0.25)
        self.successResultOf(ended)

    def test_http2(self) -> None:
        """Over HTTP/2, where the answer comes behind the request, nothing is kept until then either."""

        class Stream:
            """As much of HTTP/2's stream as a request needs."""

            transport = None
            site: Any = Site(Resource(), reactor=self.reactor)
            written = b""

            def getPeer(self) -> None: ...
            def getHost(self) -> None: ...
            def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
                self.code = code

            def write(self, data: bytes) -> None:
                self.written += data

            def requestDone(self, request: AdminRequest) -> None:
                self.done = True

        stream = Stream()
        request = AdminRequest(stream)
        request.gotLength(209715200)
        for _ in range(100):
            request.handleContentChunk(bytes(65536))
        self.assertEqual(request.content.read(), b"")
        request.requestReceived(b"POST", b"/drain", b"HTTP/2")
        self.assertEqual((stream.code, stream.written, stream.done), (b"413", _TOO_LONG[1].encode(), True))
