"""One listening port, from its opening to its closing.

Its socket may have come from a predecessor, and go to a successor. ``_port_closing`` closes it so that nobody who has
connected is reset.
"""

from __future__ import annotations

import itertools
import os
import socket
from typing import Any
from weakref import WeakSet

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node.handover import _inheritance
from twisted_node.handover._adopting import Adopting, adopting
from twisted_node.handover._twisted import innermost_endpoint, keep_only_copy, leave_path_alone, own_socket
from twisted_node.names import peer_name
from twisted_node.server._handshakes import cookies_sent
from twisted_node.server._paths import find_path_and_mode, path_identity
from twisted_node.server._port_closing import TCPClosing, accept_last, stop_listening

__all__ = ["Listener", "close_copies", "open_listeners"]

_log = Logger()

#: All listeners of this process, for a child that is forked.
_listeners: WeakSet[Listener] = WeakSet()

#: Numbers the listeners in the order in which they were opened.
_numbers = itertools.count()


class Listener:
    """One listening port, from opening to closing: what :meth:`DrainingService.listen` returns.

    Its service opens and closes it. Whoever has it may ask for its ``host``, the address, which is known once it
    listens: with port 0 it has the port that the kernel chose.

    Args:
        endpoint: where to listen.
        factory: makes the protocols.
        clock: for the wait when it is closed.
        patience: seconds to wait, when it is closed, for handshakes that are half done.
    """

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        factory: IProtocolFactory,
        clock: IReactorTime,
        patience: float,
    ) -> None:
        self.endpoint = endpoint
        self.factory = factory
        #: The address that is listened on, once it is.
        self.host: IAddress | None = None
        self._clock = clock
        self._patience = patience
        self._port: IListeningPort | None = None
        self._closing: TCPClosing | None = None
        self._cookies_before = 0
        self._wanted = False
        self._path_identity: tuple[int, int] | None = None
        #: Its place in the order in which listeners were opened.
        self.number = 0
        # What the endpoint has asked the reactor for.
        self._asked: Adopting | None = None
        # Whether its socket is a predecessor's still, or a successor's already: then only our copy is closed.
        self._shared = False
        # The factory, once another process goes on with the socket.
        self._started_again: Any = None
        # A socket that was handed to us, by systemd for example, and that another process holds too. We leave its
        # queue, its path and its mode alone: the process that comes after us goes on using them.
        innermost = innermost_endpoint(endpoint)
        self._adopted = innermost if isinstance(innermost, AdoptedStreamServerEndpoint) else None
        _listeners.add(self)

    def open(self) -> None:
        """Listen, unless it does already.

        If the endpoint fails at once, this raises; if it fails later, the failure is only logged.

        Raises:
            CannotListenError: the endpoint cannot be listened to; or whatever else it says.
        """
        if self._wanted:
            return
        self._wanted = True
        path_and_mode = find_path_and_mode(self._adopted) if self._adopted else None
        self.number = next(_numbers)
        with adopting(self.endpoint, _inheritance.inherited) as self._asked:
            opening: Deferred[IListeningPort] = maybeDeferred(self.endpoint.listen, self.factory)
        opened = opening.addCallback(self._opened, path_and_mode)
        failures: list[Failure] = []
        if opened.called:
            opened.addErrback(failures.append)
        else:
            _inheritance.inherited.need(opened)
            opened.addErrback(_not_listening)
        if failures:
            self._wanted = False
            _inheritance.inherited.tell_failed(failures[0].value)
            failures[0].raiseException()

    @property
    def asked(self) -> str | None:
        """The address that its endpoint has asked for, as a text to compare; None if that is not known."""
        return self._asked.asked if self._asked is not None else None

    @property
    def descriptor(self) -> int | None:
        """The number that its socket came with, if somebody else has opened that."""
        return self._asked.descriptor if self._asked is not None else None

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._port is not None

    def fileno(self) -> int:
        """Say what its socket's descriptor is; -1 if it has none."""
        return self._port.socket.fileno() if isinstance(self._port, tcp.Port) else -1

    def _opened(self, port: IListeningPort, path_and_mode: tuple[bytes, int] | None) -> None:
        self._port = port
        self._cookies_before = cookies_sent()
        self.host = port.getHost()
        _log.info("listening on {host}", host=peer_name(self.host))
        if self._adopted and isinstance(port, unix.Port):
            # Twisted opens the path to everybody here, and would remove it and shut the shared socket down at the end.
            leave_path_alone(port, shared=True)
            if path_and_mode is not None:
                os.chmod(*path_and_mode)
        elif isinstance(port, unix.Port):
            self._path_identity = path_identity(port)
        if _inheritance.inherited.waits:
            self._shared = self._asked is not None and self._asked.adopted
            if isinstance(port, tcp.Port):
                port.stopReading()
                _inheritance.inherited.when_our_turn().addCallback(self._accept)
        if not self._wanted:
            # The endpoint needed some time to listen, and close() was called meanwhile.
            self.close()

    def _accept(self, _: None) -> None:
        """Accept connections, now that the predecessor lets us: its socket is ours from now on."""
        port: Any = self._port
        if port is None:
            return
        if self._shared and self._asked is not None:
            self._shared = False
            try:
                own_socket(port, self._asked.path, locked=self._asked.locked)
            except OSError as error:
                _log.warn("the lock of {port} goes on naming another process: {error}", port=port, error=error)
        port.startReading()

    def leave_to_successor(self) -> None:
        """Close our copy of the socket: another process goes on with it."""
        port: Any = self._port
        self._port = None
        if port is not None:
            keep_only_copy(port)
            # Connections that we have go on being served by the factory: it is stopped with the last of them.
            port.factory.doStart()
            self._started_again = port.factory
            stop_listening(port)

    def close(self, *, expects_clients: bool = True) -> Deferred[None]:
        """Close the port.

        Whoever waits in its queue is accepted first, in this turn. Then it is closed in this turn too, unless some
        handshakes are half done: these are waited for, and their connections accepted by the reactor.

        Args:
            expects_clients: whether to wait where the system does not tell of handshakes, even if nobody waited in the
                queue.

        Returns:
            Fires when the port is closed. Never fails: what could not be done is logged.
        """
        self._wanted = False
        started_again, self._started_again = self._started_again, None
        if started_again is not None:
            started_again.doStop()
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        if self._adopted or self._shared or not isinstance(port, tcp.Port):
            return stop_listening(port)
        if isinstance(port, unix.Port):
            accept_last(port)
            if path_identity(port) != self._path_identity:
                # Somebody removed our path, or made it theirs: Twisted would fail, or unlink what is not ours.
                leave_path_alone(port)
            return stop_listening(port)
        cookies = cookies_sent() > self._cookies_before
        self._closing = TCPClosing(port, self._clock, self._patience, cookies=cookies)
        return self._closing.begin(expects_clients=expects_clients)

    def lose_patience(self) -> None:
        """Wait no longer for handshakes that are half done."""
        if self._closing is not None:
            self._closing.lose_patience()

    def close_copy(self) -> None:
        """Close the listening socket in a child that was forked."""
        listening: socket.socket | None = getattr(self._port, "socket", None)
        if listening is not None:
            listening.close()


def close_copies() -> None:
    """Close the listening sockets in a child that was forked: its parent's are not touched.

    Nobody calls a reactor here: the child's would act on what it shares with its parent's.
    """
    for listener in list(_listeners):
        listener.close_copy()


def open_listeners() -> list[Listener]:
    """List what listens, in the order in which it was opened."""
    return sorted((listener for listener in _listeners if listener.is_open), key=lambda listener: listener.number)


def _not_listening(failure: Failure) -> None:
    _log.failure("not listening", failure)
