"""Clients at a distance, run on the near side of a line: each makes a new connection for every request.

usage: far_storm.py ADDRESS PORT KIND COUNT SLOW [tls]

KIND is ``node`` or ``site``; of COUNT clients SLOW make requests that take a while, so that some are in flight always.
With ``tls`` each connection begins with a handshake, and the first request goes with its last message.

It says ``ready`` when each client has an answer, runs until every client has been refused, and prints what became of
the requests as JSON. A client that has connected is to get an answer, or to be told that the server shuts down. What is
lost is a connection that was made, on the client's side, and that got neither. This program imports nothing of ours, so
that any user can run it.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import ssl
import sys
import time
from collections import Counter

REQUESTS = {
    "node": b'{"src": "c1", "dest": "n1", "body": {"type": "tcp_request", "msg_id": 1, "latency_ms": %d}}\n',
    "site": b"GET /?ms=%d HTTP/1.1\r\nHost: localhost\r\n\r\n",
}

#: Milliseconds that a slow request takes.
SLOW_MS = 400

#: What an answer shows that is a whole one, and what one shows that says no.
ANSWERED = {"node": b"tcp_request_ok", "site": b"HTTP/1.1 200"}
TOLD = {"node": b"server_shutting_down", "site": b"HTTP/1.1 503"}

#: Seconds until an attempt to connect is given up. The door drops what comes after it is shut.
CONNECT_TIMEOUT = 2.5

#: Seconds until a connection without an answer is given up.
ANSWER_TIMEOUT = 8.0

#: Seconds between a client's connections, and before the first, at most: clients are not to march in step.
PAUSE, FIRST_PAUSE = 0.02, 0.4


class Client:
    """One client, and the connection that it has at the moment."""

    def __init__(
        self,
        address: tuple[str, int],
        kind: str,
        latency_ms: int,
        outcomes: Counter[str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self.tls = tls
        self.kind = kind
        self.request = REQUESTS[kind] % latency_ms
        self.outcomes = outcomes
        self.answered = False
        self.done = False

    def begin(self) -> None:
        """Connect."""
        self.socket = socket.socket(socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET)
        self.socket.setblocking(False)
        # Connected means that this side has its connection; asked, that the request was sent.
        self.connected, self.asked, self.received = False, False, b""
        self.deadline = time.monotonic() + CONNECT_TIMEOUT
        self.socket.connect_ex(self.address)

    def ready(self) -> None:
        """Act, now that the socket can be written to or read from."""
        try:
            if not self.connected:
                error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    self.refused()
                    return
                self.connected = True
                self.deadline = time.monotonic() + ANSWER_TIMEOUT
                if self.tls is not None:
                    self.socket = self.tls.wrap_socket(self.socket, do_handshake_on_connect=False)
            if not self.asked:
                if isinstance(self.socket, ssl.SSLSocket):
                    self.socket.do_handshake()
                self.asked = True
                self.socket.sendall(self.request)
            data = self.socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self.end(type(error).__name__ if self.asked else f"{type(error).__name__} before the request")
            return
        self.received += data
        if ANSWERED[self.kind] in self.received:
            self.answered = True
            self.end("answered")
        elif TOLD[self.kind] in self.received:
            self.end("told")
        elif not data:
            self.end("closed without an answer")

    def late(self) -> None:
        """Give up."""
        if self.connected:
            self.end("silence")
        else:
            self.refused()

    def refused(self) -> None:
        """End: the server does not listen any more."""
        self.done = True
        self.end("refused")

    def end(self, outcome: str) -> None:
        """Note how a connection ended."""
        self.outcomes[outcome] += 1
        self.socket.close()


def main() -> None:
    """Run."""
    address, port, kind, count, slow, *rest = sys.argv[1:]
    tls = None
    if rest == ["tls"]:
        # Who the server is does not matter here.
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    outcomes: Counter[str] = Counter()
    clients = [
        Client((address, int(port)), kind, SLOW_MS if number < int(slow) else 0, outcomes, tls)
        for number in range(int(count))
    ]
    selector = selectors.DefaultSelector()
    resting = [(time.monotonic() + random.uniform(0, FIRST_PAUSE), client) for client in clients]

    def watch(client: Client) -> None:
        events = selectors.EVENT_READ if client.connected else selectors.EVENT_WRITE
        selector.register(client.socket, events, client)

    said_ready = False
    while not all(client.done for client in clients):
        now = time.monotonic()
        busy = [key.data for key in selector.get_map().values()]
        ready = [key.data for key, _ in selector.select(0.001 if resting else 0.05)]
        for client in {*ready, *(client for client in busy if client.deadline <= now)}:
            selector.unregister(client.socket)
            if client in ready:
                client.ready()
            else:
                client.late()
            if client.socket.fileno() >= 0:
                watch(client)
            elif not client.done:
                resting.append((now + random.uniform(0, PAUSE), client))
        for rested in [rested for rested in resting if rested[0] <= now]:
            resting.remove(rested)
            rested[1].begin()
            watch(rested[1])
        if not said_ready and all(client.answered for client in clients):
            print("ready", flush=True)
            said_ready = True
    print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main()
