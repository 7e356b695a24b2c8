"""The turns of a reactor that is not there, and a clock that knows of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.python.failure import Failure

__all__ = ["TurnClock", "Turns"]


class Connection(Protocol):
    """What a reactor calls."""

    def can_write(self) -> bool:
        """Return whether its client takes bytes."""

    def can_read(self) -> bool:
        """Return whether its client has sent something."""

    def doWrite(self) -> BaseException | int | None:
        """Write; return an error, or what is not 0, if the connection is lost."""

    def doRead(self) -> None:
        """Read."""

    def connectionLost(self, reason: Failure) -> None:
        """Learn that the connection is lost."""


class Turns:
    """The turns of a reactor, for connections in memory.

    What is written within a turn, and the loss of a connection, are dealt with when that turn is over, so that no
    protocol is called while it is calling. What the test itself calls is a turn, and so is each timer.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._readers: dict[Connection, None] = {}
        self._writers: dict[Connection, None] = {}
        self._lost: dict[Connection, Exception] = {}

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        try:
            while self._depth == 1 and self._move_bytes():
                pass
        finally:
            self._depth -= 1

    def lose(self, connection: Connection, reason: Exception) -> None:
        """Have a connection lost at the end of the turn."""
        self._lost.setdefault(connection, reason)

    # What a transport asks of its reactor.

    def addReader(self, connection: Connection) -> None:
        """Read from the connection."""
        with self:
            self._readers[connection] = None

    def removeReader(self, connection: Connection) -> None:
        """Read no more."""
        self._readers.pop(connection, None)

    def addWriter(self, connection: Connection) -> None:
        """Write to the connection."""
        with self:
            self._writers[connection] = None

    def removeWriter(self, connection: Connection) -> None:
        """Write no more."""
        self._writers.pop(connection, None)

    def _move_bytes(self) -> bool:
        """Call each connection that is ready; return whether there was one."""
        lost, self._lost = self._lost, {}
        for connection, reason in lost.items():
            connection.connectionLost(Failure(reason))
        writers = [connection for connection in self._writers if connection.can_write()]
        for connection in writers:
            if connection in self._writers and (ended := connection.doWrite()):
                connection.connectionLost(Failure(ended))
        readers = [connection for connection in self._readers if connection.can_read()]
        for connection in readers:
            if connection in self._readers:
                connection.doRead()
        return bool(lost or writers or readers)


class TurnClock(Clock):
    """A clock each of whose timers is a turn."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 # the name is Twisted's
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        """Call a function at a time, in a turn of its own."""
        return super().callLater(delay, self._call, callable, *args, **kw)

    def _call(self, what: Callable[..., object], *args: object, **options: object) -> None:
        with self._turns:
            what(*args, **options)
