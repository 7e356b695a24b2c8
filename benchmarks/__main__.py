"""``python -m benchmarks [--quick] [PART ...]``: measure all, or these parts.

Figures go to standard output; if all parts were measured, to results.md too.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks.report import machine, table

#: The parts, in their order.
PARTS = ("stdio", "tcp", "connections", "in_flight", "stop", "start", "in_process", "workers")

_RESULTS = Path(__file__).with_name("results.md")


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="What the node costs, against what else there is.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of: {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="tiny numbers: shows that all works, and measures nothing")
    options = parser.parse_args()
    if wrong := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(wrong))}")
    sections = []
    for part in options.parts or PARTS:
        began = time.monotonic()
        module = import_module(f"benchmarks.{part}")
        sections.append(table(module.TITLE, module.measure(quick=options.quick)))
        print(sections[-1], flush=True)
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if not options.parts and not options.quick:
        _RESULTS.write_text("\n".join(["# What `make bench` measured", "", machine(), "", *sections]))


if __name__ == "__main__":
    main()
