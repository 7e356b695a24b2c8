"""What is wrong with an ENDPOINT string, or with what it names, in one line that its writer understands."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from twisted.internet.error import CannotListenError

__all__ = ["explain"]

#: The parts of a string that name files of certificates or keys.
_PEM_FILES = ("privateKey=", "certKey=", "clientCA=", "extraCertChain=", "dhParameters=")
_COLON = r"a colon within a part is written \:"

#: Errors of Twisted's parsers that name what the writer has never heard of, and what to say instead.
_PLAIN_WORDS = (
    # The name of the parser's function.
    (r"\S+\(\) (.+)", r"\1"),
    (r"takes .* positional arguments? but .*", f"too many parts; {_COLON}"),
    (r"got multiple values for argument ('.*')", rf"\1 is given twice; {_COLON}"),
    (r"missing 1 required positional argument: '(.*)'", r"\1 is missing"),
    (r"missing \d+ required positional arguments: (.*)", r"\1 are missing"),
    (r"got an unexpected keyword argument ('.*')", r"\1= is no part of such an endpoint"),
    (r"invalid literal for int\(\) with base 10: (.*)", r"expected a number, got \1"),
    (r"invalid literal for int\(\) with base 8: (.*)", r"expected a mode such as 660, got \1"),
    # The second is what older Pythons say of a number beyond a C integer.
    (r"bind\(\): port must be 0-65535\.?", "expected a port from 0 to 65535"),
    (r"Python int too large to convert to C long", "expected a port from 0 to 65535"),
    (r"module 'socket' has no attribute 'AF_(.*)'", r"domain: expected INET, INET6 or UNIX, got '\1'"),
    (r"module 'OpenSSL.SSL' has no attribute ('.*')", r"sslmethod: OpenSSL has no \1"),
)


def explain(error: Exception, parts: Sequence[str], *, client: bool = False) -> str:
    """Say in one line why an endpoint cannot be made, or cannot be used.

    Args:
        error: of Twisted, OpenSSL or the system.
        parts: of the ENDPOINT string; the first one is its kind.
        client: whether the endpoint connects, instead of listening.
    """
    if isinstance(error, CannotListenError):
        return _listen_words(error.socketError)
    if type(error).__module__.startswith("OpenSSL"):
        return _pem_words(error, parts)
    if isinstance(error, OSError) and error.filename2 is not None:
        # The lock, a link that Twisted makes beside a unix socket.
        folder = os.path.dirname(os.fsdecode(error.filename2)) or os.curdir
        return f"cannot write to the folder {folder}: {error.strerror}"
    if isinstance(error, IndexError) and parts[0] == "systemd":
        return "systemd: needs its sockets (LISTEN_FDS), and a process that stays in front"
    if str(error).startswith("Unknown endpoint type"):
        return _unknown_words(parts, client)
    text = " ".join(str(error).split())
    for pattern, words in _PLAIN_WORDS:
        text = re.sub(rf"\A{pattern}\Z", words, text)
    return text or repr(error)


def _listen_words(reason: Exception | str) -> str:
    """Say why the system does not let us listen; the endpoint is named already."""
    if isinstance(reason, OSError):
        return reason.strerror or str(reason)
    # Twisted's own reason: the lock of a unix socket is held.
    return "another process listens there"


def _pem_words(error: Exception, parts: Sequence[str]) -> str:
    """Name the files: OpenSSL says only what it tried last."""
    files = [part.partition("=")[2] for part in parts if part.startswith(_PEM_FILES)] or ["server.pem"]
    # Each of OpenSSL's errors is a library, a function and a reason.
    reasons = [error_[-1] for error_ in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    text = ", ".join(reasons) or "OpenSSL does not say why"
    return f"no usable certificate and key, in PEM, in {' and '.join(files)} ({text})"


def _unknown_words(parts: Sequence[str], client: bool) -> str:
    """Guess what was meant by a string without a kind: a port, a host and a port, or a path."""
    kind, port = parts[0], parts[-1]
    meant = ""
    if "/" in kind:
        meant = f"unix:{kind}"
    elif port.isdecimal() and len(parts) <= 2:
        if kind in (port, ""):
            meant = f"tcp:localhost:{port}" if client else f"tcp:{port}"
        elif kind == "localhost" or "." in kind:
            meant = f"tcp:{kind}:{port}" if client else f"tcp:{port}:interface={kind}"
    if meant:
        return f"expected a kind of endpoint first: {meant}"
    example = "tcp:localhost:7001" if client else "tcp:7000"
    return f"unknown kind of endpoint: {kind!r}; expected one such as {example} or unix:/run/node"
