"""Everything of Twisted's that has no public way, and that a handover of sockets needs all the same.

Nothing else in ``handover`` uses a private name of Twisted's. ``tests/unit/handover/test_twisted.py`` has a test for
each function here, on Twisted's real classes: it fails when Twisted changes what the function relies on.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.python.lockfile import FilesystemLock

__all__ = [
    "innermost_endpoint",
    "keep_only_copy",
    "leave_path_alone",
    "listen_with",
    "own_socket",
    "reactor_of",
]


def leave_path_alone(port: unix.Port, *, shared: bool = False) -> None:
    """Have a unix port not remove its path when it closes.

    Args:
        port: listens on the path.
        shared: whether another process listens on the same socket. Twisted would shut it down for both.
    """
    if shared:
        port._shouldShutdown = False
    # Twisted removes no file for a name in the abstract namespace. Before 26.10 it looked at ``port``.
    port._bindPath = port.port = b"\0not a file"


def innermost_endpoint(endpoint: Any) -> Any:
    """Find the endpoint under all that is wrapped around it, as ``haproxy:`` is."""
    while (inner := getattr(endpoint, "_wrappedEndpoint", None)) is not None:
        endpoint = inner
    return endpoint


def reactor_of(endpoint: Any) -> tuple[Any, str, Any] | None:
    """Find the reactor that an endpoint asks to listen, under all that is wrapped around either.

    Returns:
        What refers to the reactor, the name of its attribute, and the reactor; None if it is not where Twisted has it.
    """
    holder, place = innermost_endpoint(endpoint), None
    while (name := _name_of_reactor(holder)) is not None:
        place = holder, name, vars(holder)[name]
        holder = vars(holder)[name]
    return place


def _name_of_reactor(holder: Any) -> str | None:
    # That of an endpoint for a descriptor has a public name.
    return next((name for name in ("_reactor", "reactor") if name in getattr(holder, "__dict__", ())), None)


def listen_with(port: tcp.Port, listening: socket.socket) -> tcp.Port:
    """Have a port use a socket that listens already, and accept nothing yet.

    Neither its queue nor its path's mode is changed, as Twisted would do to a unix socket. When the port closes, only
    this copy of the socket is closed; see :func:`own_socket`.
    """
    tcp._reservedFD.reserve()
    if port.addressFamily != socket.AF_UNIX:
        port._realPortNumber = listening.getsockname()[1]
    factory: Any = port.factory
    factory.doStart()
    port.connected = True
    port.socket = listening
    # Twisted does the same.
    port.fileno = listening.fileno  # type: ignore[method-assign]
    port.numberAccepts = 100
    port._shouldShutdown = False
    return port


def own_socket(port: tcp.Port, path: bytes, *, locked: bool) -> None:
    """Have a port that was made by :func:`listen_with` end as one that has bound its address itself.

    Args:
        port: listens.
        path: of a unix socket; it is removed when the port closes.
        locked: whether the path has a lock, which then names this process.

    Raises:
        OSError: the lock cannot be written.
    """
    port._shouldShutdown = True
    if not isinstance(port, unix.Port):
        return
    port._bindPath = port.port = path
    if locked:
        lock = FilesystemLock(path + b".lock")
        new = b"%s.%d" % (lock.name, os.getpid())
        os.symlink(b"%d" % os.getpid(), new)
        os.rename(new, lock.name)
        lock.locked = True
        port.lockFile = lock


def keep_only_copy(port: tcp.Port) -> None:
    """Have a port close nothing but this process's copy of its socket: another process goes on with it."""
    port._shouldShutdown = False
    if isinstance(port, unix.Port):
        leave_path_alone(port)
        port.lockFile = None
