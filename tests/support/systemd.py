"""What systemd hears from a service."""

from __future__ import annotations

import contextlib
import socket

from tests.support.patience import PATIENCE


class Systemd:
    """A socket that is written to as systemd's is."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(PATIENCE)

    def receive(self) -> dict[str, str]:
        """The next notification, as a mapping."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))

    def receive_all(self) -> list[dict[str, str]]:
        """All that wait."""
        self.socket.setblocking(False)
        received: list[dict[str, str]] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                received.append(self.receive())
        return received
