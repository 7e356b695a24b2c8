"""The process whose place this one takes: it serves until we have said that we are ready, and drains when we go.

Until it lets us go nothing is accepted here, and what it handed on is its own: we end without touching it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, FirstError, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node._version import VERSION
from twisted_node.drain._waiters import Waiters
from twisted_node.handover._inheritance import Inheritance
from twisted_node.handover._line import Line, join_places, one_line, open_line

__all__ = ["PREDECESSOR", "Predecessor", "PredecessorEvent", "PredecessorState"]

_log = Logger()


class PredecessorState(Enum):
    """Where a predecessor is."""

    #: It serves, and waits for us to be ready.
    SERVING = "serving"
    #: It has let us go, and drains.
    DRAINING = "draining"
    #: It has gone.
    GONE = "gone"


class PredecessorEvent(Enum):
    """What moves a predecessor on."""

    GO = "it lets us go"
    LOST = "its line has ended"


PREDECESSOR = {
    PredecessorState.SERVING: {
        PredecessorEvent.GO: PredecessorState.DRAINING,
        PredecessorEvent.LOST: PredecessorState.GONE,
    },
    PredecessorState.DRAINING: {PredecessorEvent.LOST: PredecessorState.GONE},
    PredecessorState.GONE: {},
}


class Predecessor:
    """The process whose place this one takes.

    Args:
        inheritance: what it handed on.
        line: the descriptor of the line to it.
        reactor: serves the line.
        give_up: is called if it ends before it has let us go, with the reason.
        may_be_ready: tells whether we are not ending ourselves already.
    """

    def __init__(
        self,
        inheritance: Inheritance,
        line: int,
        reactor: Any,
        *,
        give_up: Callable[[str], object],
        may_be_ready: Callable[[], bool],
    ) -> None:
        self.state = PredecessorState.SERVING
        #: With which status it has ended; 1 if it has ended without a word.
        self.status = 1
        self._inheritance = inheritance
        self._give_up = give_up
        self._may_be_ready = may_be_ready
        self._for_end: Waiters[None] = Waiters()
        self._line = Line({"go": self._said_go, "ended": self._said_ended}, self._lost)
        open_line(reactor, line, self._line)
        # In the next turn after the reactor has begun to run: all that is started with this service is started then.
        reactor.callWhenRunning(reactor.callLater, 0, self._wait_until_up)

    def when_gone(self) -> Deferred[None]:
        """Wait until its process has ended; fires at once if it has."""
        return succeed(None) if self.state is PredecessorState.GONE else self._for_end.add()

    def tell_stop(self, seconds: float) -> None:
        """Tell it to drain now, for this process is being stopped.

        Args:
            seconds: until all is to be over.
        """
        if self.state is PredecessorState.DRAINING:
            self._line.say("stop", f"{max(0.0, seconds):.3f}")

    def _wait_until_up(self) -> None:
        needed = DeferredList(self._inheritance.needed, fireOnOneErrback=True, consumeErrors=True)
        needed.addCallbacks(self._say_ready, self._say_failed)

    def _say_ready(self, _: object) -> None:
        if self.state is not PredecessorState.SERVING or not self._may_be_ready():
            return
        self._inheritance.close_rest()
        self._line.say("ready", os.getpid(), VERSION, join_places(self._inheritance.taken))

    def _say_failed(self, failure: Failure) -> None:
        cause = failure.value.subFailure.value if isinstance(failure.value, FirstError) else failure.value
        self._line.say("failed", one_line(cause))
        self._give_up(f"not ready: {one_line(cause)}")

    def _said_go(self, _: str) -> None:
        self._move(PredecessorEvent.GO)
        self._inheritance.begin()
        _log.info("accepting, in the place of process {pid}", pid=self._inheritance.predecessor)

    def _said_ended(self, text: str) -> None:
        self.status = int(text)

    def _lost(self) -> None:
        before = self.state
        self._move(PredecessorEvent.LOST)
        if before is PredecessorState.SERVING:
            self._give_up(f"process {self._inheritance.predecessor} does not wait for this one any more")
        else:
            _log.info(
                "process {pid} has ended, with status {status}", pid=self._inheritance.predecessor, status=self.status
            )
        self._for_end.fire(None)

    def _move(self, event: PredecessorEvent) -> None:
        self.state = PREDECESSOR[self.state][event]
