"""The programs in the documents, so that tests can run what readers copy."""

from __future__ import annotations

import re
from typing import Any

from tests.support.paths import ROOT


def programs(name: str) -> list[str]:
    """The Python blocks of a document, in their order."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / name).read_text(), re.MULTILINE | re.DOTALL)


def namespace(name: str, word: str, **given: Any) -> dict[str, Any]:
    """Run the one block of a document that holds a word; return its names."""
    (program,) = [program for program in programs(name) if word in program]
    names = dict(given)
    exec(compile(program, name, "exec"), names)
    return names
