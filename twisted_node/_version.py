"""The version of the package; the build reads it here too."""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
