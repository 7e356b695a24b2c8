"""What makes ``twistd node`` and ``twist node`` known."""

from twisted.application.service import ServiceMaker

node = ServiceMaker(
    "A node that drains",
    "twisted_node.command._service",
    "One JSON message a line, and a graceful shutdown.",
    "node",
)
