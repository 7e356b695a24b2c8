"""What to put before a command to run it as an ordinary user, without any privilege that has to do with the network."""

from __future__ import annotations

__all__ = ["NOBODY", "READER"]

_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

#: A user who has no privilege, and can get none back.
NOBODY = [*_USER, "--bounding-set=-all", "--inh-caps=-all"]

#: The same, but for the right to read all files: this repository, and Python, may stand where only root may look.
READER = [
    *(*_USER, "--bounding-set=-all,+dac_read_search"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
]
