"""A node as a program: what ``python -m twisted_node`` does, and a program of your own at its end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twisted.logger import FilteringLogObserver, LogLevelFilterPredicate, globalLogBeginner, textFileLogObserver

from twisted_node.node._node import Node

__all__ = ["run"]


def run(node: Node | None = None, arguments: Sequence[str] | None = None) -> None:
    """Run a node until it has drained; a program calls this last, below ``if __name__ == "__main__":``.

    It then has all the options of the command, ``--app`` excepted. The process ends with the node.

    Args:
        node: your own; by default what ``--app`` names, or the one that answers ``tcp_request``.
        arguments: the options; by default those of the process.

    Raises:
        SystemExit: the options are wrong or cannot be met; with one line that says why.
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
    # From info upwards.
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [LogLevelFilterPredicate()])
    globalLogBeginner.beginLoggingTo([observer])
    service.startService()
    reactor.run()
