"""What a log or a screen says of work and clients: names from outside, and figures, worded in one way everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol

__all__ = ["name_oldest", "peer_name", "printable", "summarise"]


class _Figures(Protocol):
    """What has become of the work of a server."""

    @property
    def finished(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def cut(self) -> int: ...
    @property
    def undelivered(self) -> int: ...


def printable(text: str, longest: int = 1000) -> str:
    """Make a text that a client chose fit for a log or a screen, which act on what is not printable.

    Args:
        text: anything.
        longest: characters; the rest is left out.
    """
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:longest]
    )


def peer_name(address: Any) -> str:
    """Name an address for the log, as people write it."""
    host, path = getattr(address, "host", None), getattr(address, "name", "")
    if host is not None:
        return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
    if path is None:
        # The client's end of a unix socket has no name.
        return "a unix socket"
    # A name that begins with a zero byte is in the abstract namespace.
    return os.fsdecode(path).replace("\0", "@") if path else str(address)


def name_oldest(oldest: Iterable[tuple[object, float]]) -> str:
    """Name pieces of work for a log or a screen.

    Args:
        oldest: each with its age in seconds.

    Returns:
        Their names and ages, on one line; empty if there are none.
    """
    return ", ".join(f"{printable(str(name))} ({age:.1f} s)" for name, age in oldest)


def summarise(figures: _Figures) -> str:
    """Say in one line what has become of the work."""
    return (
        f"{figures.finished} finished, {figures.refused} refused, {figures.cut} cut, {figures.undelivered} undelivered"
    )
