"""Which clients a lame duck sends away, and when: at random, so that they do not all come back at once."""

from __future__ import annotations

from collections.abc import Callable

from twisted_node.drain import Drain

__all__ = ["Shedding"]


class Shedding:
    """The time in which clients are sent away: from now on, to the end of the lame duck.

    Args:
        drain: is a lame duck; tells the time, and when that ends.
        random: draws a number from 0 to 1, less than 1.
        at_once: whether to send away every client at its next answer. Otherwise the chance grows from 0 now to 1 at the
            end of the lame duck.
    """

    def __init__(self, drain: Drain, random: Callable[[], float], *, at_once: bool = False) -> None:
        self.at_once = at_once
        self._drain = drain
        self._random = random
        self._began = drain.monotonic()

    @property
    def chance(self) -> float:
        """How likely a client is sent away at an answer that is written now: from 0 to 1."""
        # The end may have come nearer since we began.
        now, ends = self._drain.monotonic(), self._drain.lame_duck_ends
        if self.at_once or ends is None or now >= ends:
            return 1.0
        return (now - self._began) / (ends - self._began)

    def draw(self) -> bool:
        """Draw whether a client is sent away at an answer that is written now."""
        return self._random() < self.chance

    def draw_delay(self) -> float:
        """Draw when to send away a client that gets no answers: in how many seconds, evenly up to the end."""
        ends = self._drain.lame_duck_ends
        return 0.0 if ends is None else self._random() * max(0.0, ends - self._drain.monotonic())
