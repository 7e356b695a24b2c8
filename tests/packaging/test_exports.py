"""What the package shows to its users, and what it does when it is imported."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

import twisted_node

FOLDER = Path(twisted_node.__file__).parent
ROOMS = sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)]))

#: Which rooms each of these may import; what is not named here may import any that does not lead back to it.
ARROWS = {
    "errors": set[str](),
    "phases": set[str](),
    "wire": {"errors"},
    "drain": {"collector", "errors", "phases", "waiters"},
    "closing": {"errors", "transports"},
    "transports": set(),
    "connections": {"errors", "waiters"},
    "listening": {"errors"},
    "handlers": {"errors", "names", "wire"},
    "names": set[str](),
    "waiters": set[str](),
    "endpoints": {"errors"},
}


def rooms() -> dict[str, ModuleType]:
    """The rooms; ``__main__`` runs nothing when it is imported."""
    return {name: import_module(f"twisted_node.{name}") for name in ROOMS}


def imports(name: str) -> set[str]:
    """The rooms that a room imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "twisted_node":
            found |= {f"twisted_node.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return {module.removeprefix("twisted_node.") for module in found if module.startswith("twisted_node.")}


class DoorTests(SynchronousTestCase):
    """The names at the door."""

    def test_names(self) -> None:
        """These, and no others, are what users import."""
        self.assertEqual(
            twisted_node.__all__,
            [
                "Answer",
                "Counts",
                "Drain",
                "DrainTimeout",
                "Draining",
                "DrainingService",
                "ErrorCode",
                "Fixed",
                "IDrainable",
                "MisuseError",
                "Node",
                "NodeError",
                "NodeFactory",
                "Phase",
                "PlainBody",
                "Request",
                "RequestError",
                "Statistics",
                "own_process",
                "run",
            ],
        )

    def test_nothing_else(self) -> None:
        """The door holds these names, and the rooms behind it."""
        public = {name for name in vars(twisted_node) if not name.startswith("_")}
        self.assertEqual(public - set(ROOMS), set(twisted_node.__all__))

    def test_typed(self) -> None:
        """The types are for users too."""
        self.assertTrue((FOLDER / "py.typed").exists())


class RoomTests(SynchronousTestCase):
    """Every room."""

    def test_all(self) -> None:
        """What a room lists as its own is there, once, and in order."""
        for name, room in rooms().items():
            listed = getattr(room, "__all__", [])
            self.assertEqual(len(set(listed)), len(listed), name)
            for each in listed:
                self.assertTrue(hasattr(room, each), f"{name}.{each}")

    def test_docstrings(self) -> None:
        """Everything public says what it does."""
        silent = []
        for name, room in rooms().items():
            if not room.__doc__:
                silent.append(name)
            for each in getattr(room, "__all__", []):
                thing = getattr(room, each)
                if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                    continue
                if not thing.__doc__:
                    silent.append(f"{name}.{each}")
                members = vars(thing).items() if inspect.isclass(thing) else []
                silent += [
                    f"{name}.{each}.{member}"
                    for member, value in members
                    if not member.startswith("_")
                    and (inspect.isfunction(value) or isinstance(value, property))
                    and not inspect.getdoc(getattr(thing, member))
                ]
        self.assertEqual(silent, [])

    def test_size(self) -> None:
        """No room has outgrown one job."""
        lines = {name: len((FOLDER / f"{name}.py").read_text().splitlines()) for name in ROOMS}
        self.assertEqual({name: count for name, count in lines.items() if count > 300}, {})

    def test_arrows(self) -> None:
        """The rooms below import only what is below them; the drain needs no node, no message and no transport."""
        for name, allowed in ARROWS.items():
            self.assertLessEqual(imports(name), allowed, name)

    def test_no_circles(self) -> None:
        """No room imports, by whatever way, itself."""
        arrows = {name: imports(name) for name in ROOMS}

        def below(name: str, seen: tuple[str, ...]) -> None:
            self.assertNotIn(name, seen)
            for other in arrows.get(name, set()):
                below(other, (*seen, name))

        for name in ROOMS:
            below(name, ())


class ImportTests(SynchronousTestCase):
    """What an import does to its process."""

    def test_no_reactor(self) -> None:
        """No room takes the reactor when it is imported: whoever runs it chooses which one."""
        modules = ", ".join(f"twisted_node.{name}" for name in ROOMS)
        program = f"import sys, twisted_node, {modules}; sys.exit('twisted.internet.reactor' in sys.modules)"
        subprocess.run([sys.executable, "-c", program], check=True)

    def test_drain_alone(self) -> None:
        """The drain works without the rest of the package: without a node, messages or sockets."""
        program = (
            "import sys, types\n"
            f"package = types.ModuleType('twisted_node'); package.__path__ = [{str(FOLDER)!r}]\n"
            "sys.modules['twisted_node'] = package\n"
            "from twisted_node.drain._drain import Drain\n"
            "from twisted.internet.task import Clock\n"
            "Drain(Clock()).begin(1).addCallback(lambda statistics: print(statistics.phase.value))\n"
            "print(*sorted(name for name in sys.modules if name.startswith('twisted_node.')))\n"
            "print('msgspec' in sys.modules)\n"
        )
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        rooms = ("collector", "drain", "errors", "phases", "waiters")
        self.assertEqual(said.splitlines(), ["drained", " ".join(f"twisted_node.{room}" for room in rooms), "False"])
