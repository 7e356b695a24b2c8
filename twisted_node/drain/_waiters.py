"""Deferreds that all wait for the same moment."""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["Waiters"]

_T = TypeVar("_T")


class Waiters(Generic[_T]):
    """The Deferreds of everyone who waits for one moment; they fire together."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[_T], None] = {}

    def add(self) -> Deferred[_T]:
        """Make a Deferred for one more who waits. To cancel it is to wait no longer."""
        waiter: Deferred[_T] = Deferred(self._waiting.pop)
        self._waiting[waiter] = None
        return waiter

    def fire(self, value: _T) -> None:
        """Fire all that wait now. One that is added meanwhile waits for the next call."""
        for waiter in list(self._waiting):
            # The callback of one may have cancelled another.
            if waiter in self._waiting:
                del self._waiting[waiter]
                waiter.callback(value)
