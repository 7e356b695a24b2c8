"""A connection in a test's hands."""

from __future__ import annotations


class Visitor:
    """A connection that is as a test says, and remembers what it was told."""

    def __init__(self, *, kept: bool = False, owed: bool = False, asking: bool = False, loses: bool = False) -> None:
        self.kept = kept
        self.owed = owed
        self.asking = asking
        self.lively = False
        self.loses = loses
        #: What it turns out that its client has sent already.
        self.waiting: list[str] = []
        self.told: list[str] = []

    def begin_drain(self) -> None:
        self.told.append("drain")

    def is_owed(self) -> bool:
        return self.owed

    def is_asking(self) -> bool:
        return self.asking

    def is_lively(self) -> bool:
        return self.lively

    def has_unsent(self) -> bool:
        return self.loses

    def read_waiting(self) -> None:
        for state in self.waiting:
            setattr(self, state, True)

    def finish(self) -> None:
        self.told.append("finish")

    def end(self) -> bool:
        self.told.append("end")
        return self.loses
