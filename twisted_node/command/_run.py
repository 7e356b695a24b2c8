"""``run``: a node as a program, for ``python -m twisted_node`` and for programs of your own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twisted.logger import FilteringLogObserver, LogLevelFilterPredicate, globalLogBeginner, textFileLogObserver

from twisted_node.node._node import Node

__all__ = ["run"]


def run(node: Node | None = None, arguments: Sequence[str] | None = None) -> None:
    """Run a node until it has drained. A program calls this last, below ``if __name__ == "__main__":``.

    The program has all the options of the command except ``--app``. The process ends when the node ends.

    Args:
        node: your own; by default what ``--app`` names, or the one that answers ``tcp_request``.
        arguments: the options; by default those of the process.

    Raises:
        SystemExit: the options are wrong, or what they ask for cannot be done; with one line that says why.
    """
    from twisted.internet import reactor

    from twisted_node.command._service import Options, makeService

    options = Options()
    options.parseOptions(arguments)
    if node is not None:
        if options["app"] is not None:
            raise SystemExit("node: --app: this program has a node of its own")
        options["app"] = node
    service = makeService(options)
    # No debug messages: the filter's default is info and above.
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [LogLevelFilterPredicate()])
    globalLogBeginner.beginLoggingTo([observer])
    service.startService()
    reactor.run()
