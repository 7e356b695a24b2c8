"""The documents: what they show is run, and what they say there is, is there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.paths import BIN, ROOT
from tests.support.processes import run_to_end
from twisted_node.command._options import Options

#: All that users and contributors read.
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: To a file or a section of ours.
_LINK = re.compile(r"\]\(([^):]+)\)")


def blocks(document: str, language: str) -> Iterator[str]:
    """The fenced blocks of a document, in one language."""
    for found in _FENCED.finditer((ROOT / document).read_text()):
        if found[1] == language:
            yield found[2]


def sections(document: Path) -> list[str]:
    """Name the sections of a document as links do."""
    titles = re.findall(r"(?m)^#+ (.*)$", document.read_text())
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


class SessionsTests(SynchronousTestCase):
    """Sessions: a command, what is typed, and what it prints."""

    def check(self, session: str) -> None:
        """Run one session and compare what it prints."""
        first, *lines = session.splitlines()
        typed, printed = [], []
        for line in lines:
            # Marked, or else told apart by the spaces that only the node writes.
            if line.startswith(("> ", '{"src":"')):
                typed.append(line.removeprefix("> "))
            else:
                printed.append(line.removeprefix("< "))
        result = run_to_end(
            ["sh", "-c", first.removeprefix("$ ")],
            input="".join(line + "\n" for line in typed),
            cwd=ROOT,
            # What make sets for its children would have make say where it is.
            env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "MAKEFLAGS": "", "MAKELEVEL": ""},
        )
        self.assertEqual(self.timeless(result.stdout.splitlines()), self.timeless(printed), f"{first}\n{result.stderr}")

    def timeless(self, lines: list[str]) -> list[str]:
        """Leave out what no two runs have in common."""
        return [re.sub(r'"took_ms": \d+', '"took_ms": ...', line) for line in lines]

    def test_readme(self) -> None:
        """The sessions of the README."""
        sessions = list(blocks("README.md", "console"))
        self.assertEqual([session.partition("\n")[0] for session in sessions][:1], ["$ make run"])
        for session in sessions:
            self.check(session)

    def test_protocol(self) -> None:
        """Each message of the protocol's description."""
        sessions = list(blocks("docs/protocol.md", "console"))
        for type_ in ("init", "tcp_request", "tcp_shutdown", "tcp_drain_status"):
            self.assertTrue(any(f'"type": "{type_}"' in session for session in sessions), type_)
        for session in sessions:
            self.check(session)


class ReadmeTests(SynchronousTestCase):
    """The rest of the README."""

    def test_your_server(self) -> None:
        """The extract of a drained server is that of docs/web.md, which is run."""
        (extract,) = re.findall(r"(?m)(?:^    .*\n)+(?=\nStopped by)", (ROOT / "README.md").read_text())
        self.assertIn(re.sub(r"(?m)^    ", "", extract), next(blocks("docs/web.md", "python")))

    def test_programs(self) -> None:
        """The drain in ten lines is the example of that name, which its session runs."""
        (program,) = blocks("README.md", "python")
        _, _, code = (ROOT / "examples" / "ten_lines.py").read_text().partition('"""\n\n')
        self.assertEqual(program, code)
        self.assertLessEqual(len([line for line in code.splitlines() if line]), 12)

    def test_options(self) -> None:
        """Every option is in the table, with its default."""
        rows = re.findall(r"^\| `--([a-z-]+)[^`]*` \| (.*?) ?\|", (ROOT / "README.md").read_text(), re.MULTILINE)
        told = {name: default or None for name, default in rows}
        defaults = {name: default for name, _, default, _ in Options.optParameters}
        defaults |= {name: default for name, default, _ in Options.optFlags}
        self.assertEqual(told, {**defaults, "listen": None, "control": None, "admin-host": None})


class AllTests(SynchronousTestCase):
    """Every document."""

    def test_links(self) -> None:
        """Links to files lead to files, and those to a section lead to one."""
        for document in DOCUMENTS:
            for file, _, section in (link.partition("#") for link in _LINK.findall(document.read_text())):
                target = document.parent / file if file else document
                self.assertTrue(target.exists(), f"{document.name}: {file}")
                if section:
                    self.assertIn(section, sections(target), document.name)

    def test_width(self) -> None:
        """Prose is wrapped at 120 columns; tables and what is typed are not."""
        for document in DOCUMENTS:
            prose = _FENCED.sub("", document.read_text())
            wide = [line for line in prose.splitlines() if len(line) > 120 and not line.startswith(("|", "    "))]
            self.assertEqual(wide, [], document.name)
