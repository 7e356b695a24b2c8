"""Packages whose names are imported when somebody uses them."""

from __future__ import annotations

import sys
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from twisted_node._lazy import lazy_names


class LazyNamesTests(SynchronousTestCase):
    """A package with two names, from a module of one and a module that does not exist."""

    def setUp(self) -> None:
        self.package, self.module = ModuleType("lazy_package"), ModuleType("lazy_package.module")
        for module in (self.package, self.module):
            sys.modules[module.__name__] = module
            self.addCleanup(sys.modules.pop, module.__name__)
        self.get, self.list = lazy_names(
            "lazy_package", {"lazy_package.module": ["value"], "lazy_package.missing": ["absent"]}
        )

    def test_first_use(self) -> None:
        """A name is looked up in its module once; then it is an attribute like any other."""
        self.module.value = 5  # type: ignore[attr-defined] # a module that this test makes
        self.assertNotIn("value", vars(self.package))
        self.assertEqual(self.get("value"), 5)
        self.assertEqual(vars(self.package)["value"], 5)

    def test_unknown(self) -> None:
        """A name that is not the package's is refused as by any module."""
        error = self.assertRaises(AttributeError, self.get, "other")
        self.assertEqual(str(error), "module 'lazy_package' has no attribute 'other'")

    def test_module_cannot_be_imported(self) -> None:
        """What is wrong with its module is told as it is."""
        self.assertRaises(ModuleNotFoundError, self.get, "absent")
        self.assertNotIn("absent", vars(self.package))

    def test_list(self) -> None:
        """All names are listed in order, and nothing is imported for that."""
        self.assertEqual(self.list(), ["absent", "value"])
        self.assertNotIn("value", vars(self.package))
