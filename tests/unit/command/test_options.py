"""Options of the command line to numbers."""

from __future__ import annotations

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.command._options import Options


class OptionsTests(SynchronousTestCase):
    """Options to numbers."""

    def test_defaults(self) -> None:
        """Without options: standard input, and the figures that the documents tell."""
        options = Options()
        options.parseOptions([])
        self.assertEqual(
            dict(options),
            {
                "listen": [],
                "control": [],
                "admin": None,
                "admin-drain": 0,
                "admin-host": [],
                "drain-timeout": 25.0,
                "lame-duck": 0.0,
                "linger": 1.0,
                "node-id": None,
                "max-line": 1_048_576,
                "max-connections": 10_000,
                "max-in-flight": 100_000,
                "max-buffered": 268_435_456,
                "idle-timeout": 0.0,
                "app": None,
            },
        )

    def test_values(self) -> None:
        """Seconds may be fractions; endpoints may be given again."""
        options = Options()
        options.parseOptions(["--drain-timeout", "2.5", "--listen", "tcp:1", "--listen", "tcp:2", "--control=unix:x"])
        self.assertEqual(options["drain-timeout"], 2.5)
        self.assertEqual((options["listen"], options["control"]), (["tcp:1", "tcp:2"], ["unix:x"]))

    def test_wrong_values(self) -> None:
        """Each option names itself and what it expects; the line is all that is said."""
        wrong = ("", "x", "-1", "nan", "inf", "1e999")
        seconds = ("drain-timeout", "lame-duck", "linger", "idle-timeout")
        counts = ("max-line", "max-connections", "max-in-flight", "max-buffered")
        cases = [(name, value, "seconds from 0 to 86400") for name in seconds for value in wrong]
        cases += [(name, value, "a number from 1") for name in counts for value in (*wrong, "0", "1.5")]
        for name, value, expected in cases:
            error = self.assertRaises(SystemExit, Options().parseOptions, [f"--{name}", value])
            self.assertEqual(error.code, f"node: --{name}: expected {expected}, got {value!r}")

    def refused(self, *arguments: str) -> str:
        """What is said of a command line."""
        code = self.assertRaises(SystemExit, Options().parseOptions, list(arguments)).code
        assert isinstance(code, str)
        self.assertRegex(code, r"\Anode: [^\n]+\Z")
        return code.removeprefix("node: ")

    def test_names(self) -> None:
        """Names that browsers may call the node by may be given again; how they are written does not matter."""
        options = Options()
        options.parseOptions(["--admin", "tcp:1", "--admin-host", "Node.Example.", "--admin-host=b:80"])
        self.assertEqual(options["admin-host"], ["node.example", "b"])
        for name in ("", "http://a", "a b", "b\xfccher.example"):
            expected = f"--admin-host: expected a host name such as node.example, got {name!r}"
            self.assertEqual(self.refused("--admin", "tcp:1", "--admin-host", name), expected)
        self.assertEqual(self.refused("--admin-host", "a"), "--admin-host: needs --admin")

    def test_empty(self) -> None:
        """What is empty, as an unset variable of a script, is refused, not left out."""
        self.assertEqual(self.refused("--admin", ""), "--admin: expected an ENDPOINT, got ''")
        for option in ("listen", "control"):
            self.assertEqual(self.refused(f"--{option}="), f"--{option}: expected an ENDPOINT, got ''")
        self.assertEqual(self.refused("--app", ""), "--app: expected MODULE:NODE, got ''")

    def test_node_id(self) -> None:
        """A node has a name that messages can carry."""
        for name in ("", "n" * 1025, "n\udcff"):
            expected = f"--node-id: expected a name of at most 1024 characters, got {name[:100]!r}"
            self.assertEqual(self.refused("--node-id", name), expected)
        for name in ("n1", "n" * 1024, "b\xfccher", " "):
            options = Options()
            options.parseOptions(["--node-id", name])
            self.assertEqual(options["node-id"], name)

    def test_words(self) -> None:
        """A word too many is named."""
        said = "'extra': not an option; an option takes one value, and one with spaces needs quotes"
        self.assertEqual(self.refused("extra"), said)
        self.assertEqual(self.refused("--linger", "1", "extra", "more"), said)

    def test_unknown(self) -> None:
        """So do options that do not exist, lack their value, or are no options."""
        for arguments in (["--bogus"], ["--listen"], ["extra"]):
            error = self.assertRaises(SystemExit, Options().parseOptions, arguments)
            self.assertRegex(str(error.code), r"\Anode: .+\Z")
            self.assertNotIsInstance(error, UsageError)
