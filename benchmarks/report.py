"""Figures, as a table; and the machine that they were taken on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One figure: what it is of, all that was measured, its unit, and what it ought to be.

    The unit of a ratio is ``x``.
    """

    what: str
    values: Sequence[float]
    unit: str = "x"
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        """The one in the middle."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    def row(self) -> str:
        """Write it as a row of a Markdown table."""
        target = "" if self.at_least is None else f"at least {_number(self.at_least)}"
        target = target if self.at_most is None else f"at most {_number(self.at_most)}"
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        spread = f"{_number(min(self.values))} to {_number(max(self.values))}"
        return f"| {self.what} | {_number(self.median)} {self.unit} | {spread} | {target} | {met} |"


TABLE_HEAD = "| | median | lowest to highest | target | met |\n| --- | ---: | ---: | ---: | --- |"


def table(title: str, figures: Iterable[Figure]) -> str:
    """Write figures as a Markdown section."""
    return "\n".join([f"## {title}", "", TABLE_HEAD, *(figure.row() for figure in figures), ""])


def machine() -> str:
    """Describe the machine, and what runs on it."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("Twisted", "msgspec"))
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    text = (
        f"{os.cpu_count()} cores of {cpu}; Linux {platform.release().partition('-')[0]};"
        f" {platform.python_implementation()} {platform.python_version()}, {versions};"
        f" load averages when it ended: {load}."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
