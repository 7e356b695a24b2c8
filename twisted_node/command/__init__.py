"""The commands: ``twistd node`` and its options, ``python -m twisted_node`` (``run``), and ``twisted-node``."""

from twisted_node.command._run import run

__all__ = ["run"]
