"""A restart that no client notices: processes take each other's place under a storm of clients."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SkipTest

from benchmarks.delay_line import FAR, DelayLine, why_not
from tests.support.handover import HandoverTestCase
from tests.support.ordinary_user import nobody
from tests.support.paths import ROOT, short_folder
from tests.support.patience import wait_until
from tests.support.processes import Process, unmeasured
from tests.support.restart_storm import RestartStorm

#: How often each server is replaced; before every second time a bad release has tried to.
REPLACEMENTS = 10


class Server:
    """A server, of which one process serves at a time.

    Args:
        test: sees to the end of its processes.
        kind: ``node`` or ``site``.
        bad: the file that makes a release a bad one.
        host: where it listens.
        before: what to put before its command.
    """

    def __init__(self, test: HandoverTestCase, kind: str, bad: Path, host: str, before: Sequence[str]) -> None:
        self.test = test
        self.bad = bad
        endpoint = f"tcp:0:interface={host}"
        self.process = test.own(
            Process(
                *before,
                *[sys.executable, "-m", "tests.support.release", kind, endpoint, "", "0", str(bad)],
                stdin=subprocess.DEVNULL,
                # Coverage would write its data as somebody who may not.
                env=unmeasured({**os.environ, "PYTHONPATH": str(ROOT)}),
                cwd=ROOT,
            )
        )
        self.pid = self.process.popen.pid
        self.port = int(self.process.wait_for_log(r"listening on \S+:(\d+)\n")[1])

    @property
    def log(self) -> str:
        """What all its processes have logged."""
        return self.process.log

    def begin_bad_release(self) -> None:
        """Have a bad release try to take over."""
        self.bad.touch()
        os.kill(self.pid, signal.SIGUSR2)

    def see_it_fail(self, number: int) -> None:
        """See that so many bad ones have failed."""
        wait_until(lambda: self.log.count(": it ended with status 1 before it was ready") == number, 60)
        self.bad.unlink()

    def replace(self) -> int:
        """Have a good release take over; return the pid of the process before it."""
        old = self.pid
        self.pid = self.test.replace(old, lambda: self.log)
        return old

    def see_end(self, pid: int) -> None:
        """See the end of a process, at which nothing was cut."""
        is_first = pid == self.process.popen.pid
        status = self.process.popen.wait(60) if is_first else self.test.wait_for_end(pid)
        self.test.assertEqual(status, 0, self.log)

    def stop(self) -> None:
        """Stop the last process."""
        os.kill(self.pid, signal.SIGTERM)
        self.see_end(self.pid)


class HandoverPromiseTests(HandoverTestCase):
    """A node and a site, replaced again and again: nobody is refused, reset, unanswered, told to go away, or late."""

    def start(self, host: str, before: Sequence[str] = ()) -> dict[str, Server]:
        folder = short_folder(self)
        # So that an ordinary user can see whether a release is bad.
        folder.chmod(0o755)
        return {kind: Server(self, kind, folder / f"bad-{kind}", host, before) for kind in ("node", "site")}

    def check(self, servers: dict[str, Server], storm: RestartStorm) -> None:
        with storm:
            for number in range(REPLACEMENTS):
                replaced = [(server, server.replace()) for server in servers.values()]
                # While the process before is a lame duck still.
                if number % 2 == 0:
                    for server in servers.values():
                        server.begin_bad_release()
                    for server in servers.values():
                        server.see_it_fail(number // 2 + 1)
                for server, pid in replaced:
                    server.see_end(pid)
            storm.check(self, "\n".join(server.log for server in servers.values()))
        for server in servers.values():
            server.stop()
            self.assertEqual(server.log.count("serves now"), REPLACEMENTS)
            self.assertEqual(server.log.count("not replaced"), REPLACEMENTS // 2)

    def test_same_machine(self) -> None:
        """Clients on the same machine."""
        servers = self.start("127.0.0.1")
        self.check(servers, RestartStorm({kind: ("127.0.0.1", server.port) for kind, server in servers.items()}))

    def test_distance(self) -> None:
        """Clients 40 ms away; the servers are an ordinary user's."""
        reason = why_not() or (None if shutil.which("setpriv") else "there is no setpriv command")
        if reason is not None:
            raise SkipTest(reason)
        with DelayLine(0.04) as line:
            servers = self.start(FAR, [*line.command("far"), *nobody()])
            addresses = {kind: (FAR, server.port) for kind, server in servers.items()}
            self.check(servers, RestartStorm(addresses, round_trip=0.04, before=line.command("near")))
