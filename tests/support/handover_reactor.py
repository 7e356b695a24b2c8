"""A reactor in memory, as far as a handover needs one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess, IReactorSocket
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from twisted_node.handover import _inheritance, _line, _supervisors
from twisted_node.handover._start import Start
from twisted_node.server import _handover, _listening

#: How a process was started that anybody may take the place of.
START = Start(
    pid=100,
    parent=99,
    executable="/bin/python",
    arguments=("python", "-m", "program"),
    folder="/srv",
    environment={b"PATH": b"/bin"},
)


def let_be_replaced(case: SynchronousTestCase) -> None:
    """Have this process be one, as far as services know, that anybody may take the place of, until the test is over."""
    case.patch(_line, "_kept", set())
    case.patch(_listening, "_listeners", WeakSet())
    case.patch(_inheritance, "inherited", _inheritance.Inheritance())
    case.patch(_handover, "START", START)
    case.patch(_supervisors, "own_pidfile", lambda: None)
    case.addCleanup(_line.close_lines)


class MemoryProcess:
    """A process that was started."""

    pid = 4321

    def __init__(self, protocol: Any, arguments: list[bytes], environment: Mapping[bytes, bytes], path: bytes) -> None:
        self.protocol, self.arguments, self.environment, self.path = protocol, arguments, environment, path
        self.killed = False
        self.has_ended = False
        #: Which file each descriptor is.
        self.inodes: dict[int, int] = {}

    def signalProcess(self, name: str) -> None:
        if self.has_ended:
            raise ProcessExitedAlready
        self.killed = True

    def end(self, status: int = 0, signal: int | None = None) -> None:
        """Have it end."""
        self.has_ended = True
        reason = ProcessTerminated(status, signal) if status or signal else ProcessDone(0)
        self.protocol.processExited(Failure(reason))


class HandoverReactor(Clock):
    """Starts processes, and serves lines, that a test looks at."""

    def __init__(self) -> None:
        super().__init__()
        # As much of them as a handover needs.
        directlyProvides(self, IReactorProcess, IReactorSocket)
        self.processes: list[MemoryProcess] = []
        self.lines: list[StringTransportWithDisconnection] = []
        self.cannot_start: OSError | None = None

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Factory) -> None:
        transport = StringTransportWithDisconnection()
        protocol: Any = factory.buildProtocol(None)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.lines.append(transport)

    def callWhenRunning(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        function(*arguments, **options)

    def spawnProcess(
        self,
        protocol: Any,
        executable: bytes,
        arguments: list[bytes],
        environment: Mapping[bytes, bytes],
        path: bytes,
        *,
        childFDs: Mapping[int, int],
    ) -> MemoryProcess:
        if self.cannot_start is not None:
            raise self.cannot_start
        process = MemoryProcess(protocol, arguments, environment, path)
        process.inodes = {number: os.fstat(descriptor).st_ino for number, descriptor in childFDs.items()}
        self.processes.append(process)
        return process

    def hear(self, *lines: bytes) -> None:
        """Say something at the other end of the newest line."""
        self.lines[-1].protocol.dataReceived(b"".join(line + b"\n" for line in lines))

    def said(self, line: int = -1) -> list[bytes]:
        """What was said on a line, the newest one by default, since the last time."""
        said: list[bytes] = self.lines[line].value().splitlines()
        self.lines[line].clear()
        return said

    def lose_line(self) -> None:
        """End the newest line."""
        if self.lines[-1].connected:
            self.lines[-1].loseConnection()
