"""How this process was started, so that another can be started in the same way; looked at when this is imported.

Links are not resolved: where a link leads to the present release, it is followed anew, to the new one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twisted_node.handover._inheritance import VARIABLE

__all__ = ["FIRST_SYSTEMD_DESCRIPTOR", "START", "Start", "keep_from_children", "look_at_start"]

#: Where systemd puts the sockets that it hands to a process; see ``sd_listen_fds(3)``.
FIRST_SYSTEMD_DESCRIPTOR = 3

_SHELL_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Start:
    """How a process was started.

    Args:
        pid: of the process.
        parent: the process that started it.
        executable: the program, as a path or a name that is looked for in ``PATH``.
        arguments: the whole command line.
        folder: the current one.
        environment: the variables, without ours.
        ignored: the numbers of the signals that it was started to ignore, as by nohup.
    """

    pid: int
    parent: int
    executable: str
    arguments: tuple[str, ...]
    folder: str
    environment: dict[bytes, bytes]
    ignored: tuple[int, ...] = ()

    @property
    def systemd_descriptors(self) -> range:
        """The descriptors of the sockets that came from systemd, in its order."""
        environment = self.environment
        if environment.get(b"LISTEN_PID") != b"%d" % self.pid or not environment.get(b"LISTEN_FDS", b"").isdigit():
            return range(0)
        first = FIRST_SYSTEMD_DESCRIPTOR
        return range(first, first + int(environment[b"LISTEN_FDS"]))

    def again(self) -> tuple[list[bytes], dict[bytes, bytes]]:
        """Make the command line and the environment for another process like this one.

        Its variables tell of systemd's sockets only if this process was handed some.
        """
        environment = dict(self.environment)
        command = [os.fsencode(word) for word in (self.executable, *self.arguments[1:])]
        script = 'exec "$@"'
        if self.systemd_descriptors:
            # Only the new process knows its number.
            script = f"LISTEN_PID=$$ {script}"
        else:
            for name in (b"LISTEN_PID", b"LISTEN_FDS", b"LISTEN_FDNAMES"):
                environment.pop(name, None)
        if self.ignored:
            # Twisted starts a process that ignores no signal.
            script = f"trap '' {' '.join(map(str, self.ignored))}; {script}"
        if self.ignored or self.systemd_descriptors:
            # A shell hands on no variable with a name that it cannot use itself.
            odd = [b"%s=%s" % variable for variable in environment.items() if not _SHELL_NAME.fullmatch(variable[0])]
            if odd:
                command = [b"/usr/bin/env", *odd, *command]
            command = [b"/bin/sh", b"-c", script.encode(), b"sh", *command]
        return command, environment


def look_at_start() -> Start:
    """Look at how this process was started; call it before anything changes the folder."""
    environment = _first_environment()
    environment.pop(VARIABLE.encode(), None)
    folder = os.getcwd()
    return Start(
        pid=os.getpid(),
        parent=os.getppid(),
        executable=_executable(sys.orig_argv[0], folder, environment),
        arguments=tuple(sys.orig_argv),
        folder=_as_written(folder, os.fsdecode(environment.get(b"PWD", b""))),
        environment=environment,
        ignored=_ignored_signals(),
    )


def _ignored_signals() -> tuple[int, ...]:
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    # Python itself ignores these.
    return tuple(sorted(map(int, ignored - {signal.SIGPIPE, signal.SIGXFSZ})))


def _first_environment() -> dict[bytes, bytes]:
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environb)
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def _executable(first_word: str, folder: str, environment: dict[bytes, bytes]) -> str:
    """Find the program: the first word of a command line may be anything, if a program has started this one."""
    path = os.fsdecode(environment.get(b"PATH", os.defpath.encode()))
    found = shutil.which(os.path.join(folder, first_word) if "/" in first_word else first_word, path=path)
    return first_word if found else sys.executable


def _as_written(folder: str, written: str) -> str:
    """Name a folder as the shell did, if that is still the same one: its name may go through a link."""
    try:
        same = os.path.isabs(written) and os.path.samefile(folder, written)
    except OSError:
        return folder
    return written if same else folder


def keep_from_children(descriptors: Iterable[int]) -> None:
    """Have descriptors closed on exec; those that are not open are left out."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.set_inheritable(descriptor, False)


START = look_at_start()
keep_from_children(START.systemd_descriptors)
