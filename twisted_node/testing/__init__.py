r"""Draining servers in memory, for your own tests: the clock moves only when the test advances it.

::

    server = MemoryServer()
    node.bind(server.drain)
    server.listen(NodeFactory(node))
    client = server.connect()
    client.send(b'{"src": "c1", "dest": "n1", "body": {"type": "slow", "msg_id": 1}}\n')
    stopped = server.stop()
    server.clock.advance(1)
    assert client.lines() == [...]
    assert client.closed
"""

from twisted_node.testing._client import MemoryClient
from twisted_node.testing._server import MemoryEndpoint, MemoryServer

__all__ = ["MemoryClient", "MemoryEndpoint", "MemoryServer"]
