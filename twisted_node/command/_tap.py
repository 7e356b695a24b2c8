"""From options to a service: what ``twistd node``, ``twist node`` and ``python -m twisted_node`` have in common."""

from __future__ import annotations

import math
import resource
from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python import usage

from twisted_node.command._endpoints import is_local, server_endpoint, wants_client_certificates
from twisted_node.command._loading import load_node
from twisted_node.drain import Drain
from twisted_node.drain._collector import settle_collector
from twisted_node.errors import MisuseError
from twisted_node.node._about import answer_about_drain, answer_statistics
from twisted_node.node._node import Node
from twisted_node.node._protocol import DEFAULT_MAX_LINE, NodeFactory
from twisted_node.node._standard_io import (
    StandardStreams,
    StandardStreamsFactory,
    free_standard_output,
    take_standard_streams,
)
from twisted_node.node._workload import answer_requests
from twisted_node.process import own_process
from twisted_node.server._listening import Listener
from twisted_node.server._service import DrainingService
from twisted_node.watch._systemd import Notifier

__all__ = ["Options", "makeService"]

_log = Logger()

#: Open files besides the connections that clients may have: listeners, control, admin, those being refused, logs.
_OTHER_FILES = 256

_SECONDS = ("drain-timeout", "lame-duck", "linger", "idle-timeout")
#: A day, in seconds: the reactor cannot wait for just any time.
_LONGEST = 86_400
_COUNTS = ("max-line", "max-connections", "max-in-flight")


class Options(usage.Options):
    """The command line."""

    synopsis = "[options]"
    longdesc = "A node that speaks one JSON message a line, on standard input or on sockets, and drains when stopped."

    optParameters = [  # noqa: RUF012 - twisted.python.usage reads the list
        ["admin", None, None, "Answer HTTP on this ENDPOINT: health, metrics, status, a page. Needs the admin extra."],
        ["drain-timeout", None, "25", "Seconds from the beginning of a drain until what is left is cut."],
        ["lame-duck", None, "0", "Seconds that readiness fails before a signal's drain begins."],
        ["linger", None, "1", "Seconds that a closing connection waits for its client."],
        ["node-id", None, None, "The node's name; by default from init on standard input, n1 on sockets."],
        ["max-line", None, str(DEFAULT_MAX_LINE), "The longest line taken, in bytes."],
        ["max-connections", None, "10000", "How many clients may be connected; control and admin do not count."],
        ["max-in-flight", None, "100000", "How many requests may be in flight."],
        ["idle-timeout", None, "0", "Seconds until an idle connection is closed; 0 for never."],
        ["app", None, None, "Your own node instead of the one that answers tcp_request: MODULE:NODE."],
    ]

    optFlags = [  # noqa: RUF012 - the same
        ["admin-drain", None, "Let POST /drain on --admin begin a drain."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["control"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Let clients connect to this ENDPOINT; may be given again. Without any: standard input and output."""
        self["listen"].append(endpoint)

    def opt_control(self, endpoint: str) -> None:
        """Like --listen; its clients may also send tcp_shutdown and init. May be given again."""
        self["control"].append(endpoint)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line; a wrong one ends the process with one line on standard error and status 1."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"node: {error}") from None

    def postOptions(self) -> None:
        """Turn texts into numbers."""
        for name in _SECONDS:
            self[name] = _number(name, self[name], float, least=0, unit="seconds")
            if self[name] > _LONGEST:
                raise usage.UsageError(f"--{name}: expected at most {_LONGEST} seconds, got {self[name]:g}")
        for name in _COUNTS:
            self[name] = _number(name, self[name], int, least=1, unit="a number")
        if self["admin-drain"] and not self["admin"]:
            raise usage.UsageError("--admin-drain: needs --admin")


def makeService(options: Options) -> IService:
    """Make the service, and have this process end with it.

    Raises:
        SystemExit: the options cannot be met; with one line that says why.
    """
    from twisted.internet import reactor

    try:
        return _make_service(options, reactor)
    except MisuseError as error:
        raise SystemExit(f"node: {error}") from None


def _make_service(options: Options, reactor: Any) -> IService:
    drain = Drain(reactor)
    on_sockets = bool(options["listen"] or options["control"])
    service = NodeService(
        drain,
        drain_timeout=options["drain-timeout"],
        lame_duck=options["lame-duck"],
        linger=options["linger"],
        ends_with_drain=on_sockets,
    )
    service.notifier = Notifier.from_environment(service)
    # Before anybody's module can print something while it is imported.
    if on_sockets:
        free_standard_output()
        streams = None
    else:
        streams = _take_streams(options, reactor)
    node = _make_node(service, options, on_sockets)
    node.bind(drain, max_in_flight=options["max-in-flight"])
    if options["admin"]:
        _administer(service, node, options, reactor)
    if streams is None:
        _listen(service, node, options, reactor)
    else:
        service.listen(streams, StandardStreamsFactory(node, service.end, max_line=options["max-line"]))
    own_process(service, reactor)
    reactor.callWhenRunning(settle_collector)
    return service


def _make_node(service: NodeService, options: Options, on_sockets: bool) -> Node:
    app = options["app"]
    if app is None:
        node = Node()
        answer_requests(node)
    else:
        node = app if isinstance(app, Node) else load_node(app)
    try:
        answer_about_drain(node.registry, service.drain, options["drain-timeout"])
        answer_statistics(node.registry, service)
    except MisuseError as error:
        raise MisuseError(f"{error}; every node answers about its drain by itself") from None
    node_id = options["node-id"] or node.node_id or ("n1" if on_sockets else None)
    if node_id is not None:
        node.node_id, node.node_ids = node_id, (node_id,)
    return node


def _administer(service: NodeService, node: Node, options: Options, reactor: Any) -> None:
    try:
        from twisted_node.watch._admin import Admin
        from twisted_node.watch._metrics import Metrics
    except ImportError:
        raise MisuseError("--admin: needs the admin extra: pip install 'twisted-node[admin]'") from None
    endpoint = _endpoint("admin", options["admin"], reactor)
    metrics = Metrics(service)
    metrics.watch(node)
    service.admin = Admin(service, endpoint, metrics, may_drain=bool(options["admin-drain"]))
    if options["admin-drain"] and not wants_client_certificates(options["admin"]):
        service.trusting.append(service.admin.listener)


def _listen(service: NodeService, node: Node, options: Options, reactor: Any) -> None:
    limits = {"max_line": options["max-line"], "idle_timeout": options["idle-timeout"]}
    clients = NodeFactory(node, max_connections=options["max-connections"], **limits)
    control = NodeFactory(node, control=True, **limits)
    for option, factory in (("listen", clients), ("control", control)):
        for description in options[option]:
            listener = service.listen(_endpoint(option, description, reactor), factory)
            if factory is control and not wants_client_certificates(description):
                service.trusting.append(listener)
    _raise_file_limit(options["max-connections"] + _OTHER_FILES)


def _endpoint(option: str, description: str, reactor: Any) -> IStreamServerEndpoint:
    try:
        return server_endpoint(reactor, description)
    except MisuseError as error:
        raise MisuseError(f"--{option} {description}: {error}") from None


def _take_streams(options: Options, reactor: Any) -> StandardStreams:
    parent = options.parent
    if parent is not None and "nodaemon" in parent and not parent["nodaemon"]:
        raise MisuseError("twistd would go to the background, without standard input; type: twistd -n --pidfile= node")
    return StandardStreams(reactor, *take_standard_streams())


def _number(option: str, text: str, kind: type[float], *, least: float, unit: str) -> float:
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not least <= number < math.inf:
        raise usage.UsageError(f"--{option}: expected {unit} from {least}, got {text!r}")
    return number


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
    """One line, and status 1. An Exception too: only for these does twistd remove its pidfile and tell who waits."""


class NodeService(DrainingService):
    """The service of the command: its errors are one line, and it warns of what is too open."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Endpoints without client certificates whose clients may begin a drain.
        self.trusting: list[Listener] = []
        #: What opens before it, and what is told after it has opened.
        self.admin: Service | None = None
        self.notifier: Service | None = None

    def startService(self) -> None:
        """Listen.

        Raises:
            SystemExit: a port cannot be bound.
        """
        try:
            if self.admin is not None:
                self.admin.startService()
            super().startService()
        except Exception as error:
            raise _CannotStart(f"node: {error}") from None
        exposed = [str(listener.host) for listener in self.trusting if not is_local(listener.host)]
        if exposed:
            _log.warn(
                "control endpoints that other machines can reach, without client certificates: {exposed}",
                exposed=", ".join(exposed),
            )
        if self.notifier is not None:
            self.notifier.startService()
