"""Deferreds of those who wait for one moment."""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["Waiters"]

_T = TypeVar("_T")


class Waiters(Generic[_T]):
    """Who waits for one moment."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[_T], None] = {}

    def add(self) -> Deferred[_T]:
        """Take in one more; its Deferred may be cancelled."""
        waiter: Deferred[_T] = Deferred(self._waiting.pop)
        self._waiting[waiter] = None
        return waiter

    def fire(self, value: _T) -> None:
        """Tell all of them; whoever comes while they are told waits for another time."""
        for waiter in list(self._waiting):
            # One may have had another cancelled.
            if waiter in self._waiting:
                del self._waiting[waiter]
                waiter.callback(value)
