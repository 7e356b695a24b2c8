"""The path of a listening unix socket: whose it is, and who may connect."""

from __future__ import annotations

import os
import socket
import stat

from twisted.internet import unix
from twisted.internet.endpoints import AdoptedStreamServerEndpoint

__all__ = ["path_and_mode", "path_identity"]


def path_identity(port: unix.Port) -> tuple[int, int] | None:
    """Say which file a unix port's path is."""
    try:
        status = os.stat(port.getHost().name)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def path_and_mode(endpoint: AdoptedStreamServerEndpoint) -> tuple[bytes, int] | None:
    """Remember the mode of an adopted unix socket's path."""
    if endpoint.addressFamily != socket.AF_UNIX:
        return None
    adopted = socket.socket(fileno=os.dup(endpoint.fileno))
    with adopted:
        path = os.fsencode(adopted.getsockname())
    try:
        return path, stat.S_IMODE(os.stat(path).st_mode)
    except (OSError, ValueError):
        return None
