"""``--app MODULE:NODE``: imports the user's own node."""

from __future__ import annotations

import importlib
import os
import sys

from twisted_node.errors import MisuseError
from twisted_node.node._node import Node

__all__ = ["load_node"]


def load_node(name: str) -> Node:
    """Import a node.

    Args:
        name: ``MODULE:NODE``; the module may lie in the working folder.

    Returns:
        The node.

    Raises:
        MisuseError: there is no such module, it fails, or it has no such node; the text is one line.
    """
    module_name, colon, node_name = name.partition(":")
    if not (module_name and colon and node_name):
        raise MisuseError(f"--app: expected MODULE:NODE, got {name!r}")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise MisuseError(f"--app {name}: {module_name} cannot be imported: {words}") from error
    try:
        node = getattr(module, node_name)
    except AttributeError:
        raise MisuseError(f"--app {name}: {module_name} has no {node_name}") from None
    if not isinstance(node, Node):
        raise MisuseError(f"--app {name}: expected a Node, {node_name} is of type {type(node).__name__}")
    return node
