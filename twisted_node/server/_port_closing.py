"""Closing a listening port without resetting anybody who has connected.

A plain close resets every connection that the kernel has completed and nobody has accepted yet, and every one that is
complete on its client's side only. To accept until the queue is empty never ends under load, for new ones keep coming.
So the door is shut for new connections first, then all that wait are accepted; then the port stays, and accepts, until
no handshake is half done.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger

from twisted_node.server._door import LONGEST_QUEUE, Door
from twisted_node.server._handshakes import BLIND_WAIT, HandshakeWait
from twisted_node.server._twisted import accept_waiting

__all__ = ["TCPClosing", "accept_last", "stop_listening"]

_log = Logger()


class TCPClosing:
    """The closing of one TCP port.

    Args:
        port: listens.
        clock: for the wait.
        patience: seconds to wait for handshakes that are half done.
        cookies: whether the kernel may have sent SYN cookies: then it does not know of all handshakes.
    """

    def __init__(self, port: tcp.Port, clock: IReactorTime, patience: float, *, cookies: bool) -> None:
        self._port = port
        self._clock = clock
        self._patience = patience
        self._cookies = cookies
        self._door = Door(port.socket, cookies=cookies)
        self._wait: HandshakeWait | None = None

    def begin(self, *, expects_clients: bool) -> Deferred[None]:
        """Accept whoever waits, in this turn; then close, in this turn too unless handshakes are half done.

        Args:
            expects_clients: whether to wait where the system does not tell of handshakes, even if nobody waited in the
                queue.

        Returns:
            Fires when the port is closed. Never fails: what could not be done is logged.
        """
        port, door = self._port, self._door
        door.shut()
        # The queue has room for one more than the backlog.
        accepted = accept_waiting(port, port.backlog + 1)
        if not self._patience:
            return self._close(None)
        # Through an open door handshakes go on to begin: to wait until there is none would take for ever under load.
        patience = self._patience if door.is_shut else min(self._patience, BLIND_WAIT)
        blind_patience = BLIND_WAIT if accepted or expects_clients else 0
        self._wait = HandshakeWait(port.socket, self._clock, patience, blind_patience, cookies=self._cookies)
        return self._wait.begin().addCallback(self._close)

    def lose_patience(self) -> None:
        """Wait no longer for handshakes that are half done."""
        if self._wait is not None:
            self._wait.end()

    def _close(self, _: None) -> Deferred[None]:
        """Close the port, now that no handshake is waited for any more."""
        port, door = self._port, self._door
        wait, self._wait = self._wait, None
        if wait is not None and wait.half_done:
            _log.info("{count} handshakes were half done when {port} closed", count=wait.half_done, port=port)
        # The last handshake may have been done after the queue was looked at.
        accept_waiting(port, LONGEST_QUEUE if door.is_shut else port.backlog + 1)
        # The port closes before what keeps its door shut: in between, the other way round, a handshake could begin.
        return stop_listening(port).addCallback(lambda _: door.remove())


def accept_last(port: unix.Port) -> None:
    """Accept whoever waits at a unix socket, which refuses new connections from then on."""
    _refuse_new(port)
    accept_waiting(port, port.backlog + 1)


def _refuse_new(port: unix.Port) -> None:
    """Have a unix socket refuse new connections and keep those that wait; only Linux can."""
    try:
        port.socket.shutdown(socket.SHUT_RD)
    except OSError as error:
        _log.info("new connections cannot be held off while {port} closes: {error}", port=port, error=error)


def stop_listening(port: IListeningPort) -> Deferred[None]:
    """Close a port as its own class does it.

    Returns:
        Fires when it is closed. Never fails: an error is logged.
    """
    stop: Callable[[], Any] = port.stopListening
    return maybeDeferred(stop).addErrback(lambda failure: _log.failure("while closing {port}", failure, port=port))
