"""The command line of ``twistd node``, ``twist node`` and ``python -m twisted_node``: from texts to values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.python import usage

from twisted_node._seconds import read_seconds
from twisted_node.node._framing import DEFAULT_MAX_BUFFERED, DEFAULT_MAX_LINE
from twisted_node.watch._admin_access import read_host

__all__ = ["Options"]

_SECONDS = ("drain-timeout", "lame-duck", "linger", "idle-timeout")
_COUNTS = ("max-line", "max-connections", "max-in-flight", "max-buffered")
_NEVER_EMPTY = {"listen": "an ENDPOINT", "control": "an ENDPOINT", "admin": "an ENDPOINT", "app": "MODULE:NODE"}
#: In characters; no message can name a longer one as its ``dest``.
_LONGEST_NODE_ID = 1024


class Options(usage.Options):
    """The command line."""

    synopsis = "[options]"
    longdesc = "A node that speaks one JSON message a line, on standard input or on sockets, and drains when stopped."

    optParameters = [  # noqa: RUF012 - twisted.python.usage reads the list
        ["admin", None, None, "Answer HTTP on this ENDPOINT: health, metrics, status, a page. Needs the admin extra."],
        ["drain-timeout", None, "25", "Seconds from the beginning of a drain until what is left is cut."],
        ["lame-duck", None, "0", "Seconds that readiness fails before a signal's drain begins."],
        ["linger", None, "1", "Seconds that a closing connection waits for its client."],
        ["node-id", None, None, "The node's name; by default from init on standard input, n1 on sockets."],
        ["max-line", None, str(DEFAULT_MAX_LINE), "The longest line taken, in bytes."],
        ["max-connections", None, "10000", "How many clients may be connected; control and admin do not count."],
        ["max-in-flight", None, "100000", "How many requests may be in flight."],
        ["idle-timeout", None, "0", "Seconds until an idle connection is closed; 0 for never."],
        ["max-buffered", None, str(DEFAULT_MAX_BUFFERED), "Bytes that half lines of all clients may take together."],
        ["app", None, None, "Your own node instead of the one that answers tcp_request: MODULE:NODE."],
    ]

    optFlags = [  # noqa: RUF012 - the same
        ["admin-drain", None, "Let POST /drain on --admin begin a drain."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["control"] = []
        self["admin-host"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Let clients connect to this ENDPOINT; may be given again. Without any: standard input and output."""
        self["listen"].append(endpoint)

    def opt_control(self, endpoint: str) -> None:
        """Like --listen; its clients may also send tcp_shutdown and init. May be given again."""
        self["control"].append(endpoint)

    def opt_admin_host(self, name: str) -> None:
        """A name that browsers may call --admin by, beside addresses and localhost. May be given again."""
        try:
            self["admin-host"].append(read_host(name))
        except ValueError as error:
            raise usage.UsageError(f"--admin-host: {error}") from None

    def parseArgs(self, *words: str) -> None:
        """Take no words beside the options."""
        if words:
            said = "not an option; an option takes one value, and one with spaces needs quotes"
            raise usage.UsageError(f"{words[0]!r}: {said}")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line; a wrong one ends the process with one line on standard error and status 1."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"node: {error}") from None

    def postOptions(self) -> None:
        """Turn texts into numbers, and refuse what makes no sense."""
        for name in _SECONDS:
            self._read(name, read_seconds)
        for name in _COUNTS:
            self._read(name, _read_count)
        for name, expected in _NEVER_EMPTY.items():
            if self[name] == "" or (isinstance(self[name], list) and "" in self[name]):
                raise usage.UsageError(f"--{name}: expected {expected}, got ''")
        for name in ("admin-drain", "admin-host"):
            if self[name] and not self["admin"]:
                raise usage.UsageError(f"--{name}: needs --admin")
        if self["node-id"] is not None:
            self._check_node_id()

    def _check_node_id(self) -> None:
        node_id = self["node-id"]
        # What is no UTF-8 on the command line could not be sent.
        if not 0 < len(node_id) <= _LONGEST_NODE_ID or node_id != node_id.encode(errors="ignore").decode():
            expected = f"a name of at most {_LONGEST_NODE_ID} characters"
            raise usage.UsageError(f"--node-id: expected {expected}, got {node_id[:100]!r}")

    def _read(self, name: str, read: Callable[[str], float]) -> None:
        try:
            self[name] = read(self[name])
        except ValueError as error:
            raise usage.UsageError(f"--{name}: {error}") from None


def _read_count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(f"expected a number from 1, got {text!r}")
    return count
