"""A storm of clients, in every state that a connection can be in, against one server that is stopped under them.

What counts as lost: a request that was sent whole on a connection that had been made, whose client read to the end of
that connection (or was reset) without an answer to it. One exception: a request that a client sends on an idle
connection within a moment of the server's FIN has crossed it on the way; it was never started, and the client knows,
for it has read a clean end. These are counted apart, as crossed.
"""

from __future__ import annotations

import itertools
import json
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.lines import message
from tests.support.patience import PATIENCE

Connect = Callable[[], socket.socket]

#: A request that crosses the server's FIN is sent at most so many seconds before its client reads that.
CROSSING = 0.05

_numbers = itertools.count(1)


class StormClient(threading.Thread):
    """One client: what it sent, what it got, and how its connection ended."""

    def __init__(self, connect: Connect, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.connect = connect
        #: Set when the server has begun to drain.
        self.stop = stop
        self.sent: dict[int, float] = {}
        self.answers: list[dict[str, Any]] = []
        self.last_answer = 0.0
        self.ended_at = 0.0
        self.end = "not begun"
        self.crossed = 0
        self.failure: BaseException | None = None
        self.ready = threading.Event()
        self._rest = b""

    def run(self) -> None:
        """Act, and note how it ended."""
        try:
            self.act()
        except ConnectionRefusedError:
            self.end = "refused"
        except (ConnectionResetError, BrokenPipeError):
            self.end = "reset"
        except BaseException as failure:
            self.failure = failure
        finally:
            self.ready.set()

    def act(self) -> None:
        """Do what this kind of client does."""
        raise AssertionError

    def request(self, latency_ms: int, **fields: Any) -> bytes:
        """Make a request, and remember it as sent."""
        number = next(_numbers)
        self.sent[number] = time.monotonic()
        return message("tcp_request", number, latency_ms=latency_ms, **fields)

    def read(self, connection: socket.socket) -> bool:
        """Read once; return whether the connection goes on."""
        data = connection.recv(65536)
        now = time.monotonic()
        if not data:
            self.end, self.ended_at = "closed", now
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.last_answer = now
            self.answers.append(json.loads(line)["body"])
        return True

    def read_to_end(self, connection: socket.socket) -> None:
        """Read until the server closes."""
        while self.read(connection):
            pass
        connection.close()

    def unanswered(self) -> list[int]:
        """The requests that are lost."""
        answered = [answer.get("in_reply_to") for answer in self.answers]
        if len(set(answered)) != len(answered):
            raise AssertionError(f"answered twice: {self}")
        missing = self.sent.keys() - set(answered)
        crossed = {
            n for n in missing if self.may_cross and self.end == "closed" and self.ended_at - self.sent[n] < CROSSING
        }
        self.crossed = len(crossed)
        return sorted(missing - crossed)

    #: Whether it sends on idle connections at any time.
    may_cross = False

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.end}, {len(self.sent)} sent, {len(self.answers)} answered, {self.failure!r})"
        )


class Idle(StormClient):
    """Connects, and says nothing."""

    def act(self) -> None:
        connection = self.connect()
        self.ready.set()
        self.read_to_end(connection)


class InFlight(StormClient):
    """Has one request in flight when the server is stopped."""

    def __init__(self, connect: Connect, stop: threading.Event, latency_ms: int = 300) -> None:
        super().__init__(connect, stop)
        self.latency_ms = latency_ms

    def act(self) -> None:
        connection = self.connect()
        connection.sendall(self.request(self.latency_ms))
        self.ready.set()
        self.read_to_end(connection)


class Pipelined(StormClient):
    """Sends 200 requests at once, some quick, some slow."""

    slowest_ms = 200

    def act(self) -> None:
        connection = self.connect()
        connection.sendall(b"".join(self.request(random.choice((0, 0, 1, self.slowest_ms))) for _ in range(200)))
        self.ready.set()
        self.read_to_end(connection)


class PipelinedQuick(Pipelined):
    """The same, with nothing ever in flight."""

    slowest_ms = 0


class HalfLine(StormClient):
    """Has sent half a line when the server is stopped, and sends the rest a little later."""

    def act(self) -> None:
        connection = self.connect()
        line = self.request(0)
        connection.sendall(line[:20])
        self.ready.set()
        self.stop.wait()
        threading.Event().wait(random.uniform(0, 0.1))
        connection.sendall(line[20:])
        self.read_to_end(connection)


class HalfClosed(StormClient):
    """Closes its half after its requests, and still wants the answers."""

    def act(self) -> None:
        connection = self.connect()
        connection.sendall(self.request(0) + self.request(250))
        connection.shutdown(socket.SHUT_WR)
        self.ready.set()
        self.read_to_end(connection)


class SlowReader(StormClient):
    """Asks for much, and reads nothing until well after the stop."""

    def act(self) -> None:
        connection = self.connect()
        source = "s" * 1000
        connection.sendall(b"".join(self.request(0, src=source) for _ in range(100)))
        self.ready.set()
        self.stop.wait()
        threading.Event().wait(0.4)
        self.read_to_end(connection)


class KeptAlive(StormClient):
    """Asks every few milliseconds on one connection, and looks whether that was closed before it asks again."""

    may_cross = True

    def act(self) -> None:
        connection = self.connect()
        self.ready.set()
        while True:
            readable, _, _ = select.select([connection], [], [], random.uniform(0.001, 0.005))
            if readable:
                self.read_to_end(connection)
                return
            connection.sendall(self.request(0))
            wanted = len(self.answers) + 1
            while len(self.answers) < wanted:
                if not self.read(connection):
                    connection.close()
                    return


class Reconnecting(StormClient):
    """Connects for each request, until it is refused."""

    may_cross = False

    def act(self) -> None:
        while True:
            connection = self.connect()
            self.ready.set()
            connection.sendall(self.request(random.choice((0, 1, 5))))
            wanted = len(self.answers) + 1
            while len(self.answers) < wanted:
                if not self.read(connection):
                    connection.close()
                    return
            connection.close()


class Late(StormClient):
    """Connects when the drain has begun."""

    def act(self) -> None:
        self.ready.set()
        self.stop.wait()
        threading.Event().wait(0.05)
        self.read_to_end(self.connect())


class Storm:
    """All clients together.

    Args:
        connect: makes a connection to the server.
        kinds: how many of each kind.
    """

    def __init__(self, connect: Connect, kinds: dict[type[StormClient], int]) -> None:
        self.stop = threading.Event()
        self.clients = [kind(connect, self.stop) for kind, count in kinds.items() for _ in range(count)]
        self._switch_interval = sys.getswitchinterval()

    def begin(self) -> None:
        """Start all clients, and wait until each has its connection."""
        # At Python's 5 ms, a dozen busy clients keep another from reading for longer than CROSSING.
        sys.setswitchinterval(0.0005)
        for client in self.clients:
            client.start()
        for client in self.clients:
            if not client.ready.wait(PATIENCE):
                raise AssertionError(f"not ready: {client}")

    def finish(self) -> None:
        """Wait for all clients to come to their end."""
        for client in self.clients:
            client.join(PATIENCE)
        sys.setswitchinterval(self._switch_interval)
        for client in self.clients:
            if client.is_alive() or client.failure is not None:
                raise AssertionError(f"did not end well: {client}")

    @property
    def last_answer(self) -> float:
        """When the last answer arrived, on the monotonic clock."""
        return max(client.last_answer for client in self.clients)

    def lost(self) -> list[tuple[StormClient, int]]:
        """The clients that lost requests, with the number of these."""
        return [(client, len(missing)) for client in self.clients if (missing := client.unanswered())]
