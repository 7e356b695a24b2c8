"""Clients that ask one request at a time, and look for the end of input before each: a lame duck refuses none of them.

They come by way of a balancer: who is sent away comes back to another server, since the first is not ready any more.
"""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections import Counter
from http.client import HTTPConnection, RemoteDisconnected

from tests.support.lines import bodies, message
from tests.support.patience import PATIENCE


class PoliteClient(threading.Thread):
    """Asks a node in JSON lines.

    Args:
        ports: of the first server, and of the one that takes its place.
        latency_ms: how long each request takes.
        pause: seconds between an answer and the next request, at most.
        context: for TLS; None for TCP.
    """

    def __init__(
        self, ports: tuple[int, int], *, latency_ms: int, pause: float, context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.ports = ports
        self.latency_ms = latency_ms
        self.pause = pause
        self.context = context
        #: What has become of the requests: answered, refused, unanswered or reset.
        self.counts: Counter[str] = Counter()
        #: When it was sent away, on the monotonic clock.
        self.left_at = 0.0
        self.failure: BaseException | None = None
        #: Whether its first request has been sent.
        self.has_asked = threading.Event()
        self._enough = threading.Event()

    def finish(self) -> None:
        """Stop asking."""
        self._enough.set()
        self.join(PATIENCE)

    def run(self) -> None:
        """Ask until told to stop."""
        try:
            for port in self.ports:
                self.talk(port)
                self.left_at = self.left_at or time.monotonic()
        except BaseException as failure:
            self.failure = failure

    def talk(self, port: int) -> None:
        """Ask one server until it has closed the connection, and no request is without an answer."""
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as raw:
            connection = raw if self.context is None else self.context.wrap_socket(raw, server_hostname="127.0.0.1")
            with connection:
                try:
                    while not self._enough.wait(random.uniform(0, self.pause)) and not has_ended(connection):
                        self.counts[self.ask(connection)] += 1
                except ConnectionError:
                    self.counts["reset"] += 1

    def ask(self, connection: socket.socket) -> str:
        """Ask once; return what has become of it."""
        connection.sendall(message("tcp_request", latency_ms=self.latency_ms))
        self.has_asked.set()
        output = b""
        while not output.endswith(b"\n"):
            data = connection.recv(65536)
            if not data:
                return "unanswered"
            output += data
        (body,) = bodies(output)
        return "answered" if body["type"] == "tcp_request_ok" else "refused"


class PoliteBrowser(PoliteClient):
    """The same over HTTP/1."""

    def talk(self, port: int) -> None:
        """Ask one server until an answer says that it was the last, or the server has closed."""
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.connect()
        sock = connection.sock
        try:
            while not self._enough.wait(random.uniform(0, self.pause)):
                if connection.sock is None or has_ended(sock):
                    return
                connection.request("GET", f"/?ms={self.latency_ms}")
                self.has_asked.set()
                response = connection.getresponse()
                response.read()
                self.counts["answered" if response.status == 200 else "refused"] += 1
        except RemoteDisconnected:
            self.counts["unanswered"] += 1
        except ConnectionError:
            self.counts["reset"] += 1
        finally:
            connection.close()


def has_ended(connection: socket.socket) -> bool:
    """Return whether the server has closed; no answer is outstanding."""
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    finally:
        connection.settimeout(PATIENCE)
