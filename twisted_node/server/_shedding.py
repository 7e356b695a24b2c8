"""Which clients a lame duck sends away, and when: at random, so that they do not all come back at once."""

from __future__ import annotations

from collections.abc import Callable

from twisted_node.drain import Drain
from twisted_node.server._connection import Connection

__all__ = ["Shedding"]


class Shedding:
    """The time in which clients are sent away: from now on, to the end of the lame duck.

    Args:
        drain: is a lame duck; tells the time, and when that ends.
        random_number: draws a number from 0 to 1, less than 1.
        at_once: whether to send away every client at its next answer. Otherwise the chance grows from 0 now to 1 at the
            end of the lame duck.
    """

    def __init__(self, drain: Drain, random_number: Callable[[], float], *, at_once: bool = False) -> None:
        self.at_once = at_once
        self._drain = drain
        self._random_number = random_number
        self._began = drain.monotonic()

    @property
    def chance(self) -> float:
        """How likely a client is sent away at an answer that is written now: from 0 to 1."""
        # The end may have come nearer since we began.
        now, ends = self._drain.monotonic(), self._drain.lame_duck_ends
        if self.at_once or ends is None or now >= ends:
            return 1.0
        return (now - self._began) / (ends - self._began)

    def answered(self, connection: Connection) -> None:
        """Perhaps send a client away with its answer, unless the lame duck is over.

        Not while more of its requests are here: it goes at a later answer.

        Args:
            connection: on which an answer was written that leaves the process only after this turn.
        """
        if self._drain.lame_duck_ends is not None and _is_idle(connection) and self.draw():
            self.send_away(connection)

    def send_away(self, connection: Connection) -> None:
        """Finish a connection that is idle; first what has arrived on it is read and served."""
        if _is_idle(connection) and not connection.read_waiting() and _is_idle(connection):
            connection.finish()

    def draw(self) -> bool:
        """Draw whether a client is sent away at an answer that is written now."""
        return self._random_number() < self.chance

    def draw_delay(self) -> float:
        """Draw when to send away a client that gets no answers: in how many seconds, evenly up to the end."""
        ends = self._drain.lame_duck_ends
        return 0.0 if ends is None else self._random_number() * max(0.0, ends - self._drain.monotonic())


def _is_idle(connection: Connection) -> bool:
    """Return whether a connection may be finished: its client waits for nothing, and no request is on its way."""
    if connection.is_closing or connection.asked_to_stay or connection.in_handshake:
        return False
    return not (connection.speaker.is_owed() or connection.speaker.is_asking())
