"""The factories of the connections to a node, and what is said to a client that is one too many."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from zope.interface import implementer

from twisted_node.drain import Drain
from twisted_node.errors import ErrorCode, MisuseError, RequestError
from twisted_node.node._framing import DEFAULT_MAX_LINE, HalfLines
from twisted_node.node._node import Node, requests_of
from twisted_node.node._protocol import NodeProtocol, do_nothing
from twisted_node.server._connections import Connections, IDrainingFactory

__all__ = ["NodeFactory", "ServedFactory"]


class _RefusedProtocol(NodeProtocol):
    """A connection beyond the limit: one error line, and a clean close."""

    def connectionMade(self) -> None:
        """Say it and close."""
        super().connectionMade()
        self.requests.complain(self, RequestError(ErrorCode.TEMPORARILY_UNAVAILABLE, "too many connections"))
        self.connection.finish()


@implementer(IDrainingFactory)
class ServedFactory(ServerFactory):
    """What makes connections to a node, once a service has taken it; the base of those that do.

    Args:
        node: answers.
        max_line: as in :class:`NodeProtocol`, in bytes.
    """

    noisy = False

    def __init__(self, node: Node, *, max_line: int = DEFAULT_MAX_LINE) -> None:
        self.node = node
        self.max_line = max_line
        #: Those of the service that listens, which sets it; None until then.
        self.connections: Connections | None = None

    @property
    def drain(self) -> Drain:
        """The drain of the node."""
        return self.node.drain

    def startFactory(self) -> None:
        """Begin the node's own work, if it has its name.

        Raises:
            MisuseError: no service listens: the factory was not given to ``DrainingService.listen``; or the node is not
                bound to a drain.
        """
        self._served_connections()
        requests_of(self.node).start_own_work()

    def _served_connections(self) -> Connections:
        """Find the connections of the service that listens; raises what :meth:`startFactory` does."""
        if self.connections is None:
            raise MisuseError("factory: expected one that DrainingService.listen was given")
        return self.connections


class NodeFactory(ServedFactory):
    """Makes the connections of a node.

    Args:
        node: answers.
        control: whether clients may call what needs control.
        max_connections: those beyond get one error line; None for no limit.
        max_line: as in :class:`NodeProtocol`, in bytes.
        idle_timeout: as in :class:`NodeProtocol`, in seconds.
        half_lines: as in :class:`NodeProtocol`; by default those of this factory.
    """

    def __init__(
        self,
        node: Node,
        *,
        control: bool = False,
        max_connections: int | None = None,
        max_line: int = DEFAULT_MAX_LINE,
        idle_timeout: float = 0,
        half_lines: HalfLines | None = None,
    ) -> None:
        super().__init__(node, max_line=max_line)
        self.control = control
        self.max_connections = max_connections
        self.idle_timeout = idle_timeout
        self.half_lines = half_lines or HalfLines()
        self._open = 0

    def buildProtocol(self, addr: IAddress | None) -> NodeProtocol:
        """Make one connection; raises what :meth:`startFactory` does."""
        connections = self._served_connections()
        full = self.max_connections is not None and self._open >= self.max_connections
        protocol = (_RefusedProtocol if full else NodeProtocol)(
            requests_of(self.node),
            connections,
            control=self.control,
            max_line=self.max_line,
            idle_timeout=self.idle_timeout,
            half_lines=self.half_lines,
            # Those beyond the limit do not count.
            on_lost=do_nothing if full else self._lost,
        )
        protocol.factory = self
        if not full:
            self._open += 1
        return protocol

    def _lost(self) -> None:
        self._open -= 1
