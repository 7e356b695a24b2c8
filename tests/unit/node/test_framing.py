"""Chunks of bytes, cut into whole lines."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.node import _framing as framing
from twisted_node.node._framing import Framing


class FramingTests(SynchronousTestCase):
    """Bytes in, lines out; a line that is too long is shown as an empty piece."""

    def feed(self, *chunks: bytes, max_line: int = 10) -> list[bytes]:
        """What is handed over, chunk by chunk."""
        lines = Framing(max_line)
        pieces = []
        for chunk in chunks:
            lines.add(chunk)
            while (piece := lines.next_lines()) is not None:
                pieces.append(piece)
        return pieces

    def test_whole_lines(self) -> None:
        """Whole lines are handed over together, half ones when they are whole."""
        self.assertEqual(self.feed(b"a\nb\n"), [b"a\nb\n"])
        self.assertEqual(self.feed(b"a\nb", b"c", b"\n"), [b"a\n", b"bc\n"])
        self.assertEqual(self.feed(b"", b"\n"), [b"\n"])

    def test_too_long(self) -> None:
        """A line that is too long is shown once, where it was, and skipped to its end."""
        long = b"x" * 11
        self.assertEqual(self.feed(b"a\n" + long + b"\nb\n"), [b"a\n", b"", b"b\n"])
        self.assertEqual(self.feed(long, b"xxx", b"x\nb\n"), [b"", b"b\n"])
        self.assertEqual(self.feed(b"xxxxxx", b"xxxxx\nb\n"), [b"", b"b\n"])
        self.assertEqual(self.feed(b"x" * 10 + b"\n"), [b"x" * 10 + b"\n"])

    def test_some_at_once(self) -> None:
        """Short lines are handed over so many at once."""
        self.patch(framing, "_LINES_AT_ONCE", 3)
        self.assertEqual(self.feed(b"\n" * 7, max_line=100), [b"\n\n\n", b"\n\n\n", b"\n"])

    def test_state(self) -> None:
        """It says whether lines wait, and whether one has begun."""
        lines = Framing(10)
        states = []
        for chunk in (b"", b"a", b"b\n", b"c", b"\nd"):
            lines.add(chunk)
            states.append((lines.has_lines, lines.has_half_line))
            if chunk == b"b\n":
                lines.next_lines()
                states.append((lines.has_lines, lines.has_half_line))
        self.assertEqual(
            states, [(False, False), (False, True), (True, False), (False, False), (False, True), (True, True)]
        )

    @given(
        st.lists(st.sampled_from([b"", b"a", b"bcd", b"x" * 10, b"x" * 11, b"x" * 40]), max_size=20),
        st.lists(st.integers(min_value=1, max_value=60)),
        st.integers(min_value=1, max_value=4),
    )
    @settings(deadline=None)
    def test_any_cut(self, lines: list[bytes], sizes: list[int], at_once: int) -> None:
        """However the input is cut, the lines are the same, in order, and never too many or too long at once."""
        text = b"".join(line + b"\n" for line in lines)
        chunks = []
        rest = text
        for size in sizes:
            chunks.append(rest[:size])
            rest = rest[size:]
        self.patch(framing, "_LINES_AT_ONCE", at_once)
        pieces = self.feed(*chunks, rest)
        self.assertTrue(all(piece.count(b"\n") <= at_once for piece in pieces))
        found: list[bytes] = []
        for piece in pieces:
            found += piece.splitlines() if piece else [b"too long"]
        self.assertEqual(found, [line if len(line) <= 10 else b"too long" for line in lines])
