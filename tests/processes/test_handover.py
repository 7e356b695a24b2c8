"""A restart that no client notices: a process has another one take its place."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable

from tests.support.certificates import Certificates
from tests.support.handover import ADMIN, NODE, PROXIED_NODE, SITE, HandoverTestCase, Visitors
from tests.support.paths import BIN, ROOT, short_folder
from tests.support.patience import wait_until
from tests.support.processes import RUNNERS, Process
from tests.support.servers import SITE as SITE_PROGRAM
from tests.support.sockets import connect, connect_unix

Endpoints = list[tuple[Callable[[], socket.socket], tuple[bytes, bytes]]]


class RestartTests(HandoverTestCase):
    """Three replacements under clients that connect for each request, and then a stop: nobody is refused or reset."""

    def start(self, *command: str, **options: object) -> Process:
        """Start the first process; its log goes to standard error."""
        process = Process(*["/bin/sh", "-c", 'exec "$@" >&2', "sh"], *command, stdin=subprocess.DEVNULL, **options)
        self.addCleanup(process.end)
        return process

    def check(self, process: Process, endpoints: Endpoints) -> None:
        """Replace a process three times, and stop the last one."""
        pid = process.popen.pid
        with Visitors(endpoints) as visitors:
            wait_until(lambda: visitors.outcomes["answered"] > 20, 60)
            for number in range(3):
                successor = self.replace(pid, lambda: process.log)
                if number == 0:
                    self.assertEqual(process.wait(60), 0, process.log)
                else:
                    self.assertEqual(self.wait_for_end(pid), 0, process.log)
                pid = successor
                answered = visitors.outcomes["answered"]
                wait_until(lambda answered=answered: visitors.outcomes["answered"] > answered + 20, 60)
        self.assertEqual(set(visitors.outcomes), {"answered"}, process.log)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.wait_for_end(pid), 0, process.log)
        self.assertNotIn("Traceback", process.log)

    def check_command(self, runner: str) -> None:
        """Do so with a node that listens on every kind of endpoint."""
        folder = short_folder(self)
        certificates = Certificates(folder / "certificates")
        client = certificates.client_context()
        process = self.start(
            *RUNNERS[runner],
            *["--admin", "tcp:0:interface=127.0.0.1"],
            *["--listen", "tcp:0:interface=127.0.0.1"],
            *["--listen", "tcp:0:interface=127.0.0.1"],
            *["--listen", "haproxy:tcp:0:interface=127.0.0.1"],
            *["--listen", f"ssl:0:interface=127.0.0.1:privateKey={certificates.server}"],
            *["--control", "tcp:0:interface=127.0.0.1"],
            *["--listen", r"tcp6:0:interface=\:\:1"],
            *["--listen", f"unix:{folder}/listen"],
            *["--control", f"unix:{folder}/control"],
        )
        admin, first, second, proxied, over_tls, control = process.ports(6)
        six = int(process.wait_for_log(r"listening on \[::1\]:(\d+)")[1])
        process.wait_for_log("listening on .*/control")
        modes = [os.stat(folder / name).st_mode for name in ("listen", "control")]

        def connect_tls() -> ssl.SSLSocket:
            return client.wrap_socket(connect(over_tls), server_hostname="127.0.0.1")

        self.check(
            process,
            [
                (lambda: connect(admin), ADMIN),
                (lambda: connect(first), NODE),
                (lambda: connect(second), NODE),
                (lambda: connect(proxied), PROXIED_NODE),
                (connect_tls, NODE),
                (lambda: connect(control), NODE),
                (lambda: socket.create_connection(("::1", six)), NODE),
                (lambda: connect_unix(f"{folder}/listen"), NODE),
                (lambda: connect_unix(f"{folder}/control"), NODE),
            ],
        )
        self.assertEqual(modes[1] & 0o777, 0o600)
        self.assertEqual([path.name for path in folder.iterdir()], ["certificates"], "paths and locks are gone")

    def test_twistd(self) -> None:
        """``twistd -n``."""
        self.check_command("twistd")

    def test_twist(self) -> None:
        """``twist``."""
        self.check_command("twist")

    def test_python(self) -> None:
        """``python -m``."""
        self.check_command("python")

    def test_script(self) -> None:
        """A program that has called ``own_process``."""
        process = self.start(sys.executable, "-c", SITE_PROGRAM, "10", "25", "1", "tcp:0:interface=127.0.0.1")
        port = process.port()
        self.check(process, [(lambda: connect(port), SITE)] * 4)

    def test_tac(self) -> None:
        """A ``.tac`` under ``twistd -n``."""
        process = self.start(
            *[str(BIN / "twistd"), "-n", "--pidfile=", "-y", str(ROOT / "examples" / "site.tac")],
            env={**os.environ, "PORT": "0"},
        )
        port = process.port()
        self.check(process, [(lambda: connect(port), SITE)] * 4)

    def test_daemon(self) -> None:
        """``twistd`` in the background, with a log of its own; no line of it is lost."""
        folder = short_folder(self)
        log, path = folder / "log", folder / "socket"
        launcher = subprocess.run(
            [str(BIN / "twistd"), f"--logfile={log}", "--pidfile=", "node", "--listen", f"unix:{path}"],
            check=False,
            timeout=60,
        )
        self.assertEqual(launcher.returncode, 0)
        wait_until(lambda: log.exists() and f"listening on {path}" in log.read_text(), 60)
        pid = int(os.readlink(f"{path}.lock"))
        self.pids.append(pid)
        with Visitors([(lambda: connect_unix(str(path)), NODE)] * 3) as visitors:
            for _ in range(3):
                successor = self.replace(pid, log.read_text)
                self.assertEqual(self.wait_for_end(pid), 0, log.read_text())
                self.assertEqual(int(os.readlink(f"{path}.lock")), successor)
                pid = successor
        self.assertEqual(set(visitors.outcomes), {"answered"}, log.read_text())
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.wait_for_end(pid), 0, log.read_text())
        self.assertEqual([left.name for left in folder.iterdir()], ["log"])
        lines = log.read_text().splitlines()
        self.assertEqual([line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT", line)], [])
        self.assertEqual(sum("clean: " in line for line in lines), 4)
