"""Stop a Twisted server without losing a request."""

from twisted_node.drain import Counts, Drain, Phase, Statistics
from twisted_node.errors import Draining, DrainTimeout, ErrorCode, MisuseError, NodeError, RequestError
from twisted_node.handlers import Answer, Fixed, Request
from twisted_node.node import Node
from twisted_node.process import own_process
from twisted_node.protocol import NodeFactory
from twisted_node.running import run
from twisted_node.service import DrainingService
from twisted_node.tracking import IDrainable
from twisted_node.wire import PlainBody

__all__ = [
    "Answer",
    "Counts",
    "Drain",
    "DrainTimeout",
    "Draining",
    "DrainingService",
    "ErrorCode",
    "Fixed",
    "IDrainable",
    "MisuseError",
    "Node",
    "NodeError",
    "NodeFactory",
    "Phase",
    "PlainBody",
    "Request",
    "RequestError",
    "Statistics",
    "own_process",
    "run",
]
