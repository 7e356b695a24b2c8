"""From options to a service, for ``twistd node``, ``twist node`` and ``python -m twisted_node``."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_node.command._endpoints import is_local, is_open_to_all_users, server_endpoint, wants_client_certificates
from twisted_node.command._loading import load_node
from twisted_node.command._options import Options
from twisted_node.drain import Drain, Statistics, settle_collector
from twisted_node.errors import MisuseError
from twisted_node.node import Node, NodeFactory
from twisted_node.node._about import answer_about_drain, answer_restart, answer_statistics
from twisted_node.node._framing import HalfLines
from twisted_node.node._standard_io import StandardStreams, StandardStreamsFactory
from twisted_node.node._streams import free_standard_output, take_standard_streams
from twisted_node.node._workload import answer_requests
from twisted_node.process import own_process, own_process_promptly
from twisted_node.server import DrainingService
from twisted_node.server._listening import Listener
from twisted_node.watch import Notifier

if TYPE_CHECKING:
    # At run time it needs the admin extra.
    from twisted_node.watch import Admin

__all__ = ["Options", "makeService"]

_log = Logger()

#: Open files besides the clients' connections: listeners, control, admin, connections that are being refused, logs.
_OTHER_FILES = 256


def makeService(options: Options) -> IService:
    """Make the service; the process ends when it ends.

    Args:
        options: the command line, parsed.

    Raises:
        SystemExit: what the options ask for cannot be done; with one line that says why.
    """
    from twisted.internet import reactor

    try:
        return _make_service(options, reactor)
    except MisuseError as error:
        raise SystemExit(f"node: {error}") from None


def _make_service(options: Options, reactor: Any) -> IService:
    on_sockets = bool(options["listen"] or options["control"])
    server = DrainingService(
        Drain(reactor),
        drain_timeout=options["drain-timeout"],
        lame_duck=options["lame-duck"],
        linger=options["linger"],
        ends_with_drain=on_sockets,
    )
    notifier = Notifier.from_environment(server)
    # Before somebody's module is imported: it may print something.
    if on_sockets:
        free_standard_output()
        streams = None
    else:
        streams = _take_streams(options, reactor)
    node = _make_node(server, options, on_sockets)
    node.bind(server.drain, max_in_flight=options["max-in-flight"])
    admin = _make_admin(server, node, options, reactor) if options["admin"] else None
    controls: list[Listener] = []
    if admin is not None and options["admin-drain"] and not wants_client_certificates(options["admin"]):
        controls.append(admin.listener)
    if streams is None:
        controls += _listen(server, node, options, reactor)
    else:
        server.listen(streams, StandardStreamsFactory(node, server.end, max_line=options["max-line"]))
    # What an app has opened is to be closed by Python.
    (own_process_promptly if options["app"] is None else own_process)(server, reactor)
    reactor.callWhenRunning(settle_collector)
    return NodeService(server, admin=admin, notifier=notifier, open_controls=controls)


def _make_node(server: DrainingService, options: Options, on_sockets: bool) -> Node:
    app = options["app"]
    if app is None:
        node = Node()
        answer_requests(node)
    else:
        node = app if isinstance(app, Node) else load_node(app)
    try:
        answer_about_drain(node, server)
        answer_statistics(node, server)
        answer_restart(node, server)
    except MisuseError as error:
        named = f"--app {app}: " if isinstance(app, str) else ""
        raise MisuseError(f"{named}{error}; every node answers that by itself") from None
    node_id = options["node-id"] or node.node_id or ("n1" if on_sockets else None)
    if node_id is not None:
        node.node_id, node.node_ids = node_id, (node_id,)
    return node


def _make_admin(server: DrainingService, node: Node, options: Options, reactor: Any) -> Admin:
    try:
        from twisted_node.watch import Admin, Metrics
    except ImportError:
        raise MisuseError("--admin: needs the admin extra: pip install 'twisted-node[admin]'") from None
    endpoint = server_endpoint(reactor, options["admin"], "--admin", private=True)
    metrics = Metrics(server)
    metrics.watch(node)
    may_drain, hosts = bool(options["admin-drain"]), options["admin-host"]
    return Admin(server, endpoint, metrics, may_drain=may_drain, hosts=hosts)


def _listen(server: DrainingService, node: Node, options: Options, reactor: Any) -> list[Listener]:
    """Listen for clients; return the control listeners that let in clients without certificates."""
    limits = {
        "max_line": options["max-line"],
        "idle_timeout": options["idle-timeout"],
        "half_lines": HalfLines(options["max-buffered"]),
    }
    clients = NodeFactory(node, max_connections=options["max-connections"], **limits)
    control = NodeFactory(node, control=True, **limits)
    open_controls = []
    for description in options["listen"]:
        server.listen(server_endpoint(reactor, description, "--listen"), clients)
    for description in options["control"]:
        endpoint = server_endpoint(reactor, description, "--control", private=True)
        listener = server.listen(endpoint, control)
        if not wants_client_certificates(description):
            open_controls.append(listener)
    _raise_file_limit(options["max-connections"] + _OTHER_FILES)
    return open_controls


def _take_streams(options: Options, reactor: Any) -> StandardStreams:
    parent = options.parent
    if parent is not None and "nodaemon" in parent and not parent["nodaemon"]:
        raise MisuseError("twistd would go to the background, without standard input; type: twistd -n --pidfile= node")
    return StandardStreams(reactor, *take_standard_streams())


def _raise_file_limit(needed: int) -> None:
    soft, hard = (
        math.inf if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    if soft >= needed:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(min(needed, hard)), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if hard < needed:
        _log.warn(
            "only {hard} files may be open: too few for --max-connections, which needs {needed}",
            hard=hard,
            needed=needed,
        )


class _CannotStart(SystemExit, Exception):
    """Ends the process with one line and status 1.

    It is an Exception too: only for these does twistd remove its pidfile, and does a daemon tell its parent process.
    """


@contextmanager
def _start_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _CannotStart(f"node: {error}") from None


class NodeService(Service):
    """What the command runs: the server, and what belongs to it. Errors of its start are one line.

    Args:
        server: ends the other parts when it ends.
        admin: is started before the server, so that it can tell that the server has not started.
        notifier: is started after the server, so that it can tell that the server is ready.
        open_controls: listeners without client certificates whose clients may begin a drain; those that other machines
            or other users can reach are warned of.
    """

    def __init__(
        self,
        server: DrainingService,
        *,
        admin: Service | None = None,
        notifier: Service | None = None,
        open_controls: Iterable[Listener] = (),
    ) -> None:
        self._server = server
        self._parts = [part for part in (admin, server, notifier) if part is not None]
        self._open_controls = tuple(open_controls)

    def privilegedStartService(self) -> None:
        """Listen on what may need a privilege; raises what :meth:`startService` does."""
        super().privilegedStartService()
        with _start_errors():
            for part in self._parts:
                part.privilegedStartService()

    def startService(self) -> None:
        """Listen.

        Raises:
            SystemExit: a port cannot be bound.
        """
        super().startService()
        with _start_errors():
            for part in self._parts:
                part.startService()
        hosts = [listener.host for listener in self._open_controls]
        exposed = [str(host) for host in hosts if not is_local(host)]
        open_to_all = [str(host) for host in hosts if is_open_to_all_users(host)]
        if exposed:
            _log.warn(
                "control endpoints that other machines can reach, without client certificates: {exposed}",
                exposed=", ".join(exposed),
            )
        if open_to_all:
            _log.warn(
                "control endpoints that every user of this machine may connect to: {open_to_all}",
                open_to_all=", ".join(open_to_all),
            )

    def stopService(self) -> Deferred[Statistics]:
        """Drain and end; fires with the final statistics."""
        super().stopService()
        return self._server.stopService()
