"""The command line: what cannot be met is one line on standard error and status 1."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Certificates
from tests.support.lines import bodies, message
from tests.support.paths import BIN, short_folder
from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process, run
from tests.support.sockets import connect

LOOPBACK = "tcp:0:interface=127.0.0.1"


class RefusalTests(SynchronousTestCase):
    """What the command refuses, as a process."""

    def check(self, runner: list[str], *options: str, says: str) -> None:
        """Run a node that cannot start; all that it says is one line."""
        result = run(*options, lines=b"", runner=runner)
        self.assertEqual(result.stderr.decode(), f"node: {says}\n")
        self.assertEqual((result.stdout, result.returncode), (b"", 1))

    def test_options(self) -> None:
        """A wrong option is one line under each runner, not the whole help."""
        for runner in RUNNERS.values():
            self.check(runner, "--bogus", says="option --bogus not recognized")
            self.check(runner, "--linger", "x", says="--linger: expected seconds from 0 to 86400, got 'x'")
            self.check(
                runner,
                "word",
                says="'word': not an option; an option takes one value, and one with spaces needs quotes",
            )
            self.check(runner, "--lame-duck", "1e10", says="--lame-duck: expected seconds from 0 to 86400, got '1e10'")

    def test_endpoints(self) -> None:
        """An endpoint that is none is one line, naming the option."""
        for options, says in (
            (["--listen", "stdio:"], "stdio: is what the node speaks when it is given no endpoint"),
            (["--control", "stdio:"], "stdio: is what the node speaks when it is given no endpoint"),
            (
                ["--listen", "nosuch:1"],
                "unknown kind of endpoint: 'nosuch'; expected one such as tcp:7000 or unix:/run/node",
            ),
            (["--listen", "7000"], "expected a kind of endpoint first: tcp:7000"),
            (["--listen", "tcp:8x07"], "expected a number, got '8x07'"),
            (
                ["--listen", "systemd:domain=INET:index=0"],
                "systemd: needs its sockets (LISTEN_FDS), and a process that stays in front",
            ),
        ):
            self.check(RUNNERS["python"], *options, says=f"{options[0]} {options[1]}: {says}")

    def test_missing_extra(self) -> None:
        """Without the tls extra, endpoints that need it name it."""
        without = "import sys; sys.modules['OpenSSL'] = None; from twisted_node.command._run import run; run()"
        for endpoint in ("ssl:0:privateKey=key.pem", "tls:example.org:tcp:0", "ssl:0:clientCA=ca.pem"):
            kind = endpoint.partition(":")[0]
            self.check(
                [sys.executable, "-c", without],
                "--listen",
                endpoint,
                says=f"--listen {endpoint}: {kind}: needs the tls extra: pip install 'twisted-node[tls]'",
            )

    def test_background(self) -> None:
        """Twistd would detach from standard input: the line says what to type, and no pidfile stays."""
        folder = Path(self.mktemp())
        folder.mkdir()
        result = subprocess.run(
            [BIN / "twistd", "node"], cwd=folder, capture_output=True, timeout=PATIENCE, check=False
        )
        self.assertEqual(
            (result.stdout, result.stderr.decode(), result.returncode),
            (
                b"",
                "node: twistd would go to the background, without standard input; type: twistd -n --pidfile= node\n",
                1,
            ),
        )
        self.assertEqual(os.listdir(folder), [])


class PortInUseTests(SynchronousTestCase):
    """A port that cannot be bound."""

    def setUp(self) -> None:
        """Use a port."""
        self.used = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.used.close)
        self.options = ["--listen", LOOPBACK, "--listen", f"tcp:{self.used.getsockname()[1]}:interface=127.0.0.1"]
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def run_in_folder(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            [*command, *self.options], cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def test_in_front(self) -> None:
        """It is one line, status 1, and no pidfile stays."""
        runners = {**RUNNERS, "twistd": [str(BIN / "twistd"), "-n", "node"]}
        for name, runner in runners.items():
            result = self.run_in_folder(*runner)
            self.assertEqual((result.returncode, result.stdout), (1, ""), name)
            said = [line for line in result.stderr.splitlines() if "node: " in line]
            self.assertEqual(len(said), 1, result.stderr)
            self.assertTrue(said[0].endswith(f"node: --listen {self.options[-1]}: Address already in use"), said[0])
            self.assertNotIn("Traceback", result.stderr)
            self.assertEqual(os.listdir(self.folder), [], name)

    def test_no_such_place(self) -> None:
        """So it is for a port or a path that cannot be, whichever option it was given to."""
        for option in ("--listen", "--control", "--admin"):
            for endpoint, says in (
                ("tcp:65536", "expected a port from 0 to 65535"),
                ("unix:/nowhere/x", "cannot write to the folder /nowhere: No such file or directory"),
            ):
                result = run(option, endpoint, lines=b"")
                self.assertEqual((result.returncode, result.stdout), (1, b""))
                # Twisted's log comes before it.
                self.assertTrue(result.stderr.decode().endswith(f"node: {option} {endpoint}: {says}\n"), result.stderr)
                self.assertNotIn(b"Traceback", result.stderr)

    def test_background(self) -> None:
        """Twistd's parent process learns of it, instead of waiting for ever for its daemon."""
        result = self.run_in_folder(str(BIN / "twistd"), "--logfile=log", "node")
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"node: --listen {self.options[-1]}: Address ", result.stderr)
        self.assertEqual(os.listdir(self.folder), ["log"])


class SocketsTests(SynchronousTestCase):
    """The command on sockets."""

    def start(self, *command: str) -> Process:
        """Start a node."""
        process = Process(*command)
        self.addCleanup(process.end)
        return process

    def test_background(self) -> None:
        """On sockets twistd may go to the background; there a signal drains too."""
        folder = short_folder(self)
        socket_path = folder / "socket"
        command = [str(BIN / "twistd"), "--logfile=log", "--pidfile=pid", "node", "--listen", f"unix:{socket_path}"]
        subprocess.run(command, cwd=folder, timeout=PATIENCE, check=True)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(os.fspath(socket_path))
            client.sendall(message("tcp_request", 2, latency_ms=200) + message("tcp_drain_status", 3))
            self.assertIn(b'"remaining": 1', client.recv(1000))
            os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
            answer = client.makefile("rb").read()
        self.assertEqual(bodies(answer)[0]["type"], "tcp_request_ok")

    def test_closed_output(self) -> None:
        """On sockets nothing is said on standard output, so it may be closed."""
        process = self.start("sh", "-c", 'exec "$@" >&-', "sh", *RUNNERS["python"], "--listen", LOOPBACK)
        with connect(process.port()) as client:
            client.sendall(message("tcp_request", 2))
            self.assertEqual(bodies(client.recv(1000))[0]["type"], "tcp_request_ok")
        process.signal()
        self.assertEqual(process.wait(), 0)

    def test_trust(self) -> None:
        """Only a control endpoint's clients may shut down; that ends a node on sockets."""
        listen, control = (["--listen", LOOPBACK], ["--control", LOOPBACK])
        process = self.start(*RUNNERS["python"], *listen)
        with connect(process.port()) as client:
            client.sendall(message("tcp_shutdown", 2))
            self.assertEqual(bodies(client.recv(1000))[0]["code"], 10)
            process.signal()
            process.wait_for_log("draining")
        self.assertEqual(process.wait(), 0)
        process = self.start(*RUNNERS["python"], *control)
        with connect(process.port()) as client:
            client.sendall(message("tcp_shutdown", 2))
            self.assertEqual(bodies(client.recv(1000))[0]["status"], "draining")
        self.assertEqual(process.wait(), 0)

    def test_reachable_control(self) -> None:
        """Control endpoints that other machines can reach without a certificate are warned of once, and no others."""
        process = self.start(*RUNNERS["python"], "--control", LOOPBACK, "--control", "tcp:0", "--control", "tcp:0")
        process.wait_for_log("control endpoints that other machines can reach, without client certificates: ")
        process.signal()
        self.assertEqual(process.wait(), 0)
        self.assertEqual(process.log.count("other machines"), 1)
        certificates = Certificates(Path(self.mktemp()).absolute())
        guarded = f"ssl:0:privateKey={certificates.server}:clientCA={certificates.authority}"
        for endpoint in (LOOPBACK, guarded):
            process = self.start(*RUNNERS["python"], "--control", endpoint)
            process.port()
            process.signal()
            self.assertEqual(process.wait(), 0)
            self.assertNotIn("other machines", process.log)

    def test_private_sockets(self) -> None:
        """Other users of the machine may connect to --listen only, unless a mode lets them; that is warned of."""
        folder = short_folder(self)
        path = {name: folder / name for name in ("listen", "control", "admin", "open", "group")}
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        process = self.start(
            *RUNNERS["python"],
            f"--listen=unix:{path['listen']}",
            f"--control=unix:{path['control']}",
            f"--control=unix:{path['group']}:mode=660",
            f"--admin=unix:{path['admin']}",
            "--admin-drain",
        )
        # The server's listeners open in this order, and --admin before them.
        process.wait_for_log("listening on .*group")
        modes = {name: stat.S_IMODE(path[name].stat().st_mode) for name in path if path[name].exists()}
        self.assertEqual(modes, {"listen": 0o666, "control": 0o600, "admin": 0o600, "group": 0o660})
        process.signal()
        self.assertEqual(process.wait(), 0)
        self.assertNotIn("every user", process.log)
        process = self.start(*RUNNERS["python"], f"--control=unix:{path['open']}:mode=666")
        process.wait_for_log("control endpoints that every user of this machine may connect to: .*open")
        process.signal()
        self.assertEqual(process.wait(), 0)


class FileLimitTests(SynchronousTestCase):
    """The limit on open files."""

    def check(self, limits: str, needed: int) -> tuple[str, str]:
        """Start a node under limits; return those that it has then, and its log."""
        options = ["--listen", LOOPBACK, "--max-connections", str(needed - 256)]
        process = Process("sh", "-c", f'ulimit {limits}; exec "$@"', "sh", *RUNNERS["python"], *options)
        self.addCleanup(process.end)
        process.port()
        text = Path(f"/proc/{process.popen.pid}/limits").read_text()
        process.signal()
        self.assertEqual(process.wait(), 0)
        return next(line for line in text.splitlines() if line.startswith("Max open files")), process.log

    def test_raised(self) -> None:
        """It is raised to what ``--max-connections`` needs."""
        limits, log = self.check("-S -n 300", 1000)
        self.assertEqual(limits.split()[3], "1000")
        self.assertNotIn("may be open", log)

    def test_too_low(self) -> None:
        """If it cannot be, it is raised as far as it goes, with a warning."""
        limits, log = self.check("-n 400", 1000)
        self.assertEqual(limits.split()[3], "400")
        self.assertEqual(log.count("only 400 files may be open"), 1)

    def test_enough(self) -> None:
        """It is left alone if it is high enough."""
        limits, log = self.check("-S -n 400", 300)
        self.assertEqual(limits.split()[3], "400")
        self.assertNotIn("may be open", log)
