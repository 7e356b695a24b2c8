"""An admin endpoint, asked as an operator and as Prometheus do."""

from __future__ import annotations

import subprocess

from prometheus_client.parser import text_string_to_metric_families

from tests.support.patience import PATIENCE

LOCAL = "tcp:0:interface=127.0.0.1"


def curl(port: int, path: str, *options: str) -> tuple[int, str]:
    """Ask as an operator does; return the status and the body."""
    result = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *options, f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    body, _, status = result.stdout.rpartition("\n")
    return int(status), body


def figures(text: str) -> dict[str, float]:
    """The samples of an exposition, labels in braces."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found
