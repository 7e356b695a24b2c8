"""Stop a Twisted server without losing a request.

Each name is imported when it is asked for: ``from twisted_node import Drain`` loads the drain and nothing else.
"""

from typing import TYPE_CHECKING

from twisted_node._lazy import lazy_names

if TYPE_CHECKING:
    from twisted_node.command import run
    from twisted_node.drain import Counts, Drain, Phase, Statistics
    from twisted_node.errors import (
        Draining,
        DrainTimeout,
        ErrorCode,
        HandoverError,
        MisuseError,
        NodeError,
        RequestError,
    )
    from twisted_node.node import Answer, Fixed, Node, NodeFactory, PlainBody, Request
    from twisted_node.process import own_process
    from twisted_node.server import DrainingService, IDrainable
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "twisted_node.command": ["run"],
            "twisted_node.drain": ["Counts", "Drain", "Phase", "Statistics"],
            "twisted_node.errors": [
                "DrainTimeout",
                "Draining",
                "ErrorCode",
                "HandoverError",
                "MisuseError",
                "NodeError",
                "RequestError",
            ],
            "twisted_node.node": ["Answer", "Fixed", "Node", "NodeFactory", "PlainBody", "Request"],
            "twisted_node.process": ["own_process"],
            "twisted_node.server": ["DrainingService", "IDrainable"],
        },
    )

__all__ = [
    "Answer",
    "Counts",
    "Drain",
    "DrainTimeout",
    "Draining",
    "DrainingService",
    "ErrorCode",
    "Fixed",
    "HandoverError",
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
