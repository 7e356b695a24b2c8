"""Closing a listening port without resetting whoever waits in its queue.

A plain close resets every connection that the kernel has completed and nobody has accepted yet; accepting until the
queue is empty never ends under load, for new ones keep coming. So the door is shut for new connections first, then all
that wait are accepted, then the port closes.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from collections.abc import Callable
from ctypes import addressof, create_string_buffer
from typing import Any
from weakref import WeakSet

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node.server._twisted import leave_path_alone

__all__ = ["Listener", "close_copies"]

_log = Logger()

_ON_LINUX = sys.platform.startswith("linux")

#: Linux, from asm-generic/socket.h; Python has no name for it.
_SO_ATTACH_FILTER = 26

#: A classic BPF program for a TCP listener: drop what has SYN and not ACK, let everything else pass. (An instruction is
#: code, jump if true, jump if false, operand.)
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the TCP flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)

#: All listeners of this process, for a child that is forked.
_listeners: WeakSet[Listener] = WeakSet()

#: Where new connections cannot be stopped, at most so many that wait are accepted.
_ACCEPTS_WHILE_OPEN = 1024


class Listener:
    """One listening port, from opening to closing.

    Args:
        endpoint: where to listen.
        factory: makes the protocols.
    """

    def __init__(self, endpoint: IStreamServerEndpoint, factory: IProtocolFactory) -> None:
        self.endpoint = endpoint
        self.factory = factory
        #: The address that is listened on, once it is.
        self.host: IAddress | None = None
        self._port: IListeningPort | None = None
        self._wanted = False
        self._path_identity: tuple[int, int] | None = None
        # A socket that another process holds too: its queue, path and mode are left to the successor.
        self._adopted = endpoint if isinstance(endpoint, AdoptedStreamServerEndpoint) else None
        _listeners.add(self)

    def open(self) -> None:
        """Listen, unless it does; an endpoint that takes its time can only fail in the log.

        Raises:
            CannotListenError: the endpoint cannot be listened to; or whatever else it says.
        """
        if self._wanted:
            return
        self._wanted = True
        path_and_mode = _path_and_mode(self._adopted) if self._adopted else None
        opening: Deferred[IListeningPort] = maybeDeferred(self.endpoint.listen, self.factory)
        opened = opening.addCallback(self._opened, path_and_mode)
        failures: list[Failure] = []
        opened.addErrback(failures.append if opened.called else _not_listening)
        if failures:
            self._wanted = False
            failures[0].raiseException()

    def _opened(self, port: IListeningPort, path_and_mode: tuple[bytes, int] | None) -> None:
        self._port = port
        self.host = port.getHost()
        _log.info("listening on {host}", host=self.host)
        if self._adopted and isinstance(port, unix.Port):
            # Twisted opens the path to everybody here, and would remove it and shut the shared socket down at the end.
            leave_path_alone(port, shared=True)
            if path_and_mode is not None:
                os.chmod(*path_and_mode)
        elif isinstance(port, unix.Port):
            self._path_identity = _identity(port)
        if not self._wanted:
            # An endpoint that took its time, and a drain that did not wait for it.
            self.close()

    def close(self) -> Deferred[None]:
        """Close the port; whoever waits in its queue is accepted first, in this turn.

        Returns:
            Fires when the port is closed. Never fails: what could not be done is logged.
        """
        self._wanted = False
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        if isinstance(port, tcp.Port) and not self._adopted:
            _accept_all(port, _shut_the_door(port))
            if isinstance(port, unix.Port) and _identity(port) != self._path_identity:
                # Somebody removed our path, or made it theirs: Twisted would fail, or unlink what is not ours.
                leave_path_alone(port)
        stop: Callable[[], Any] = port.stopListening
        return maybeDeferred(stop).addErrback(lambda failure: _log.failure("while closing {port}", failure, port=port))


def close_copies() -> None:
    """Close the listening sockets in a child that was forked: its parent's are not touched.

    Nobody calls a reactor here: the child's would act on what it shares with its parent's.
    """
    for listener in list(_listeners):
        listening: socket.socket | None = getattr(listener._port, "socket", None)
        if listening is not None:
            listening.close()


def _not_listening(failure: Failure) -> None:
    _log.failure("not listening", failure)


def _shut_the_door(port: tcp.Port) -> bool:
    """Let no new connection complete; return whether that worked."""
    listening: socket.socket = port.socket
    try:
        if isinstance(port, unix.Port):
            # On Linux this refuses new ones and keeps the queue.
            listening.shutdown(socket.SHUT_RD)
            return _ON_LINUX
        if _ON_LINUX:
            program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
            buffer = create_string_buffer(program)
            filter_ = struct.pack("HL", len(_DROP_SYN), addressof(buffer))
            listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
            return True
        listening.listen(0)
    except OSError as error:
        _log.info("new connections cannot be held off while {port} closes: {error}", port=port, error=error)
    return False


def _accept_all(port: tcp.Port, door_is_shut: bool) -> None:
    """Accept whoever waits."""
    first = accepted = port.sessionno
    while True:
        port.doRead()
        if port.sessionno == accepted or (not door_is_shut and accepted - first >= _ACCEPTS_WHILE_OPEN):
            return
        accepted = port.sessionno


def _identity(port: unix.Port) -> tuple[int, int] | None:
    """Say which file a unix port's path is."""
    try:
        status = os.stat(port.getHost().name)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _path_and_mode(endpoint: AdoptedStreamServerEndpoint) -> tuple[bytes, int] | None:
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
