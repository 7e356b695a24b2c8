"""What ``twistd`` was told, if it runs this process: its pidfile and its log file, which a handover has to heed."""

from __future__ import annotations

import fcntl
import getopt
import os
import sys
from contextlib import suppress
from pathlib import Path

from twisted_node.handover._start import START

__all__ = ["append_to_log", "own_pidfile"]

_DESCRIPTORS = Path("/proc/self/fd")


def own_pidfile() -> str | None:
    """Find the pidfile that names this process; None if there is none."""
    path = _told("pidfile")
    try:
        named = int(Path(path).read_text()) if path else 0
    except (OSError, ValueError):
        return None
    return path if named == os.getpid() else None


def append_to_log() -> None:
    """Have the log file written at its end, wherever that is by then: two processes write to it during a handover.

    twistd writes where it has written last, which is over what the other process has written meanwhile.
    """
    # It is opened before twistd changes the folder. A daemon has one without being told.
    path = os.path.join(START.folder, _told("logfile") or "twistd.log")
    with suppress(OSError):
        log = os.stat(path)
        for name in os.listdir(_DESCRIPTORS):
            # The descriptor that listed them is closed by now.
            with suppress(OSError):
                if os.path.samestat(os.fstat(int(name)), log):
                    flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
                    fcntl.fcntl(int(name), fcntl.F_SETFL, flags | os.O_APPEND)


def _told(option: str) -> str:
    """Read an option of twistd's from the command line, as twistd does; empty if twistd does not run this process."""
    twistd = sys.modules.get("twisted.scripts.twistd")
    if twistd is None:
        return ""
    options = twistd.ServerOptions()
    value: str = options[option] or ""
    with suppress(getopt.GetoptError):
        for name, given in getopt.getopt(sys.argv[1:], options.shortOpt, options.longOpt)[0]:
            if options.synonyms.get(name.lstrip("-")) == option:
                value = given
    return value
