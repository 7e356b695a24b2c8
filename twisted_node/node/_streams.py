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

    The stream is going to be non-blocking. That flag belongs to the open file description, which other processes and
    our own standard error may share. On a terminal, they could then lose parts of long log lines. By opening the stream
    again we get a description of our own. A regular file is not opened again, because the position in it must stay
    shared. A named pipe is not either: if its writer has closed already, we would never see the end of input.
    """
    path = f"/proc/self/fd/{descriptor}"
    with suppress(OSError):
        if os.isatty(descriptor) or os.readlink(path).startswith("pipe:"):
            return os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK)
    return os.dup(descriptor)
