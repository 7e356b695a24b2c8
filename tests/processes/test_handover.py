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
from tests.support.systemd import Systemd

#: Starts a program as systemd does, with two sockets and their names.
ACTIVATE = """
import fcntl, os, sys
first, second = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1:3])
os.dup2(first, 3)
os.dup2(second, 4)
os.environ.update(LISTEN_FDS="2", LISTEN_FDNAMES="first:second", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""

Endpoints = list[tuple[Callable[[], socket.socket], tuple[bytes, bytes]]]


class RestartTests(HandoverTestCase):
    """Three replacements under clients that connect for each request, and then a stop: nobody is refused or reset."""

    def start(self, *command: str, **options: object) -> Process:
        """Start the first process; its log goes to standard error."""
        return self.own(
            Process(*["/bin/sh", "-c", 'exec "$@" >&2', "sh"], *command, stdin=subprocess.DEVNULL, **options)
        )

    def wait_for_answers(self, visitors: Visitors) -> None:
        """Wait until some more requests have been answered."""
        enough = visitors.outcomes["answered"] + 20
        wait_until(lambda: visitors.outcomes["answered"] >= enough, 60)

    def check(self, process: Process, endpoints: Endpoints) -> None:
        """Replace a process three times, and stop the last one."""
        pid = process.popen.pid
        with Visitors(endpoints) as visitors:
            self.wait_for_answers(visitors)
            for number in range(3):
                successor = self.replace(pid, lambda: process.log)
                if number == 0:
                    self.assertEqual(process.popen.wait(60), 0, process.log)
                else:
                    self.assertEqual(self.wait_for_end(pid), 0, process.log)
                pid = successor
                self.wait_for_answers(visitors)
            self.assertEqual(set(visitors.outcomes), {"answered"}, process.log)
            os.kill(pid, signal.SIGTERM)
            self.assertEqual(self.wait_for_end(pid), 0, process.log)
        self.assertNotIn("Traceback", process.log)
        # Refused, by the kernel or in so many words, they may be now, but not reset, nor left without a word.
        lost = [how for how in visitors.outcomes if how.startswith("ConnectionReset") or how == "unanswered (b'')"]
        self.assertEqual(lost, [], process.log)

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

    def test_nohup(self) -> None:
        """What the first process was started to ignore, its successors ignore too: the end of the terminal, say."""
        process = self.start(
            *["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh"],
            *[sys.executable, "-c", SITE_PROGRAM, "10", "25", "1", "tcp:0:interface=127.0.0.1"],
        )
        process.port()
        pid = process.popen.pid
        for _ in range(2):
            pid = self.replace(pid, lambda: process.log)
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(self.wait_for_end(pid), 0, process.log)
        self.assertIn("SIGTERM", process.log)
        self.assertNotIn("SIGHUP", process.log)

    def test_tac(self) -> None:
        """A ``.tac`` under ``twistd -n``."""
        process = self.start(
            *[str(BIN / "twistd"), "-n", "--pidfile=", "-y", str(ROOT / "examples" / "site.tac")],
            env={**os.environ, "PORT": "0"},
        )
        port = process.port()
        self.check(process, [(lambda: connect(port), SITE)] * 4)

    def test_systemd(self) -> None:
        """Sockets that came from systemd are handed on in their places, and are left to systemd at the end."""
        folder = short_folder(self)
        systemd = Systemd(str(folder / "notify"))
        self.addCleanup(systemd.socket.close)
        with (
            socket.create_server(("127.0.0.1", 0), backlog=100) as first,
            socket.create_server(("127.0.0.1", 0), backlog=100) as second,
        ):
            process = self.start(
                *[sys.executable, "-c", ACTIVATE, str(first.fileno()), str(second.fileno())],
                *RUNNERS["python"],
                *["--listen", "systemd:domain=INET:name=second"],
                *["--control", f"unix:{folder}/control"],
                pass_fds=[first.fileno(), second.fileno()],
                env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            )
            port = second.getsockname()[1]
            process.wait_for_log("listening on .*/control")
            self.check(process, [(lambda: connect(port), NODE), (lambda: connect_unix(f"{folder}/control"), NODE)])
            socket.create_connection(second.getsockname()).close()
        told = systemd.receive_all()
        self.assertEqual([path.name for path in folder.iterdir()], ["notify"])
        words = [word for message in told for word in message if word in ("READY", "MAINPID", "STOPPING")]
        self.assertEqual(words, ["READY", *["MAINPID", "READY"] * 3, "STOPPING"])

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
