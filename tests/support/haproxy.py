"""A real HAProxy, configured as docs/operating.md says."""

from __future__ import annotations

import random
import re
import socket
from pathlib import Path

from tests.support import programs
from tests.support.paths import ROOT
from tests.support.patience import LONG_PATIENCE, wait_until
from tests.support.processes import Process

#: What the document leaves to its reader.
_DEFAULTS = """
defaults
    timeout connect 5s
    timeout client 60s
    timeout server 60s
"""


def configuration() -> str:
    """Return what the document says."""
    text = (ROOT / "docs" / "operating.md").read_text()
    (found,) = re.findall(r"^```\n(backend .*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(found)


def fixed_ports(count: int) -> list[int]:
    """Find ports that are free on every address, and that no client's kernel takes."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.sample(range(max(1024, lowest - 10_000), lowest), 1000):
        with socket.socket() as tried:
            try:
                tried.bind(("0.0.0.0", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("there are no free ports")


def start(folder: Path, frontends: dict[str, tuple[str, int]], places: dict[str, str]) -> Process:
    """Start it.

    Args:
        folder: for its configuration.
        frontends: the mode of each backend, and the port on 127.0.0.1 that leads to it.
        places: what to replace in the document's lines.
    """
    program = programs.find("haproxy")
    text = configuration()
    for name, value in places.items():
        text = text.replace(name, value)
    for backend, (mode, port) in frontends.items():
        text += f"\nfrontend for-{backend}\n    mode {mode}\n    bind 127.0.0.1:{port}\n    default_backend {backend}\n"
    path = folder / "haproxy.cfg"
    path.write_text(_DEFAULTS + text)
    return Process(program, "-f", str(path), "-db")


def wait_for_up(balancer: Process, server: str, times: int) -> None:
    """Wait until a server, ``BACKEND/NAME``, has come up again so many times."""
    wait_until(lambda: balancer.log.count(f"Server {server} is UP") == times, LONG_PATIENCE)
