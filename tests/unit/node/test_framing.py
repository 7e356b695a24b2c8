"""Chunks of bytes, cut into whole lines."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.node import _framing as framing
from twisted_node.node._framing import Framing, HalfLines


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

    def share(self, max_bytes: int, count: int, max_line: int = 100) -> list[Framing]:
        """So many connections that share a limit; ``given_up`` tells whose lines were given up."""
        self.given_up: list[int] = []
        half_lines = HalfLines(max_bytes)
        return [
            Framing(max_line, half_lines, lambda number=number: self.given_up.append(number))  # type: ignore[misc] # mypy sees no type in a default
            for number in range(count)
        ]

    def add(self, lines: Framing, *chunks: bytes) -> list[bytes]:
        """What is handed over of more input."""
        pieces = []
        for chunk in chunks:
            lines.add(chunk)
            while (piece := lines.next_lines()) is not None:
                pieces.append(piece)
        return pieces

    def test_given_up(self) -> None:
        """When half lines take too much together, the longest is given up first; the others are unharmed."""
        short, long, middle = self.share(60, 3)
        self.assertEqual(
            self.add(short, b"s" * 10) + self.add(long, b"l" * 20, b"l" * 10) + self.add(middle, b"m" * 20), []
        )
        self.assertEqual(self.given_up, [])
        self.assertEqual(self.add(short, b"s"), [])
        self.assertEqual(self.given_up, [1])
        self.assertEqual(self.add(long, b"l" * 50, b"l\nnext\n"), [b"next\n"], "it is skipped to its end")
        self.assertEqual(self.add(short, b"\n"), [b"s" * 11 + b"\n"])
        self.assertEqual(self.add(middle, b"\n"), [b"m" * 20 + b"\n"])
        self.assertEqual(self.given_up, [1])

    def test_own_line_given_up(self) -> None:
        """The longest may be the one that grows, and the only one."""
        (lines,) = self.share(60, 1)
        self.assertEqual(self.add(lines, b"a\n" + b"b" * 61, b"b\nc\n"), [b"a\n", b"c\n"])
        self.assertEqual(self.given_up, [0])

    def test_several_given_up(self) -> None:
        """As many are given up as it takes."""
        lines = self.share(60, 7)
        for each in lines[:6]:
            self.add(each, b"x" * 10)
        self.add(lines[6], b"y" * 9)
        self.assertEqual(len(self.given_up), 1)
        self.assertNotIn(6, self.given_up)

    def test_nothing_is_forgotten(self) -> None:
        """What has come whole, was too long or is of a connection that is gone takes nothing any more."""
        first, *others = self.share(60, 101)
        for each in others:
            self.assertEqual(self.add(each, b"x" * 30, b"x" * 10, b"\n"), [b"x" * 40 + b"\n"])
            self.assertEqual(self.add(each, b"x" * 30, b"x" * 71, b"\n"), [b""])
            self.assertEqual(self.add(each, b"x" * 101, b"\n"), [b""])
            self.add(each, b"x" * 50)
            each.close()
            each.close()
        self.assertEqual(self.given_up, [])
        self.add(first, b"x" * 60)
        self.assertEqual(self.given_up, [])
        self.add(first, b"x")
        self.assertEqual(self.given_up, [0])

    def test_no_limit(self) -> None:
        """A line may be given up where nobody counts, and nobody is told."""
        lines = Framing(10)
        self.assertEqual(self.add(lines, b"abc"), [])
        lines.give_up()
        self.assertEqual(self.add(lines, b"d\ne\n"), [b"e\n"])

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
