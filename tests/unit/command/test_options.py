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
                "drain-timeout": 25.0,
                "lame-duck": 0.0,
                "linger": 1.0,
                "node-id": None,
                "max-line": 1_048_576,
                "max-connections": 10_000,
                "max-in-flight": 100_000,
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
        counts = ("max-line", "max-connections", "max-in-flight")
        cases = [(name, value, "seconds from 0 to 86400") for name in seconds for value in wrong]
        cases += [(name, value, "a number from 1") for name in counts for value in (*wrong, "0", "1.5")]
        for name, value, expected in cases:
            error = self.assertRaises(SystemExit, Options().parseOptions, [f"--{name}", value])
            self.assertEqual(error.code, f"node: --{name}: expected {expected}, got {value!r}")

    def test_unknown(self) -> None:
        """So do options that do not exist, lack their value, or are no options."""
        for arguments in (["--bogus"], ["--listen"], ["extra"]):
            error = self.assertRaises(SystemExit, Options().parseOptions, arguments)
            self.assertRegex(str(error.code), r"\Anode: .+\Z")
            self.assertNotIsInstance(error, UsageError)
