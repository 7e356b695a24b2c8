"""What Twisted itself allows: a server that sends back what came, unread. It says its port."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.protocol import Protocol, ServerFactory

# Twisted's types do not say which reactor is installed.
reactor: Any = installed_reactor


class Echo(Protocol):
    """One connection."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Send it back in the same turn, as the node does; what is outstanding fits into the kernel's buffers."""
        if self.transport.writeSomeData(data) != len(data):
            raise RuntimeError("more outstanding than the kernel has room for")


if __name__ == "__main__":
    port = reactor.listenTCP(0, ServerFactory.forProtocol(Echo), backlog=4096, interface="127.0.0.1")
    print(f"port={port.getHost().port}", file=sys.stderr, flush=True)
    reactor.run()
