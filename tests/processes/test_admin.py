"""The command with ``--admin``, as a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.admin import LOCAL, curl, figures
from tests.support.certificates import Certificates
from tests.support.lines import INIT, bodies, by_request, message
from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process, run
from tests.support.sockets import connect, read_to_end
from twisted_node._version import VERSION


class AdminProcessTests(SynchronousTestCase):
    """The command with --admin, as a process."""

    def start(self, *options: str) -> Process:
        process = Process(*RUNNERS["python"], "--admin", LOCAL, "--listen", LOCAL, *options)
        self.addCleanup(process.end)
        return process

    def test_figures_match(self) -> None:
        """What curl reads is what a client has counted."""
        process = self.start("--admin-drain")
        admin, port = process.ports(2)
        with connect(port) as client:
            for number in range(5):
                client.sendall(message("tcp_request", number))
            client.sendall(message("tcp_request", 5, latency_ms="soon") + message("tcp_nonsense", 6) + b"junk\n")
            client.sendall(message("tcp_request", 7, latency_ms=60_000) + message("tcp_drain_status", 8))
            reader = client.makefile("rb")
            for _ in range(9):
                reader.readline()
            found = figures(curl(admin, "/metrics")[1])
            self.assertEqual(found["twisted_node_requests_in_flight"], 1)
            self.assertEqual(found["twisted_node_connections"], 1)
            self.assertEqual(found["twisted_node_requests_total{outcome=ok,type=tcp_request}"], 5)
            self.assertEqual(found["twisted_node_requests_total{outcome=error,type=tcp_request}"], 1)
            self.assertEqual(found["twisted_node_requests_total{outcome=ok,type=tcp_drain_status}"], 1)
            self.assertEqual(found["twisted_node_unreadable_lines_total"], 1)
            self.assertEqual(found["twisted_node_request_duration_seconds_count{type=tcp_request}"], 6)
            self.assertEqual(curl(admin, "/drain?timeout=2", "-X", "POST")[0], 202)
            client.sendall(message("tcp_request", 9))
            late, cut = (by_request(bodies(reader.readline())).popitem() for _ in range(2))
            self.assertEqual((late[0], late[1]["error"]), (9, "server_shutting_down"))
            found = figures(curl(admin, "/metrics")[1])
            self.assertEqual(found["twisted_node_requests_total{outcome=refused,type=tcp_request}"], 1)
            self.assertEqual((cut[0], cut[1]["error"]), (7, "drain_timeout"))
            found = figures(curl(admin, "/metrics")[1])
            self.assertEqual(found["twisted_node_requests_total{outcome=cut,type=tcp_request}"], 1)
            self.assertGreater(found["twisted_node_drain_duration_seconds"], 1.99)
        self.assertEqual(process.wait(), 1)

    def test_the_last_to_go(self) -> None:
        """It answers while the server's last connection is closing, and its own clients delay nothing."""
        process = self.start("--linger", "10")
        admin, port = process.ports(2)
        with connect(port) as client, connect(admin) as idle, connect(admin) as half, connect(admin) as stream:
            stream.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            half.sendall(b"GET /liv")
            client.sendall(message("tcp_request", 1, latency_ms=300))
            self.assertEqual(curl(admin, "/readyz"), (200, "ready\n"))
            process.signal()
            self.assertEqual(by_request(bodies(read_to_end(client)))[1]["type"], "tcp_request_ok")
            # The process lingers for a client that does not close its side.
            status, text = curl(admin, "/status")
            self.assertEqual((status, json.loads(text)["phase"]), (200, "drained"))
            self.assertEqual(curl(admin, "/readyz"), (503, "drained: SIGTERM\n"))
            client.close()
            self.assertEqual(process.wait(), 0)
            events = read_to_end(stream)
            self.assertIn(b"event: ended\ndata: ", events)
            self.assertTrue(events.endswith(b"0\r\n\r\n"))
            self.assertTrue(read_to_end(idle).endswith(b"ok\n"))
            self.assertEqual(read_to_end(half), b"")

    def test_names(self) -> None:
        """A site whose own name means this machine neither sees nor drains anything; --admin-host lets a name in."""
        process = self.start("--admin-drain", "--admin-host", "node.example")
        admin, _ = process.ports(2)
        evil = f"evil.example:{admin}"
        browser = ("-H", f"Host: {evil}", "-H", f"Origin: http://{evil}", "-H", "Sec-Fetch-Site: same-origin")
        for path, method in (("/drain?timeout=0", "POST"), ("/status", "GET"), ("/", "GET"), ("/events", "GET")):
            status, body = curl(admin, path, "-X", method, *browser)
            self.assertEqual(status, 421)
            self.assertIn("--admin-host", body)
        self.assertEqual(curl(admin, "/readyz", *browser), (200, "ready\n"))
        self.assertEqual(curl(admin, "/status", "-H", "Host: node.example")[0], 200)
        self.assertEqual(curl(admin, "/status", "-H", "Host:", "--http1.0")[0], 200)
        self.assertEqual(curl(admin, "/drain", "-X", "POST", "-H", "Origin: http://[")[0], 403)
        process.signal()
        self.assertEqual(process.wait(), 0)
        self.assertNotIn("Traceback", process.log)

    def test_long_bodies(self) -> None:
        """A body that no path needs is refused before it is sent, and takes no room; the answer arrives."""
        process = self.start()
        admin, _ = process.ports(2)
        head = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n\r\n"
        for path in ("/livez", "/drain", "/nothing"):
            with connect(admin) as client:
                client.sendall(head.format(path, "Content-Length: 209715200").encode())
                self.assertTrue(read_to_end(client).startswith(b"HTTP/1.1 413 "))
            with connect(admin) as client:
                client.sendall(head.format(path, "Transfer-Encoding: chunked").encode() + b"10000\r\n" + bytes(65536))
                self.assertTrue(read_to_end(client).startswith(b"HTTP/1.1 413 "))
        self.assertEqual(curl(admin, "/livez", "-X", "POST", "-T", os.devnull)[0], 405)
        big = Path(self.mktemp())
        big.touch()
        os.truncate(big, 209_715_200)
        self.assertEqual(curl(admin, "/livez", "-X", "POST", "-T", str(big))[0], 413)
        process.signal()
        self.assertEqual(process.wait(), 0)

    def test_tls(self) -> None:
        """Over TLS it answers clients that ask for HTTP/2, as curl does, in HTTP/1.1."""
        certificates = Certificates(Path(self.mktemp()).absolute())
        admin = f"ssl:0:interface=127.0.0.1:privateKey={certificates.server}"
        process = Process(*RUNNERS["python"], "--admin", admin, "--listen", LOCAL)
        self.addCleanup(process.end)
        port = process.ports(2)[0]
        command = ["curl", "-sS", "--cacert", str(certificates.authority), f"https://127.0.0.1:{port}/livez"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        self.assertEqual((result.stdout, result.stderr), ("ok\n", ""))
        process.signal()
        self.assertEqual(process.wait(), 0)

    def test_on_standard_input(self) -> None:
        """A node on standard input can be watched too, and has its name from init.

        A drain begun by HTTP leaves it answering until input ends.
        """
        process = Process(*RUNNERS["python"], "--admin", LOCAL, "--admin-drain")
        self.addCleanup(process.end)
        before = json.loads(curl(process.port(), "/status")[1])
        self.assertEqual((before["pid"], before["version"], before["node_id"]), (process.popen.pid, VERSION, None))
        self.assertIn(f"twisted_node_info{{version={VERSION}}}", figures(curl(process.port(), "/metrics")[1]))
        process.send(INIT)
        process.read_line()
        after = json.loads(curl(process.port(), "/status")[1])
        self.assertEqual((after["pid"], after["node_id"]), (process.popen.pid, "n1"))
        self.assertGreater(after["uptime_s"], before["uptime_s"])
        found = figures(curl(process.port(), "/metrics")[1])
        self.assertIn(f"twisted_node_info{{node_id=n1,version={VERSION}}}", found)
        self.assertLess(abs(time.time() - after["uptime_s"] - found["process_start_time_seconds"]), PATIENCE)
        self.assertEqual(curl(process.port(), "/drain", "-X", "POST")[0], 202)
        self.assertEqual(curl(process.port(), "/readyz"), (503, "drained: POST /drain from 127.0.0.1\n"))
        process.send(message("tcp_drain_status", 2))
        self.assertEqual(bodies(process.read_line())[0]["status"], "drained")
        process.close_input()
        self.assertEqual(process.wait(), 0)

    def test_warning(self) -> None:
        """An endpoint that lets other machines stop the node is warned of."""
        process = Process(*RUNNERS["python"], "--admin", "tcp:0", "--admin-drain")
        self.addCleanup(process.end)
        process.wait_for_log("control endpoints that other machines can reach")
        process.close_input()
        self.assertEqual(process.wait(), 0)

    def check_refused(self, *options: str, line: str) -> None:
        result = run(*options, lines=b"")
        self.assertEqual((result.returncode, result.stdout, result.stderr.decode()), (1, b"", f"node: {line}\n"))

    def test_wrong_options(self) -> None:
        """What cannot be met is said in one line."""
        self.check_refused("--admin-drain", line="--admin-drain: needs --admin")
        unknown = "unknown kind of endpoint: 'nonsense'; expected one such as tcp:7000 or unix:/run/node"
        self.check_refused("--admin=nonsense:", line=f"--admin nonsense:: {unknown}")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run(f"--admin=tcp:{port}:interface=127.0.0.1", lines=b"")
        self.assertEqual(result.returncode, 1)
        said = rf"node: --admin tcp:{port}:interface=127.0.0.1: Address already in use\n$"
        self.assertRegex(result.stderr.decode(), said)

    def run_python(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def test_missing_extra(self) -> None:
        """Without prometheus-client, one line says which extra is missing."""
        program = "import sys; sys.modules['prometheus_client'] = None; from twisted_node import run; run()"
        result = self.run_python(program, "--admin", LOCAL)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "node: --admin: needs the admin extra: pip install 'twisted-node[admin]'\n")

    def test_not_paid_for(self) -> None:
        """Without --admin, neither twisted.web nor prometheus-client is imported, from the start to the end."""
        program = (
            "import atexit, sys; from twisted_node.command._run import run\n"
            "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
            "run()"
        )
        for options, expected in ([], False), (["--admin", LOCAL], True):
            result = self.run_python(program, *options)
            self.assertEqual(result.returncode, 0)
            imported = result.stderr.split()
            self.assertIn("twisted_node.server._service", imported)
            for name in ("twisted.web", "prometheus_client", "twisted_node.watch._admin"):
                self.assertIs(name in imported, expected, name)
