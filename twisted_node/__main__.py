"""``python -m twisted_node``: the node without twistd."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twisted.logger import globalLogBeginner, textFileLogObserver


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a node until it has drained.

    Args:
        arguments: the options; by default those of the process.
    """
    from twisted.internet import reactor

    from twisted_node.tap import Options, makeService

    options = Options()
    options.parseOptions(arguments)
    service = makeService(options)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)])
    service.startService()
    reactor.run()


if __name__ == "__main__":
    main()
