"""The work that a node does of its own accord: after ``init``, periodically, and when the drain begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_node._seconds import check_seconds
from twisted_node.drain import Drain
from twisted_node.errors import DrainTimeout

__all__ = ["OwnWork"]

_log = Logger()
_C = TypeVar("_C", bound=Callable[[], Any])


class OwnWork:
    """Functions without arguments, and when to call them.

    A function may return a Deferred or a coroutine. If it fails, the failure is logged.
    """

    def __init__(self) -> None:
        self._after_init: list[Callable[[], Any]] = []
        self._periodic: list[tuple[float, Callable[[], Any]]] = []
        self._on_drain: list[Callable[[], Any]] = []
        self._started = False

    def after_init(self, function: _C) -> _C:
        """Register a function to call once the node has its name."""
        self._after_init.append(function)
        return function

    def every(self, seconds: float) -> Callable[[_C], _C]:
        """Register a function to call periodically; raises MisuseError, as ``Node.every`` says."""
        check_seconds("every", seconds, zero=False)

        def register(function: _C) -> _C:
            self._periodic.append((seconds, function))
            return function

        return register

    def on_drain(self, function: _C) -> _C:
        """Register a function to call when the drain begins."""
        self._on_drain.append(function)
        return function

    def start(self, drain: Drain) -> None:
        """Begin, if it has not begun.

        Args:
            drain: ends the periodic work, and waits for the work that its beginning starts.
        """
        if self._started:
            return
        self._started = True
        for function in self._after_init:
            _call(function)
        loops = [] if drain.refusing else [_repeat(drain.clock, *periodic) for periodic in self._periodic]
        drain.when_draining().addCallback(self._drain_began, drain, loops)

    def _drain_began(self, _: None, drain: Drain, loops: list[LoopingCall]) -> None:
        for loop in loops:
            loop.stop()
        for function in self._on_drain:
            work = drain.track(_name(function), _call(function), while_draining=True)
            work.addErrback(lambda failure: failure.trap(DrainTimeout))


def _repeat(clock: IReactorTime, seconds: float, function: Callable[[], Any]) -> LoopingCall:
    loop = LoopingCall(_call, function)
    loop.clock = clock
    loop.start(seconds, now=False)
    return loop


def _call(function: Callable[[], Any]) -> Deferred[Any]:
    """Call a function, and log its failure; return a Deferred that fires when it has ended."""
    done: Deferred[Any] = maybeDeferred(function)
    return done.addErrback(lambda failure: _log.failure("{name} failed", failure, name=_name(function)))


def _name(function: Callable[[], Any]) -> str:
    return getattr(function, "__name__", repr(function))
