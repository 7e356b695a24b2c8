"""``python -m benchmarks.restart_storm HOST PORT ROUND_TRIP``: a storm on a server that is restarted.

The HTTP clients are all in this process. It says ``ready`` when the server answers, goes on until the end of standard
input, and prints what became of each kind of client as JSON. ROUND_TRIP is that of the line in between, in seconds.

Each client asks one thing at a time, of ``GET /?ms=N&parts=M``: an answer after N milliseconds, or in M parts over that
time. A client that keeps its connection looks for the end of input before it asks, and makes a new one if it is there.
A client that is refused asks again after its pause.

A request is late by the time that it took beyond what it had to: that which it asks for, and a round trip, and another
one for a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sys
import time
from dataclasses import asdict, dataclass
from typing import Protocol

from benchmarks import http_messages

__all__ = ["CLIENTS", "LATE", "VERY_LATE", "Client", "Counts", "Kind", "Messages"]

#: Seconds beyond its due time after which a request is late, and very late.
LATE, VERY_LATE = 0.1, 0.9

#: Seconds that the last requests of a storm have to be answered; what is not answered then is lost.
PATIENCE = 15.0


@dataclass(frozen=True)
class Kind:
    """A kind of client."""

    clients: int
    #: Seconds that an answer takes, and in how many parts it comes; 0: in one.
    seconds: float
    parts: int
    #: Seconds between an answer and the next request.
    pause: tuple[float, float]
    keeps_connection: bool


CLIENTS = {
    "new": Kind(20, 0.0, 0, (0.02, 0.06), keeps_connection=False),
    "kept": Kind(20, 0.0, 0, (0.02, 0.06), keeps_connection=True),
    "slow": Kind(10, 0.7, 0, (0.02, 0.06), keeps_connection=True),
    "streaming": Kind(5, 2.0, 20, (0.02, 0.06), keeps_connection=False),
}


@dataclass
class Counts:
    """What became of the requests of one kind of client."""

    requests: int = 0
    #: There was no connection for it.
    refused: int = 0
    #: Reset, or ended, or left without a whole answer.
    lost: int = 0
    #: Answered by an error, such as 503.
    told: int = 0
    #: Answered well, but late, and very late; the latter are among the former.
    late: int = 0
    very_late: int = 0
    #: Seconds beyond its due time of the worst that was answered well.
    worst: float = 0.0

    def add(self, other: Counts) -> None:
        """Add those of another restart, or kind."""
        for name, value in asdict(other).items():
            if name == "worst":
                self.worst = max(self.worst, value)
            else:
                setattr(self, name, getattr(self, name) + value)


class Messages(Protocol):
    """How a kind of client and its server speak."""

    def request(self, kind: Kind) -> bytes:
        """Write a request."""

    def is_whole(self, response: bytes) -> bool:
        """Say whether a response is there as a whole."""

    def is_last(self, response: bytes) -> bool:
        """Say whether the server says that it closes behind this response."""

    def status(self, response: bytes) -> int:
        """Return the status of a response: 200 is a good one."""


class Http:
    """Messages of HTTP/1.1."""

    is_whole = staticmethod(http_messages.is_whole)
    is_last = staticmethod(http_messages.is_last)
    status = staticmethod(http_messages.status)

    def request(self, kind: Kind) -> bytes:
        """Ask for what the kind asks for."""
        headers = () if kind.keeps_connection else ("Connection: close",)
        return http_messages.request(f"/?ms={kind.seconds * 1000:.0f}&parts={kind.parts}", *headers)


class Client:
    """One client.

    Args:
        address: the server's.
        kind: what it does.
        round_trip: of the line to the server, in seconds.
        counts: where it counts.
        messages: what it says.
    """

    def __init__(
        self,
        address: tuple[str, int],
        kind: Kind,
        round_trip: float,
        counts: Counts,
        messages: Messages | None = None,
    ) -> None:
        self._address = address
        self._kind = kind
        self._round_trip = round_trip
        self._counts = counts
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._messages = messages or Http()
        self._request = self._messages.request(kind)

    async def run(self, stopped: asyncio.Event) -> None:
        """Ask until it is to stop, and the last request has its answer."""
        await asyncio.sleep(random.uniform(0, self._kind.pause[1] + self._kind.seconds))
        while not stopped.is_set():
            await self.ask()
            await asyncio.sleep(random.uniform(*self._kind.pause))
        self._close()

    async def ask(self) -> None:
        """Make one request, and count what becomes of it."""
        self._counts.requests += 1
        due = self._kind.seconds + self._round_trip
        began = time.monotonic()
        if not self._is_connected():
            due += self._round_trip
            try:
                self._socket = await self._connect()
            except OSError as error:
                self._counts.refused += 1
                self.failed("refused", error)
                return
        try:
            status = await self._exchange()
        except asyncio.CancelledError as error:
            self._counts.lost += 1
            self.failed("lost", error)
            raise
        except OSError as error:
            self._counts.lost += 1
            self.failed("lost", error)
            self._close()
            return
        self._count(status, time.monotonic() - began - due)

    def failed(self, outcome: str, why: object) -> None:
        """Hear of a request that was not answered well, or was very late, and why."""

    def _count(self, status: int, beyond: float) -> None:
        if status != 200:
            self._counts.told += 1
            self.failed("told", status)
            return
        if beyond > VERY_LATE:
            self.failed("very late", beyond)
        self._counts.late += beyond > LATE
        self._counts.very_late += beyond > VERY_LATE
        self._counts.worst = max(self._counts.worst, beyond)

    async def _connect(self) -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._loop.sock_connect(made, self._address)
        except BaseException:
            made.close()
            raise
        return made

    async def _exchange(self) -> int:
        """Send the request, receive the answer; return its status.

        Raises:
            OSError: there is no whole answer.
        """
        assert self._socket is not None
        await self._loop.sock_sendall(self._socket, self._request)
        data = b""
        while not self._messages.is_whole(data):
            read = await self._loop.sock_recv(self._socket, 65536)
            if not read:
                raise ConnectionError(f"the server has closed behind {data!r}")
            data += read
        if not self._kind.keeps_connection or self._messages.is_last(data):
            self._close()
        return self._messages.status(data)

    def _is_connected(self) -> bool:
        """Say whether there is a connection that its server has not closed, as far as one can see here."""
        if self._socket is None:
            return False
        with contextlib.suppress(BlockingIOError):
            try:
                has_ended = not self._socket.recv(1, socket.MSG_PEEK)
            except ConnectionError:
                has_ended = True
            if has_ended:
                self._close()
                return False
        return True

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


async def storm(address: tuple[str, int], round_trip: float) -> dict[str, Counts]:
    """Run all clients until the end of standard input."""
    await _wait_until_ready(address, round_trip)
    print("ready", flush=True)
    stopped = asyncio.Event()
    counts = {name: Counts() for name in CLIENTS}
    clients = [
        asyncio.create_task(Client(address, kind, round_trip, counts[name]).run(stopped))
        for name, kind in CLIENTS.items()
        for _ in range(kind.clients)
    ]
    await asyncio.to_thread(sys.stdin.read)
    stopped.set()
    _, unanswered = await asyncio.wait(clients, timeout=PATIENCE)
    for client in unanswered:
        client.cancel()
    # An error of a client's is one of this program's.
    for client, result in zip(clients, await asyncio.gather(*clients, return_exceptions=True), strict=True):
        if client not in unanswered and result is not None:
            raise RuntimeError("a client has failed") from result
    return counts


async def _wait_until_ready(address: tuple[str, int], round_trip: float) -> None:
    kind = Kind(1, 0.0, 0, (0.0, 0.0), keeps_connection=False)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        counts = Counts()
        await asyncio.wait_for(Client(address, kind, round_trip, counts).ask(), PATIENCE)
        if not counts.refused + counts.lost + counts.told:
            return
        await asyncio.sleep(0.1)
    raise SystemExit("the server does not answer")


if __name__ == "__main__":
    host, port, seconds = sys.argv[1:]
    results = asyncio.run(storm((host, int(port)), float(seconds)))
    print(json.dumps({name: asdict(counts) for name, counts in results.items()}), flush=True)
