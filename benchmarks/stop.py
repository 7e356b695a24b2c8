"""From the last answer to the end of the process, and from SIGTERM when there is nothing to do."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator

from benchmarks.lines import message, request
from benchmarks.load import connect
from benchmarks.measure import LOOPBACK, NODE, PATIENCE, MeasuredProcess, allow_many_files
from benchmarks.report import Figure

TITLE = "Stop: until the process has ended"


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Stop under several numbers of connections."""
    allow_many_files()
    rounds = 1 if quick else 5
    for connections in (0, 100):
        lags = [_stop_idle(connections) * 1000 for _ in range(rounds)]
        yield Figure(f"from SIGTERM, idle, {connections} connections", lags, "ms")
    for connections in (1, 20) if quick else (1, 100, 1_000):
        lags = [_stop_busy(connections, 200 if quick else 1_000) * 1000 for _ in range(rounds)]
        yield Figure(f"from the last answer, {connections:,} connections with one request each", lags, "ms")


def _stop_idle(connections: int) -> float:
    with MeasuredProcess((*NODE, "--listen", LOOPBACK)) as server:
        clients = connect(server.port(), connections)
        began = time.perf_counter()
        os.kill(server.pid, signal.SIGTERM)
        _, ended = _read_until_end(server, clients)
        server.wait()
        return ended - began


def _stop_busy(connections: int, latency_ms: int) -> float:
    with MeasuredProcess((*NODE, "--listen", LOOPBACK)) as server:
        clients = connect(server.port(), connections)
        for client in clients:
            client.sendall(request(2, latency_ms))
        # A request that the node has not read yet would be refused.
        while _in_flight(clients[0]) < connections:
            pass
        os.kill(server.pid, signal.SIGTERM)
        answered, ended = _read_until_end(server, clients)
        server.wait()
        return ended - answered


def _in_flight(client: socket.socket) -> int:
    client.sendall(message("tcp_drain_status", 3))
    body = json.loads(client.recv(1024))["body"]
    if body["type"] != "tcp_drain_status_ok":
        raise RuntimeError(f"answered before all was in flight: {body}")
    return int(body["remaining"])


def _read_until_end(server: MeasuredProcess, clients: list[socket.socket]) -> tuple[float, float]:
    """Be a good client on each connection: read, and close when the server does.

    Returns:
        When the last answer was read, and when the process had ended.
    """
    last_answer = 0.0
    process = os.pidfd_open(server.pid)
    poll = select.epoll()
    poll.register(process, select.EPOLLIN)
    by_descriptor = {client.fileno(): client for client in clients}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    try:
        while True:
            events = poll.poll(PATIENCE)
            if not events:
                raise TimeoutError("the process did not end")
            for descriptor, _ in events:
                if descriptor == process:
                    return last_answer, time.perf_counter()
                if by_descriptor[descriptor].recv(4096):
                    last_answer = time.perf_counter()
                else:
                    by_descriptor.pop(descriptor).close()
    finally:
        poll.close()
        os.close(process)
        for client in by_descriptor.values():
            client.close()
