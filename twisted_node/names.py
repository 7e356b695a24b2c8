"""Names from outside, fit for a log or a screen."""

from __future__ import annotations

from typing import Any

__all__ = ["peer_name", "printable"]


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
    """Name an address for the log."""
    host = getattr(address, "host", None)
    return f"{host}:{address.port}" if host is not None else str(getattr(address, "name", None) or address)
