"""Whole lines, cut from bytes that arrive in chunks of any size."""

from __future__ import annotations

__all__ = ["Framing"]

#: How many lines are handed over at once, at most. The answers to short lines are many times their size, so whether the
#: client reads them is checked after so many.
_LINES_AT_ONCE = 1000


class Framing:
    """The input of one connection that has not been handed over yet.

    It never holds more than ``max_line`` bytes and the chunk that was added last.

    Args:
        max_line: the longest line accepted, in bytes without the newline; a longer one is skipped to its end.
    """

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
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
            chunk = bytes(self._half_line) + chunk
            self._half_line.clear()
        if end > self._max_line or chunk.count(b"\n") > _LINES_AT_ONCE:
            end = self._end_of_some(chunk)
        self._chunk = chunk[end:]
        too_long = end - 1 > self._max_line and chunk.index(b"\n") == end - 1
        return b"" if too_long else chunk[:end]

    def _keep(self, rest: bytes) -> bytes | None:
        """Keep the beginning of a line, or drop it once it is too long."""
        self._half_line += rest
        if len(self._half_line) <= self._max_line:
            return None
        self._half_line.clear()
        self._skipping = True
        return b""

    def _end_of_some(self, chunk: bytes) -> int:
        """Find the end of the lines before the first one that is too long, or of that one if it comes first."""
        end = 0
        for line in chunk.split(b"\n", _LINES_AT_ONCE)[:-1]:
            if len(line) > self._max_line:
                return end or len(line) + 1
            end += len(line) + 1
        return end
