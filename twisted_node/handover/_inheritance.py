"""The listening sockets that a predecessor handed on, and the line to it; read from a variable when this is imported.

The variable is removed from the environment, and every descriptor is closed on exec, before a child can see them.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from twisted_node.drain._waiters import Waiters
from twisted_node.handover._line import keep_until_end, one_line

__all__ = ["VARIABLE", "Inheritance", "inherit", "inherited", "tell_successor"]

_log = Logger()

#: The environment's variable that tells a successor what it is handed.
VARIABLE = "TWISTED_NODE_HANDOVER"


class Inheritance:
    """What a predecessor handed on; nothing if there is none.

    Args:
        sockets: for each, the address that was asked for and its descriptor, in the order in which they were opened.
        line: the descriptor of the line to the predecessor, which serves until we have said there that we are ready;
            None if there is none.
        predecessor: its process.
    """

    def __init__(self, sockets: Sequence[tuple[str, int]] = (), line: int | None = None, predecessor: int = 0) -> None:
        self.line = line
        self.predecessor = predecessor
        self._claimed = False
        #: Whether a predecessor serves still, so that we do not accept yet.
        self.waits = line is not None
        #: Which of the sockets have been taken, by their place.
        self.taken: list[int] = []
        #: Fire when what we cannot be ready without is there.
        self.needed: list[Deferred[object]] = []
        self._left = dict(enumerate(sockets))
        self._for_our_turn: Waiters[None] = Waiters()

    def claim_line(self) -> int | None:
        """Get the line for one who speaks on it; None if there is none, or somebody has it."""
        if self._claimed:
            return None
        self._claimed = True
        return self.line

    def take(self, asked: str) -> socket.socket | None:
        """Take the first socket that is left of those that were opened for an address; None if there is none.

        Args:
            asked: the address as it is asked for.
        """
        for place, (handed_for, descriptor) in self._left.items():
            if handed_for == asked:
                del self._left[place]
                self.taken.append(place)
                listening = socket.socket(fileno=descriptor)
                listening.setblocking(False)
                return listening
        return None

    def when_our_turn(self) -> Deferred[None]:
        """Wait until the predecessor lets us accept; fires at once if there is none."""
        return self._for_our_turn.add() if self.waits else succeed(None)

    def need(self, deferred: Deferred[Any]) -> None:
        """Be ready only when a Deferred has fired, with anything but a failure."""
        if self.waits:
            needed: Deferred[object] = Deferred()
            self.needed.append(needed)
            deferred.addBoth(_pass_on, needed)

    def tell_failed(self, error: object) -> None:
        """Tell a predecessor that waits for us why we will not be ready; the reactor need not run for that."""
        if self.waits and self.line is not None:
            with suppress(OSError):
                os.write(self.line, f"failed {one_line(error)}\n".encode())

    def close_rest(self) -> None:
        """Close the sockets that nobody has taken."""
        for _, descriptor in self._left.values():
            os.close(descriptor)
        self._left.clear()

    def begin(self) -> None:
        """Learn that it is our turn."""
        self.waits = False
        self.needed.clear()
        self._for_our_turn.fire(None)


def _pass_on(result: Any, to: Deferred[object]) -> Any:
    to.callback(result)
    return result


def tell_successor(line: int, inode: int, sockets: Sequence[tuple[str, int]]) -> dict[bytes, bytes]:
    """Make the variable that tells a successor what it is handed.

    Args:
        line: the descriptor of its end of the line, there.
        inode: of that.
        sockets: as for :class:`Inheritance`, with the descriptors that it has there.
    """
    told = {
        "line": line,
        # A child of the successor that gets the variable, and not the line, is told apart by this.
        "inode": inode,
        "predecessor": os.getpid(),
        "sockets": sockets,
    }
    return {VARIABLE.encode(): json.dumps(told).encode()}


def inherit(environment: MutableMapping[str, str]) -> Inheritance:
    """Take over what a predecessor handed on, if there is one.

    Args:
        environment: our variable is removed from it.
    """
    text = environment.pop(VARIABLE, None)
    if text is None:
        return Inheritance()
    try:
        told = json.loads(text)
        return _inherit(told)
    except (KeyError, OSError, TypeError, ValueError) as error:
        _log.warn("{variable} is not for this process: {error}", variable=VARIABLE, error=error)
        return Inheritance()


def _inherit(told: Mapping[str, object]) -> Inheritance:
    line, predecessor, sockets = told["line"], told["predecessor"], told["sockets"]
    if not isinstance(line, int) or not isinstance(predecessor, int) or not isinstance(sockets, list):
        raise TypeError("it is not ours")
    if os.fstat(line).st_ino != told["inode"]:
        raise ValueError("there is another file in the place of the line")
    handed = [(str(asked), int(descriptor)) for asked, descriptor in sockets]
    for _, descriptor in handed:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise ValueError(f"descriptor {descriptor} is no socket")
        os.set_inheritable(descriptor, False)
    os.set_inheritable(line, False)
    keep_until_end(line)
    return Inheritance(handed, line, predecessor)


#: What this process was handed.
inherited = inherit(os.environ)
