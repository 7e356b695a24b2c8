"""What the package shows to its users, and what it does when it is imported.

Which package may import which is checked by import-linter: its contracts are in pyproject.toml.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import pydoc
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

import twisted_node

FOLDER = Path(twisted_node.__file__).parent

FOUND = list(pkgutil.walk_packages([str(FOLDER)], "twisted_node."))
#: Every module by its full name; ``__main__`` runs nothing when it is imported.
MODULES = {name: import_module(name) for name in ("twisted_node", *(module.name for module in FOUND))}
PACKAGES = {name: MODULES[name] for name in ("twisted_node", *(module.name for module in FOUND if module.ispkg))}


def source(module: ModuleType) -> str:
    """The text of a module."""
    return Path(str(module.__file__)).read_text()


def lazy_mapping(tree: ast.Module) -> dict[str, list[str]] | None:
    """What a package says to ``lazy_names``: for each module, its names. None if it does not call it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lazy_names":
            mapping: dict[str, list[str]] = ast.literal_eval(node.args[1])
            return mapping
    return None


def typed_mapping(tree: ast.Module) -> dict[str, list[str]]:
    """The same as a package's ``if TYPE_CHECKING`` says it."""
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {str(node.module): [alias.name for alias in node.names] for node in imports}


LAZY = {name: tree for name, module in PACKAGES.items() if lazy_mapping(tree := ast.parse(source(module))) is not None}


class DoorTests(SynchronousTestCase):
    """The names that users import from the package itself."""

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
                "HandoverError",
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

    def test_typed(self) -> None:
        """The types are for users too."""
        self.assertTrue((FOLDER / "py.typed").exists())


class PackageTests(SynchronousTestCase):
    """Every package."""

    def test_public_names(self) -> None:
        """``dir`` of a package shows the names that it lists as public, the packages below it, and nothing else."""
        modules = {module.name for module in FOUND}
        for name, package in PACKAGES.items():
            shown = {each for each in dir(package) if not each.startswith("_") and f"{name}.{each}" not in modules}
            self.assertEqual(shown, set(package.__all__), name)

    def test_lazy_dir(self) -> None:
        """``dir`` of a lazy package shows its public names and nothing else, whatever has been imported."""
        for name in LAZY:
            self.assertEqual(dir(PACKAGES[name]), sorted(PACKAGES[name].__all__), name)

    def test_help(self) -> None:
        """``help`` of a package describes each of its public names."""
        for name, package in PACKAGES.items():
            text = pydoc.plain(pydoc.render_doc(package))
            for each in package.__all__:
                self.assertRegex(text, rf"(?m)^    (class )?{each}\b", name)

    def test_lazy_names(self) -> None:
        """What a lazy package imports on demand, what it tells type checkers, and its ``__all__`` agree."""
        self.assertEqual(set(LAZY), {"twisted_node", "twisted_node.watch"})
        for name, tree in LAZY.items():
            mapping = lazy_mapping(tree) or {}
            self.assertEqual(
                {module: sorted(names) for module, names in mapping.items()},
                {module: sorted(names) for module, names in typed_mapping(tree).items()},
            )
            self.assertEqual(
                sorted(each for names in mapping.values() for each in names), sorted(PACKAGES[name].__all__)
            )

    def test_unknown_name(self) -> None:
        """A name that a lazy package does not have is an AttributeError like any other."""
        for name in LAZY:
            error = self.assertRaises(AttributeError, getattr, PACKAGES[name], "nothing")
            self.assertEqual(str(error), f"module '{name}' has no attribute 'nothing'")

    def test_private_modules(self) -> None:
        """Every module inside a package is private: users import from the package."""
        inside = [name for name in MODULES if name not in PACKAGES and name.count(".") > 1]
        self.assertEqual([name for name in inside if not name.rpartition(".")[2].startswith("_")], [])


class ModuleTests(SynchronousTestCase):
    """Every module."""

    def test_all(self) -> None:
        """What a module lists as its own is there, once."""
        for name, module in MODULES.items():
            listed = getattr(module, "__all__", [])
            self.assertEqual(len(set(listed)), len(listed), name)
            for each in listed:
                self.assertTrue(hasattr(module, each), f"{name}.{each}")

    def test_docstrings(self) -> None:
        """Everything public says what it does."""
        silent = []
        for name, module in MODULES.items():
            if not module.__doc__:
                silent.append(name)
            for each in getattr(module, "__all__", []):
                thing = getattr(module, each)
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
        """No module has outgrown one job."""
        lines = {name: len(source(module).splitlines()) for name, module in MODULES.items()}
        self.assertEqual({name: count for name, count in lines.items() if count > 300}, {})


#: All that the drain may know of Twisted: Deferreds, clocks, the log. import-linter tells no parts of Twisted apart.
KNOWN_TO_THE_DRAIN = {
    *("twisted.internet.base", "twisted.internet.defer", "twisted.internet.interfaces", "twisted.internet.task"),
    *("twisted.logger", "twisted.python.failure"),
}


class ImportTests(SynchronousTestCase):
    """What an import does to its process."""

    def test_drain_knows_no_transport(self) -> None:
        """No module of the drain imports a reactor, a transport or a service, not even inside of a function."""
        known: set[str] = set()
        for name, module in MODULES.items():
            for node in ast.walk(ast.parse(source(module))) if name.startswith("twisted_node.drain") else ():
                if isinstance(node, ast.Import):
                    known.update(each.name for each in node.names)
                elif isinstance(node, ast.ImportFrom):
                    known.add(str(node.module))
        self.assertEqual({name for name in known if name.startswith("twisted.")}, KNOWN_TO_THE_DRAIN)

    def test_no_reactor(self) -> None:
        """No module takes the reactor when it is imported: whoever runs it chooses which one."""
        program = f"import sys, {', '.join(MODULES)}; sys.exit('twisted.internet.reactor' in sys.modules)"
        subprocess.run([sys.executable, "-c", program], check=True)

    def test_drain_alone(self) -> None:
        """The drain works without the rest of the package: without a node, messages, sockets or a service."""
        program = (
            "import sys\n"
            "from twisted_node import Drain\n"
            "from twisted.internet.task import Clock\n"
            "Drain(Clock()).begin(1).addCallback(lambda statistics: print(statistics.phase.value))\n"
            "print(*sorted(sys.modules))\n"
        )
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        phase, loaded = said.splitlines()
        self.assertEqual(phase, "drained")
        ours = {name.partition(".")[2] for name in loaded.split() if name.startswith("twisted_node.")}
        others = {name for name in ours if name != "drain" and not name.startswith("drain.")}
        self.assertLessEqual(others, {"_lazy", "_seconds", "_typing", "errors", "names"})
        for absent in ("msgspec", "twisted.application.service", "twisted.internet.tcp", "twisted.web"):
            self.assertNotIn(absent, loaded.split())
