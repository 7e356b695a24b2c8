"""Clients of servers that are restarted: ``restart_clients ROUND_TRIP KIND=HOST:PORT...``.

ROUND_TRIP is that of the line in between, in seconds; KIND is who serves there, ``node`` or ``site``. It says ``ready``
when clients of each kind have begun, goes on until the end of standard input, and prints what became of each kind of
client as JSON. Standard error has a line for each request that was not answered well, or was very late.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

from benchmarks.restart_storm import LATE, PATIENCE, VERY_LATE, Client, Counts, Kind
from tests.support.lines import message

#: Seconds between an answer and the next request, at least and at most.
PAUSE = (0.04, 0.1)

#: The clients of each kind of server. All ask one request at a time; those that keep their connection look for its end
#: before they ask.
CLIENTS = {
    "node": {
        "new": Kind(8, 0.0, 0, PAUSE, keeps_connection=False),
        "kept": Kind(8, 0.0, 0, PAUSE, keeps_connection=True),
        "slow": Kind(6, 0.7, 0, PAUSE, keeps_connection=True),
    },
    "site": {
        "new": Kind(8, 0.0, 0, PAUSE, keeps_connection=False),
        "kept": Kind(8, 0.0, 0, PAUSE, keeps_connection=True),
        "slow": Kind(6, 0.7, 0, PAUSE, keeps_connection=True),
        "streaming": Kind(3, 2.0, 20, PAUSE, keeps_connection=False),
    },
}

#: How many clients with a websocket a site has, and how many seconds its answers take.
WEBSOCKETS, WEBSOCKET_SECONDS = 4, 0.2

#: The close code of a server that goes.
GOING_AWAY = 1001

_began = time.monotonic()


class Lines:
    """Messages of a node."""

    def request(self, kind: Kind) -> bytes:
        return message("tcp_request", latency_ms=kind.seconds * 1000)

    def is_whole(self, response: bytes) -> bool:
        return response.endswith(b"\n")

    def is_last(self, response: bytes) -> bool:
        return False

    def status(self, response: bytes) -> int:
        return 200 if b'"tcp_request_ok"' in response else 503


class TellingClient(Client):
    """A client that tells of what goes wrong."""

    name = ""

    def failed(self, outcome: str, why: object) -> None:
        tell(self.name, outcome, why)


class WebsocketClient:
    """Asks once over a websocket, waits until it is told 1001, and opens another.

    A request's due time begins when the client has been told: what is measured is how long it was without a server.
    """

    def __init__(self, address: tuple[str, int], round_trip: float, counts: Counts) -> None:
        self.address, self.counts = address, counts
        self.due = WEBSOCKET_SECONDS + 3 * round_trip

    async def run(self, stopped: asyncio.Event) -> None:
        """Be served until it is to stop."""
        while not stopped.is_set():
            self.counts.requests += 1
            try:
                await self.be_served(stopped)
            except OSError as error:
                self.counts.lost += 1
                tell("site websocket", "lost", error)
                await asyncio.sleep(PAUSE[1])

    async def be_served(self, stopped: asyncio.Event) -> None:
        """Open a websocket, ask, and stay until told to go, or to stop.

        Raises:
            OSError: it was not served to a good end.
        """
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(*self.address)
        with contextlib.closing(writer):
            websocket = WSConnection(ConnectionType.CLIENT)
            writer.write(websocket.send(Request("localhost", "/ws")))
            await self.read(websocket, reader, AcceptConnection)
            writer.write(websocket.send(TextMessage("question")))
            await self.read(websocket, reader, TextMessage)
            beyond = time.monotonic() - began - self.due
            self.counts.late += beyond > LATE
            if beyond > VERY_LATE:
                self.counts.very_late += 1
                tell("site websocket", "very late", beyond)
            self.counts.worst = max(self.counts.worst, beyond)
            ending = asyncio.ensure_future(self.read(websocket, reader, CloseConnection))
            stopping = asyncio.ensure_future(stopped.wait())
            await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not ending.done():
                ending.cancel()
                return
            event = ending.result()
            if event.code != GOING_AWAY:
                raise ConnectionError(f"closed with {event.code}")
            writer.write(websocket.send(event.response()))

    async def read(self, websocket: WSConnection, reader: asyncio.StreamReader, wanted: type[Any]) -> Any:
        """Read one event, which is to be of a type."""
        while True:
            for event in websocket.events():
                if not isinstance(event, wanted):
                    raise ConnectionError(f"{event} instead of {wanted.__name__}")
                return event
            data = await reader.read(65536)
            if not data:
                raise ConnectionError(f"the end instead of {wanted.__name__}")
            websocket.receive_data(data)


def tell(who: str, outcome: str, why: object) -> None:
    """Write a line about a request that was not answered well."""
    print(f"{time.monotonic() - _began:.3f} {who} {outcome}: {why!r}", file=sys.stderr, flush=True)


async def run(round_trip: float, servers: dict[str, tuple[str, int]]) -> dict[str, Counts]:
    """Run all clients until the end of standard input."""
    stopped = asyncio.Event()
    all_counts: dict[str, Counts] = {}
    clients: list[asyncio.Task[None]] = []
    for server, address in servers.items():
        for name, kind in CLIENTS[server].items():
            counts = all_counts[f"{server} {name}"] = Counts()
            for _ in range(kind.clients):
                client = TellingClient(address, kind, round_trip, counts, Lines() if server == "node" else None)
                client.name = f"{server} {name}"
                clients.append(asyncio.create_task(client.run(stopped)))
        if server == "site" and find_spec("twisted.web.websocket"):
            counts = all_counts["site websocket"] = Counts()
            clients += [
                asyncio.create_task(WebsocketClient(address, round_trip, counts).run(stopped))
                for _ in range(WEBSOCKETS)
            ]
    while not all(counts.requests for counts in all_counts.values()):
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stopped.set()
    _, unanswered = await asyncio.wait(clients, timeout=PATIENCE)
    for task in unanswered:
        task.cancel()
    for task, result in zip(clients, await asyncio.gather(*clients, return_exceptions=True), strict=True):
        if task not in unanswered and result is not None:
            raise RuntimeError("a client has failed") from result
    return all_counts


def main() -> None:
    round_trip, *arguments = sys.argv[1:]
    servers = {}
    for argument in arguments:
        kind, _, address = argument.partition("=")
        host, _, port = address.rpartition(":")
        servers[kind] = (host, int(port))
    results = asyncio.run(run(float(round_trip), servers))
    print(json.dumps({name: asdict(counts) for name, counts in results.items()}), flush=True)


if __name__ == "__main__":
    main()
