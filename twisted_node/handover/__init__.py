"""Handing the listening sockets to another process, which takes the place of this one: the parts of a restart.

``_start`` knows how this process was started; ``_successor`` starts another like it, and ``_predecessor`` is the other
side of the ``_line`` between the two. ``_inheritance`` has the sockets that came, and ``_adopting`` listens with them.
What a service does with all that is in ``twisted_node.server``: ``DrainingService.replace``.
"""

__all__: list[str] = []
