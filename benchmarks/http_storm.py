"""A storm of HTTP clients, in every state that a connection can be in, against one server that is stopped under them.

What counts as lost: a request that was sent whole on a connection that had been made, and whose client got no whole
response to it: its connection was closed or reset first; or a connection that was made on its client's side, and was
reset before the first request could be sent. A client that keeps its connection looks whether the server has closed it
before each request, and makes a new one if so. What does not count as lost: a connection that is refused
(nothing was sent), and a response of any status (503 means: not started, send it again); those are counted apart.

Among those lost, some have crossed: a request on a connection that was idle until then, whose client reads a clean end,
without a byte, within a moment. It met the server's own close on the way. All servers that close idle connections have
that race, and a starved client loses it more often; the client knows that nothing was started.

A half-sent request is counted apart too: one half is sent before the server is stopped, the other afterwards; it is
answered, by any response, or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from benchmarks import http_messages

__all__ = ["CLIENTS", "CROSSING", "Result", "Storm"]

#: How many clients of each kind.
CLIENTS = {"in_flight": 40, "keep_alive": 20, "half_sent": 10, "idle": 20, "reconnecting": 20}

#: Milliseconds that the requests take which are in flight at the stop.
LATENCY_MS = (50, 400)

#: Seconds between two requests of a client that keeps its connection, or makes a new one for each.
PAUSE = (0.005, 0.015)

#: A request that crosses the server's close is sent at most a round trip and so many seconds before its client reads
#: that.
CROSSING = 0.05

#: Seconds from the stop to the second half of a half-sent request.
SECOND_HALF = 0.15


@dataclass
class Result:
    """What became of the requests of a storm."""

    answered: int = 0
    #: Answered 503.
    refused: int = 0
    #: By kind of client.
    lost: dict[str, int] = field(default_factory=dict)
    #: How many of the lost have crossed the server's close.
    crossed: int = 0
    half_sent_answered: int = 0
    connections_refused: int = 0
    #: When the last response was complete, on the monotonic clock.
    last_answer: float = 0.0


class _Closed(Exception):
    """The server has closed the connection, or reset it."""

    def __init__(self, *, clean: bool) -> None:
        super().__init__(clean)
        self.clean = clean


class _Connection:
    """One connection, without any buffering between the client and the kernel."""

    def __init__(self, storm: Storm, kind: str) -> None:
        self._storm = storm
        self._kind = kind
        self._socket: socket.socket | None = None
        self._was_used = False
        self._loop = asyncio.get_running_loop()

    async def connect(self) -> None:
        """Connect, if there is no connection that the server keeps open.

        Raises:
            ConnectionRefusedError: the server does not listen any more.
        """
        if self._socket is not None and not self._server_has_closed():
            return
        self.close()
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._loop.sock_connect(made, (self._storm.host, self._storm.port))
        except OSError:
            made.close()
            raise
        self._socket = made
        self._was_used = False

    async def send(self, data: bytes) -> None:
        """Send; raises _Closed if that is impossible."""
        assert self._socket is not None
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError:
            raise _Closed(clean=False) from None

    async def receive(self) -> int:
        """Receive one whole response; return its status."""
        data = b""
        try:
            while not http_messages.is_whole(data):
                data += await self._read()
        except _Closed as closed:
            raise _Closed(clean=closed.clean and not data) from None
        result = self._storm.result
        result.last_answer = time.monotonic()
        result.answered += 1
        status = http_messages.status(data)
        result.refused += status == 503
        if http_messages.is_last(data):
            self.close()
        return status

    async def ask(self, path: str, *headers: str) -> None:
        """Send a request and receive its response; one without a response is lost."""
        was_idle, self._was_used = self._was_used, True
        sent_at = time.monotonic()
        try:
            await self.send(http_messages.request(path, *headers))
        except _Closed:
            # Not sent as a whole.
            if not was_idle:
                self._lost()
            return
        try:
            await self.receive()
        except _Closed as closed:
            self._lost()
            took = time.monotonic() - sent_at
            self._storm.result.crossed += was_idle and closed.clean and took < CROSSING + self._storm.round_trip

    def _lost(self) -> None:
        lost = self._storm.result.lost
        lost[self._kind] = lost.get(self._kind, 0) + 1
        self.close()

    async def wait_for_close(self) -> None:
        """Wait until the server closes, unless it has."""
        if self._socket is None:
            return
        with contextlib.suppress(_Closed):
            await self._read()
        self.close()

    def close(self) -> None:
        """Close."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _read(self) -> bytes:
        assert self._socket is not None
        try:
            data = await self._loop.sock_recv(self._socket, 65536)
        except OSError:
            raise _Closed(clean=False) from None
        if not data:
            raise _Closed(clean=True)
        return data

    def _server_has_closed(self) -> bool:
        assert self._socket is not None
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True


class Storm:
    """All the clients, in this process, without a thread.

    Args:
        port: of the server. It answers ``GET /?ms=N`` after N milliseconds.
        seed: for the pauses and latencies.
        clients: how many of each kind.
        host: the server's IPv4 address.
        round_trip: seconds to the server and back.
    """

    def __init__(
        self,
        port: int,
        seed: int = 0,
        clients: Mapping[str, int] = CLIENTS,
        *,
        host: str = "127.0.0.1",
        round_trip: float = 0.0,
    ) -> None:
        self.port = port
        self.host = host
        self.round_trip = round_trip
        self.clients = clients
        self.result = Result()
        self._random = random.Random(seed)
        self._stopped = asyncio.Event()

    async def run(self, stop: Callable[[], Awaitable[object]], before: float = 0.5) -> Result:
        """Run to the end of the server.

        Args:
            stop: stops the server, and waits for its end.
            before: seconds from the first request to the stop.
        """
        clients = [
            asyncio.create_task(self._client(kind, getattr(self, f"_{kind}")))
            for kind, count in self.clients.items()
            for _ in range(count)
        ]
        await asyncio.sleep(before)
        self._stopped.set()
        await stop()
        await asyncio.wait_for(asyncio.gather(*clients), 5)
        return self.result

    async def _client(self, kind: str, act: Callable[[_Connection], Awaitable[None]]) -> None:
        connection = _Connection(self, kind)
        await asyncio.sleep(self._random.uniform(0, 0.1))
        try:
            await act(connection)
        except OSError:
            # Refused, or reset before anything was sent: the server is gone, and this client too.
            self.result.connections_refused += 1
        finally:
            connection.close()

    async def _in_flight(self, connection: _Connection) -> None:
        while True:
            await connection.connect()
            await connection.ask(f"/?ms={self._random.randint(*LATENCY_MS)}")

    async def _keep_alive(self, connection: _Connection) -> None:
        while True:
            await connection.connect()
            await connection.ask("/")
            await asyncio.sleep(self._random.uniform(*PAUSE))

    async def _reconnecting(self, connection: _Connection) -> None:
        while True:
            await connection.connect()
            await connection.ask("/", "Connection: close")
            connection.close()
            await asyncio.sleep(self._random.uniform(*PAUSE))

    async def _half_sent(self, connection: _Connection) -> None:
        request = http_messages.request("/", "X-Padding: " + "x" * 100)
        await connection.connect()
        await connection.send(request[:60])
        await self._stopped.wait()
        await asyncio.sleep(SECOND_HALF)
        try:
            await connection.send(request[60:])
            await connection.receive()
        except _Closed:
            return
        self.result.half_sent_answered += 1

    async def _idle(self, connection: _Connection) -> None:
        await connection.connect()
        await connection.ask("/")
        await connection.wait_for_close()
