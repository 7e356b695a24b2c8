"""Two nodes, and two sites, behind a real HAProxy, restarted in turn: no client is refused, cut, told or very late."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support import haproxy
from tests.support.paths import ROOT, short_folder
from tests.support.processes import Process, unmeasured
from tests.support.restart_storm import RestartStorm
from tests.support.servers import ServerTestCase

#: How often a server of each kind is stopped and started again.
RESTARTS = 6

#: What docs/operating.md says goes with its configuration.
LAME_DUCK = 3


class HaproxyTests(ServerTestCase):
    """HAProxy as docs/operating.md says; servers that are stopped by SIGTERM, and then started."""

    def serve(self, kind: str, host: str, port: int, admin: int) -> Process:
        """Start a node or a site."""
        endpoints = [f"tcp:{port}:interface={host}", f"tcp:{admin}:interface={host}"]
        process = Process(
            *[sys.executable, "-m", "tests.support.release", kind, *endpoints, str(LAME_DUCK), "/nonexistent"],
            stdin=subprocess.DEVNULL,
            env=unmeasured(os.environ),
            cwd=ROOT,
        )
        self.addCleanup(process.end)
        return process

    def test_restarts_in_turn(self) -> None:
        """JSON lines in mode tcp, and HTTP in mode http."""
        node, site, node_admin, site_admin, node_front, site_front = haproxy.fixed_ports(6)
        ports = {"node": (node, node_admin), "site": (site, site_admin)}
        # The document's two machines are two addresses of this one.
        servers = {
            (kind, number): self.serve(kind, f"127.0.0.{number}", *ports[kind]) for kind in ports for number in (1, 2)
        }
        for server in servers.values():
            server.ports(2)
        balancer = haproxy.start(
            short_folder(self),
            {"nodes": ("tcp", node_front), "sites": ("http", site_front)},
            {
                "10.0.0.": "127.0.0.",
                ":7000": f":{node}",
                ":7001": f":{site}",
                "port 8080": f"port {node_admin}",
                "port 8081": f"port {site_admin}",
            },
        )
        self.addCleanup(balancer.end)
        logs: list[str] = []
        with RestartStorm({"node": ("127.0.0.1", node_front), "site": ("127.0.0.1", site_front)}) as storm:
            for restart in range(RESTARTS):
                number = restart % 2 + 1
                stopped = {kind: servers[kind, number] for kind in ports}
                for process in stopped.values():
                    process.signal()
                for kind, process in stopped.items():
                    self.assertEqual(process.wait(60), 0, process.log)
                    logs.append(process.log)
                    servers[kind, number] = self.serve(kind, f"127.0.0.{number}", *ports[kind])
                for kind in ports:
                    haproxy.wait_for_up(balancer, f"{kind}s/{kind[0]}{number}", restart // 2 + 1)
            storm.check(self, "\n".join([balancer.log, *logs]))
