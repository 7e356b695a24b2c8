"""A client that costs less than the node: ``load.py PORT CONNECTIONS OUTSTANDING REQUESTS``; prints the seconds.

Each connection is another client's. Its requests are encoded beforehand, all the same, so that the next ones are a
slice of a block; an answer is a newline, counted. Each answer is followed by one new request on the same connection,
until all have been sent.
"""

from __future__ import annotations

import select
import socket
import sys
import time

from benchmarks.lines import request

#: Read into again and again: room made anew for each read cost the client 10 microseconds.
_buffer = bytearray(1 << 18)


class _Connection:
    def __init__(self, port: int, line: bytes, outstanding: int, requests: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unsent = self.unanswered = requests
        self._block = memoryview(line * outstanding)
        self._length = len(line)

    def ask(self, count: int) -> None:
        """Send some requests, as long as there are any; never more than are to be outstanding."""
        count = min(count, self.unsent)
        self.unsent -= count
        if count:
            # Blocking: what is outstanding fits into the kernel's buffers.
            self.socket.sendall(self._block[: count * self._length])

    def read(self) -> int:
        """Read answers; return how many."""
        size = self.socket.recv_into(_buffer)
        if not size:
            raise SystemExit("the server closed a connection")
        answers = _buffer.count(b"\n", 0, size)
        self.unanswered -= answers
        return answers


def load(port: int, connections: int, outstanding: int, requests: int) -> float:
    """Put a load on a server.

    Args:
        port: of the server, on the loopback interface.
        connections: to be opened before the time is taken.
        outstanding: requests without an answer on each connection, all the time.
        requests: in all, at least one for each connection.

    Returns:
        Seconds from the first request to the last answer.
    """
    opened = [
        _Connection(port, request(100_000, src=f"c{number}"), outstanding, requests // connections)
        for number in range(connections)
    ]
    poll = select.epoll()
    by_descriptor = {connection.socket.fileno(): connection for connection in opened}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    began = time.perf_counter()
    for connection in opened:
        connection.ask(outstanding)
    busy = len(opened)
    if busy == 1:
        # A client that waits for one connection alone needs no epoll.
        (alone,) = opened
        while alone.unanswered:
            alone.ask(alone.read())
        busy = 0
    while busy:
        for descriptor, _ in poll.poll():
            connection = by_descriptor[descriptor]
            connection.ask(connection.read())
            busy -= connection.unanswered == 0
    seconds = time.perf_counter() - began
    for connection in opened:
        connection.socket.close()
    return seconds


def connect(port: int, connections: int) -> list[socket.socket]:
    """Open connections, each of which has been served."""
    clients = []
    for _ in range(connections):
        # One after the other, as clients come.
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(request(1))
        client.recv(1024)
        clients.append(client)
    return clients


if __name__ == "__main__":
    print(load(*map(int, sys.argv[1:])))
