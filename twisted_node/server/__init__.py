"""A server that drains: listening, the open connections, how one closes, and the order of a shutdown.

It serves any factory: ``DrainingService.listen`` takes it.
"""

from twisted_node.server._any_factory import IDrainable
from twisted_node.server._listening import Listener
from twisted_node.server._service import DrainingService
from twisted_node.server._status import Picture, describe

__all__ = ["DrainingService", "IDrainable", "Listener", "Picture", "describe"]
