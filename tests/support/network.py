"""A network of nodes in memory, on a clock; what becomes of each message between them is for the test to choose."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.support.paths import ROOT
from twisted_node import Drain, Node, Statistics
from twisted_node.node._framing import DEFAULT_MAX_LINE
from twisted_node.node._node import requests_of
from twisted_node.node._standard_io import StandardProtocol
from twisted_node.server._connections import Connections

#: The fields of each reply of Maelstrom's workloads, besides type, in_reply_to and msg_id; the harness takes no others.
REPLIES: dict[str, set[str]] = {
    "init_ok": set(),
    "echo_ok": {"echo"},
    "generate_ok": {"id"},
    "topology_ok": set(),
    "broadcast_ok": set(),
    "add_ok": set(),
    "write_ok": set(),
    "cas_ok": set(),
    "error": {"code", "text"},
}
#: A read is answered differently in each workload.
READ_OK = {"broadcast": {"messages"}, "counter": {"value"}, "kv": {"value"}}


def example(name: str) -> Node:
    """A fresh node of a program in ``examples/``."""
    node = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["node"]
    assert isinstance(node, Node)
    return node


def check_reply(body: dict[str, Any], read_ok: set[str]) -> None:
    """Hold a reply to what the harness takes."""
    fields = read_ok if body["type"] == "read_ok" else REPLIES[body["type"]]
    if body.keys() != fields | {"type", "in_reply_to", "msg_id"}:
        raise AssertionError(f"fields: {body}")
    if type(body["msg_id"]) is not int or type(body["in_reply_to"]) is not int:
        raise AssertionError(f"ids: {body}")


class _Wire(StringTransport):
    """Hands each line to the network."""

    def __init__(self, route: Callable[[bytes], None]) -> None:
        super().__init__()
        self._route = route

    def write(self, data: bytes) -> None:
        for line in data.splitlines():
            self._route(line)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))


class Network:
    """Nodes, and clients and services that are what the test says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.nodes: dict[str, Node] = {}
        self.protocols: dict[str, StandardProtocol] = {}
        #: What answers a request to a service: from its body, the body of the reply.
        self.services: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        #: What each client was sent, oldest first.
        self.received: dict[str, list[dict[str, Any]]] = {}
        #: What became of each node's drain.
        self.drained: dict[str, Statistics] = {}
        #: The seconds that a message takes from a node to another, or None if it is lost.
        self.delay: Callable[[str, str], float | None] = lambda *_: 0.0
        #: Messages from a node to another so far, lost ones too.
        self.messages = 0
        self._next_msg_id = 0

    def add(self, name: str, node: Node, *, init: bool = True) -> Node:
        """Connect a node as its standard streams would be."""
        drain = Drain(self.clock, self.clock.seconds)
        node.bind(drain)
        self.nodes[name] = node
        protocol = self.protocols[name] = StandardProtocol(
            requests_of(node),
            Connections(self.clock),
            lambda reason: self.drain(name, reason),
            max_line=DEFAULT_MAX_LINE,
        )
        protocol.makeConnection(_Wire(self._route))
        if init:
            self.init(name, [name])
        return node

    def add_examples(self, program: str, *names: str) -> None:
        """Add nodes of an example that know of each other."""
        for name in names:
            self.add(name, example(program), init=False)
        for name in names:
            self.init(name, list(names))

    def init(self, name: str, names: list[str]) -> None:
        self.ask(name, "init", src="c0", node_id=name, node_ids=names)

    def ask(self, name: str, type_: str, src: str = "c1", **fields: Any) -> int:
        """Have a client send a request; return its msg_id."""
        self._next_msg_id += 1
        self.hand_over({"src": src, "dest": name, "body": {"type": type_, **fields, "msg_id": self._next_msg_id}})
        return self._next_msg_id

    def answer(self, name: str, type_: str, **fields: Any) -> dict[str, Any]:
        """The answer to a request that is answered at once."""
        msg_id = self.ask(name, type_, **fields)
        answer = self.received["c1"][-1]
        assert answer["in_reply_to"] == msg_id, answer
        return answer

    def drain(self, name: str, reason: str = "the test") -> None:
        """Begin a node's drain."""
        drained = self.nodes[name].drain.begin(25, reason)
        drained.addCallback(lambda statistics: self.drained.__setitem__(name, statistics))

    def run(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass."""
        self.clock.pump([step] * round(seconds / step))

    def hand_over(self, message: dict[str, Any]) -> None:
        """Let a message arrive at a node."""
        self.protocols[message["dest"]].dataReceived(json.dumps(message).encode() + b"\n")

    def _route(self, line: bytes) -> None:
        message = json.loads(line)
        src, dest, body = message["src"], message["dest"], message["body"]
        if dest in self.nodes:
            self.messages += 1
            delay = self.delay(src, dest)
            if delay is not None:
                self.clock.callLater(delay, self.hand_over, message)
        elif dest in self.services:
            reply = {**self.services[dest](body), "in_reply_to": body["msg_id"]}
            self.clock.callLater(0, self.hand_over, {"src": dest, "dest": src, "body": reply})
        else:
            self.received.setdefault(dest, []).append(body)


class Store:
    """Maelstrom's ``lin-kv``, as far as a test needs it."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        key = body["key"]
        if body["type"] == "write":
            self.values[key] = body["value"]
            return {"type": "write_ok"}
        if key not in self.values:
            return {"type": "error", "code": 20, "text": "key does not exist"}
        if body["type"] == "read":
            return {"type": "read_ok", "value": self.values[key]}
        if self.values[key] != body["from"]:
            return {"type": "error", "code": 22, "text": "current value differs"}
        self.values[key] = body["to"]
        return {"type": "cas_ok"}
