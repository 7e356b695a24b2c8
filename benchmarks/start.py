"""From exec to the first answer, against a process that only imports the reactor."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.lines import INIT
from benchmarks.measure import NODE, MeasuredProcess, in_turn, ratios
from benchmarks.report import Figure

TITLE = "Start: from exec to init_ok"

_BIN = Path(sys.executable).parent
_IMPORT = "import twisted.internet.reactor, os; os.write(1, b'\\n')"


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Compare with a bare import, under each way to start."""
    commands = {
        "import": (sys.executable, "-c", _IMPORT),
        "python -m twisted_node": NODE,
        "twistd": (str(_BIN / "twistd"), "-n", "--pidfile=", "node"),
        "twist": (str(_BIN / "twist"), "node"),
    }
    variants = {name: partial(_first_line, command) for name, command in commands.items()}
    # The first start of all compiles, and fills the caches.
    in_turn(1, variants)
    seconds = in_turn(1 if quick else 11, variants)
    bare = seconds.pop("import")
    for name, ours in seconds.items():
        target = 1.6 if name == "python -m twisted_node" else None
        yield Figure(f"{name}: of a bare import of the reactor", ratios(ours, bare), at_most=target)
    for name, ours in (("the bare import", bare), *seconds.items()):
        yield Figure(f"{name}", [one * 1000 for one in ours], "ms")


def _first_line(command: Sequence[str]) -> float:
    """Seconds until a process writes its first line."""
    with MeasuredProcess(command) as process:
        process.send(INIT)
        process.read_lines(1)
        return time.perf_counter() - process.began
