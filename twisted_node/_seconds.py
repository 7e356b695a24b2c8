"""Times that come from outside, in seconds: one way to read them, and one limit."""

from __future__ import annotations

from twisted_node.errors import MisuseError

__all__ = ["LONGEST_SECONDS", "check_seconds", "read_seconds"]

#: A day. More is taken for a mistake: the reactor cannot wait for just any time.
LONGEST_SECONDS = 86_400


def check_seconds(name: str, seconds: object, *, zero: bool = True) -> None:
    """Check an argument that is a time.

    Args:
        name: of the argument, for the error.
        seconds: the argument.
        zero: whether 0 will do.

    Raises:
        MisuseError: it is no number of seconds from 0 to a day; naming it.
    """
    if not (isinstance(seconds, (int, float)) and 0 <= seconds <= LONGEST_SECONDS and (zero or seconds)):
        raise MisuseError(f"{name}: expected {_expected(zero)}, got {seconds!r}")


def read_seconds(text: str) -> float:
    """Read a time that somebody typed.

    Args:
        text: a number of seconds from 0 to a day.

    Raises:
        ValueError: it is none; the text says what was expected.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise ValueError(f"expected {_expected(zero=True)}, got {text!r}")
    return seconds


def _expected(zero: bool) -> str:
    return f"seconds from 0 to {LONGEST_SECONDS}" if zero else f"seconds above 0, at most {LONGEST_SECONDS}"
