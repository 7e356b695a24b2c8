"""Watching a server drain: over HTTP (``Admin``), by Prometheus (``Metrics``), by systemd (``Notifier``).

``Admin`` and ``Metrics`` need the ``admin`` extra, so each name is imported when it is asked for.
"""

from typing import TYPE_CHECKING

from twisted_node._lazy import lazy_names

if TYPE_CHECKING:
    from twisted_node.watch._admin import Admin
    from twisted_node.watch._metrics import Metrics
    from twisted_node.watch._systemd import Notifier
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "twisted_node.watch._admin": ["Admin"],
            "twisted_node.watch._metrics": ["Metrics"],
            "twisted_node.watch._systemd": ["Notifier"],
        },
    )

__all__ = ["Admin", "Metrics", "Notifier"]
