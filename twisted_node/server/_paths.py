"""The path of a listening unix socket: whose it is, and who may connect."""

from __future__ import annotations

import os
import socket
import stat

from twisted.internet import unix
from twisted.internet.endpoints import AdoptedStreamServerEndpoint

__all__ = ["find_path_and_mode", "path_identity"]


def path_identity(port: unix.Port) -> tuple[int, int] | None:
    """Say which file a unix port's path is now, by its device and inode; None if there is none."""
    try:
        status = os.stat(port.getHost().name)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def find_path_and_mode(endpoint: AdoptedStreamServerEndpoint) -> tuple[bytes, int] | None:
    """Find the path of an adopted unix socket, and its mode; None if it has no path."""
    if endpoint.addressFamily != socket.AF_UNIX:
        return None
    adopted = socket.socket(fileno=os.dup(endpoint.fileno))
    with adopted:
        path = os.fsencode(adopted.getsockname())
    try:
        return path, stat.S_IMODE(os.stat(path).st_mode)
    except (OSError, ValueError):
        return None
