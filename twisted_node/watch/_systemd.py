"""Tells systemd that a server is ready or stopping, its figures, and how much longer its drain needs.

The protocol is ``sd_notify(3)``: datagrams to the socket that ``NOTIFY_SOCKET`` names.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import MutableMapping

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_node.drain import Phase, Statistics
from twisted_node.names import name_oldest, printable, summarise
from twisted_node.server import DrainingService

__all__ = ["Notifier"]

_log = Logger()

#: How often systemd is told during a lame duck or a drain.
_SECONDS_BETWEEN_MESSAGES = 1.0
#: How often the figures are told otherwise: each message wakes systemd and all that listen to it.
_SECONDS_WHILE_SERVING = 10.0
#: How long after the deadline the process has ended at the latest, in seconds.
_SECONDS_AFTER_DEADLINE = 2.0


class Notifier(Service):
    """Tells the service manager of a server; add it to the application after the server.

    When it is started, it says that the server is ready. When a drain begins that will end the server, it says
    ``STOPPING=1``, and then asks each second for the time that is still needed (``EXTEND_TIMEOUT_USEC``), so that a
    shorter ``TimeoutStopSec`` does not kill the process early. The unit needs ``Type=notify``.

    Args:
        service: the server.
        address: of systemd's socket: a path, or ``@`` and a name in the abstract namespace.
    """

    def __init__(self, service: DrainingService, address: str) -> None:
        self._server = service
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        # Lines that must not be lost, and could not be sent yet.
        self._due: list[str] = []
        self._told_at = -math.inf
        self._stopping = self._complained = self._handed_over = False
        self._loop = LoopingCall(self._tick)
        self._loop.clock = service.drain.timers
        service.watch_end(self._end_moved)
        service.drain.when_draining().addCallback(self._drain_began)
        service.when_ended().addCallback(self._ended)
        service.watch_handover(self._name_successor, tells_systemd=True)

    @classmethod
    def from_environment(
        cls, service: DrainingService, environment: MutableMapping[str, str] = os.environ
    ) -> Notifier | None:
        """Make a notifier if systemd has started this process with ``Type=notify``.

        Args:
            service: the server.
            environment: ``NOTIFY_SOCKET`` is removed from it, so that child processes do not notify in our name.

        Returns:
            The notifier; None if there is nobody to notify.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        if address.startswith(("/", "@")):
            return cls(service, address)
        if address:
            _log.warn("NOTIFY_SOCKET={address} is no unix socket: systemd is told nothing", address=address)
        return None

    def startService(self) -> None:
        """Say that the server is ready, unless its drain has begun already."""
        if self._server.drain.refusing:
            return
        super().startService()
        self._server.when_accepting().addCallback(self._accepting)

    def stopService(self) -> Deferred[Statistics]:
        """Wait for the server to end; fires with the final statistics."""
        super().stopService()
        return self._server.when_ended()

    def _accepting(self, _: None) -> None:
        if not self._server.drain.refusing:
            self._due.append("READY=1")
            self._loop.start(_SECONDS_BETWEEN_MESSAGES)

    def _name_successor(self, pid: int) -> None:
        """Tell which process is the main one from now on; the rest is for that one to say."""
        self._send(f"MAINPID={pid}")
        self._handed_over = True

    def _drain_began(self, _: None) -> None:
        ends_by = self._server.ends_by
        if ends_by is not None and not self._stopping:
            self._end_moved(ends_by)

    def _end_moved(self, _: float) -> None:
        if not self._server.drain.refusing:
            # A lame duck is not stopping yet; each second it says how long it needs.
            return
        if not self._stopping:
            self._stopping = True
            self._due.append("STOPPING=1")
        self._tell()

    def _ended(self, statistics: Statistics) -> None:
        if self._loop.running:
            self._loop.stop()
        self._send(f"STATUS={'cut' if statistics.cut else 'clean'}: {summarise(statistics)}")
        self._socket.close()

    def _tick(self) -> None:
        serving = self._server.drain.phase is Phase.SERVING
        now = self._server.drain.monotonic()
        if not serving or now - self._told_at >= _SECONDS_WHILE_SERVING or self._due:
            self._told_at = now
            self._tell()

    def _tell(self) -> None:
        lines, ends_by = [self._status()], self._server.ends_by
        if ends_by is not None:
            needed = max(0.0, ends_by - self._server.drain.monotonic()) + _SECONDS_AFTER_DEADLINE
            lines.append(f"EXTEND_TIMEOUT_USEC={math.ceil(needed * 1_000_000)}")
        self._send(*lines)

    def _status(self) -> str:
        statistics = self._server.drain.statistics(oldest=1)
        status = f"STATUS={statistics.phase.value.replace('_', ' ')}"
        if statistics.reason:
            status += f" ({statistics.reason})"
        status += f": {statistics.in_flight} in flight, {len(self._server.connections)} connections"
        if statistics.left is not None:
            status += f", {statistics.left:.0f} s left"
        if statistics.oldest:
            status += f"; the oldest: {name_oldest(statistics.oldest)}"
        return printable(status)

    def _send(self, *lines: str) -> None:
        if self._handed_over:
            return
        message = "\n".join([*self._due, *lines])
        try:
            self._socket.sendto(message.encode(), self._address)
        except BlockingIOError:
            # The socket's queue is full. What must not be lost goes with the next message.
            return
        except OSError as error:
            if not self._complained:
                self._complained = True
                _log.warn("systemd cannot be told: {error}", error=error)
        self._due.clear()
