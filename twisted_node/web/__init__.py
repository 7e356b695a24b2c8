"""The drain for twisted.web: ``DrainingSite`` in the place of ``Site``, for HTTP/1, HTTP/2 and websockets."""

from twisted_node.web._site import DrainingSite

__all__ = ["DrainingSite"]
