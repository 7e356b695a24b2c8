"""Standard input and output, taken away from the rest of the process.

Standard output carries messages and nothing else. So what anybody else in the process prints goes to standard error,
and what anybody else reads is empty.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from twisted_node.errors import MisuseError

__all__ = ["free_standard_output", "take_standard_streams"]


def take_standard_streams() -> tuple[int, int]:
    """Take standard input and output for the node alone.

    Afterwards file descriptor 0 is empty, and 1 is standard error. A closed standard input counts as an empty one.

    Returns:
        New file descriptors: to read from, and to write to.

    Raises:
        MisuseError: standard output is closed.
    """
    # Python leaves these None for what was closed at its start; the number may mean something else by now.
    if sys.__stdout__ is None:
        raise MisuseError("standard output is closed: there is nowhere to answer")
    nothing = os.open(os.devnull, os.O_RDONLY)
    reading = nothing if sys.__stdin__ is None else _own(0, os.O_RDONLY)
    writing = _own(1, os.O_WRONLY)
    if sys.__stdin__ is not None:
        os.dup2(nothing, 0)
        os.close(nothing)
    free_standard_output()
    return reading, writing


def free_standard_output() -> None:
    """Have what anybody prints, and the logs of twistd and twist, go to standard error."""
    if sys.__stdout__ is not None:
        sys.__stdout__.flush()
        os.dup2(2 if sys.__stderr__ is not None else os.open(os.devnull, os.O_WRONLY), 1)


def _own(descriptor: int, flags: int) -> int:
    """Open a stream anew, if it is a terminal or a pipe without a name.

    We make the stream non-blocking. That is a state of the open file, which other processes and our standard error may
    share: on a terminal, long log lines would be lost by it. An open file of our own keeps it to ourselves. A regular
    file is not opened anew, so that its position stays shared. Nor is a pipe with a name: if its writer had closed
    before, its end would never be seen.
    """
    path = f"/proc/self/fd/{descriptor}"
    with suppress(OSError):
        if os.isatty(descriptor) or os.readlink(path).startswith("pipe:"):
            return os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK)
    return os.dup(descriptor)
