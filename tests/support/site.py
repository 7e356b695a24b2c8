"""``examples/site.tac`` as a real process."""

from __future__ import annotations

import os

from tests.support.paths import BIN, ROOT
from tests.support.processes import Process


def start_site() -> tuple[Process, int]:
    """Start the example; its log, which twistd writes to standard output, to standard error."""
    process = Process(
        *["/bin/sh", "-c", 'exec "$@" >&2', "sh"],
        *[str(BIN / "twistd"), "-n", "--pidfile=", "-y", str(ROOT / "examples" / "site.tac")],
        env={**os.environ, "PORT": "0"},
    )
    return process, process.port()
