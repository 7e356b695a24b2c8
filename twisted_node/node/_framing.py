"""Whole lines, cut from bytes that arrive in chunks of any size."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["DEFAULT_MAX_BUFFERED", "DEFAULT_MAX_LINE", "Framing", "HalfLines"]

#: The longest line taken, in bytes without its newline.
DEFAULT_MAX_LINE = 1_048_576

#: How many bytes the half lines of all clients may take together.
DEFAULT_MAX_BUFFERED = 268_435_456

#: How many lines are handed over at once, at most. The answers to short lines are many times their size, so whether the
#: client reads them is checked after so many.
_LINES_AT_ONCE = 1000


class HalfLines:
    """The memory that lines take which have not come whole yet, of all connections together.

    Args:
        max_bytes: beyond it, the longest half line of all is given up, then the next.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BUFFERED) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._framings: set[Framing] = set()

    def grew(self, framing: Framing, count: int) -> None:
        """Add bytes of a half line, and give up as many half lines as it takes."""
        self._framings.add(framing)
        self._bytes += count
        while self._bytes > self._max_bytes:
            max(self._framings, key=lambda each: each.half_line_length).give_up()

    def gone(self, framing: Framing, count: int) -> None:
        """Forget a half line of so many bytes."""
        self._framings.discard(framing)
        self._bytes -= count


class Framing:
    """The input of one connection that has not been handed over yet.

    It never holds more than ``max_line`` bytes and the chunk that was added last.

    Args:
        max_line: the longest line accepted, in bytes without the newline; a longer one is skipped to its end.
        half_lines: those of all connections; without it there is no limit on all of them together.
        on_given_up: called when the half line is given up, to save memory. It is skipped to its end.
    """

    def __init__(
        self, max_line: int, half_lines: HalfLines | None = None, on_given_up: Callable[[], object] | None = None
    ) -> None:
        self._max_line = max_line
        self._half_lines = half_lines
        self._on_given_up = on_given_up
        # A chunk this short cannot exceed either limit, so it is not searched: that saves 0.2 microseconds.
        self._needs_no_search = min(max_line, _LINES_AT_ONCE)
        self._chunk = b""
        # One buffer, not a list of pieces: a line that arrives byte by byte takes no more memory than its bytes.
        self._half_line = bytearray()
        self._skipping = False

    def add(self, chunk: bytes) -> None:
        """Add a chunk."""
        self._chunk += chunk

    @property
    def has_lines(self) -> bool:
        """Whether at least one line can be handed over."""
        return b"\n" in self._chunk

    @property
    def has_half_line(self) -> bool:
        """Whether the input ends in the middle of a line."""
        return not self._chunk.endswith(b"\n") if self._chunk else bool(self._half_line)

    @property
    def half_line_length(self) -> int:
        """The bytes of a half line that have been kept."""
        return len(self._half_line)

    def give_up(self) -> None:
        """Forget the half line, skip the rest of it, and say so."""
        self._take_half_line()
        self._skipping = True
        if self._on_given_up is not None:
            self._on_given_up()

    def close(self) -> None:
        """Forget the half line: no more will come."""
        self._take_half_line()

    def next_lines(self) -> bytes | None:
        """Hand over some lines.

        Returns:
            Whole lines, each with its newline; ``b""`` in place of a line that is too long; None if
            there is no whole line.
        """
        chunk, self._chunk = self._chunk, b""
        if not chunk:
            return None
        if self._skipping:
            return self._skip(chunk)
        if len(chunk) <= self._needs_no_search and not self._half_line and chunk.endswith(b"\n"):
            return chunk
        return self._cut(chunk)

    def _skip(self, chunk: bytes) -> bytes | None:
        """Skip the rest of a line that is too long, and go on with the lines after it."""
        _, newline, self._chunk = chunk.partition(b"\n")
        self._skipping = not newline
        return self.next_lines()

    def _cut(self, chunk: bytes) -> bytes | None:
        """Remove and return the whole lines, as many as may be handed over at once."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            return self._keep(chunk)
        if self._half_line:
            end += len(self._half_line)
            chunk = self._take_half_line() + chunk
        if end > self._max_line or chunk.count(b"\n") > _LINES_AT_ONCE:
            end = self._end_of_some(chunk)
        self._chunk = chunk[end:]
        too_long = end - 1 > self._max_line and chunk.index(b"\n") == end - 1
        return b"" if too_long else chunk[:end]

    def _keep(self, rest: bytes) -> bytes | None:
        """Keep the beginning of a line, or drop it once it is too long."""
        self._half_line += rest
        if len(self._half_line) > self._max_line:
            self._take_half_line(len(rest))
            self._skipping = True
            return b""
        if self._half_lines is not None:
            self._half_lines.grew(self, len(rest))
        return None

    def _take_half_line(self, uncounted: int = 0) -> bytes:
        """Remove and return the half line; ``uncounted`` bytes of it have not been added to those of all."""
        half_line = bytes(self._half_line)
        self._half_line.clear()
        if half_line and self._half_lines is not None:
            self._half_lines.gone(self, len(half_line) - uncounted)
        return half_line

    def _end_of_some(self, chunk: bytes) -> int:
        """Find the end of the lines before the first one that is too long, or of that one if it comes first."""
        end = 0
        for line in chunk.split(b"\n", _LINES_AT_ONCE)[:-1]:
            if len(line) > self._max_line:
                return end or len(line) + 1
            end += len(line) + 1
        return end
