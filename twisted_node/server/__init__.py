"""A server that drains: listening, the open connections, how one closes, the order of a shutdown, and a restart.

It serves any factory: ``DrainingService.listen`` takes it. ``IDrainable`` is for protocols that know when they are
idle.
"""

from twisted_node.server._any_factory import IDrainable
from twisted_node.server._listening import Listener
from twisted_node.server._service import DrainingService
from twisted_node.server._status import Picture, describe

__all__ = ["DrainingService", "IDrainable", "Listener", "Picture", "describe"]
