"""Packages that import each of their names only when somebody uses it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's ``__getattr__`` and ``__dir__`` (PEP 562).

    Args:
        package: the package's ``__name__``.
        modules: for each module, the names that come from it.

    Returns:
        The two functions. The first import of a name makes it an ordinary attribute of the package; ``dir`` lists the
        names whether they have been imported or not, and nothing else.
    """
    origin = {name: module for module, names in modules.items() for name in names}

    def get_attribute(name: str) -> Any:
        if name not in origin:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(origin[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def list_names() -> list[str]:
        return sorted(origin)

    return get_attribute, list_names
