"""Systemd, as a service knows it: what it gives, and what it hears."""

from __future__ import annotations

import contextlib
import socket
import struct

from tests.support.patience import PATIENCE

#: Starts a program as systemd does: the socket is file descriptor 3, and the environment says so. The program is run
#: with the number of the socket, and a command.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Systemd:
    """A socket that is written to as systemd's is."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def receive(self) -> dict[str, str]:
        """The next notification, as a mapping."""
        return self.receive_from()[1]

    def receive_from(self) -> tuple[int, dict[str, str]]:
        """The pid of the process that sends the next notification, and what it says."""
        credentials = struct.Struct("iII")
        message, [(_, _, sender)], _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(credentials.size))
        return credentials.unpack(sender)[0], dict(line.split("=", 1) for line in message.decode().split("\n"))

    def receive_all(self) -> list[dict[str, str]]:
        """All that wait."""
        self.socket.setblocking(False)
        received: list[dict[str, str]] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                received.append(self.receive())
        return received
