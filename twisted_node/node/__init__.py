"""A node that speaks one JSON message a line: its handlers, its protocol, and its calls to other nodes."""

from twisted_node.node._factory import NodeFactory
from twisted_node.node._handlers import Answer, Fixed, Request
from twisted_node.node._node import Node
from twisted_node.node._plain import PlainBody

__all__ = ["Answer", "Fixed", "Node", "NodeFactory", "PlainBody", "Request"]
