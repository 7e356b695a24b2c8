"""Who a node is, and the message that tells it."""

from __future__ import annotations

from tests.support.lines import INIT, INIT_OK, message
from tests.support.node import NodeTestCase


class InitTests(NodeTestCase):
    """A node that has no name yet."""

    node_id = None

    def test_init(self) -> None:
        """The first init gives the node its name."""
        self.assertEqual(self.ask(INIT), INIT_OK)
        self.assertEqual((self.node.node_id, self.node.node_ids), ("n1", ("n1",)))

    def test_again(self) -> None:
        """The same init again is fine; another name is not, and changes nothing."""
        self.ask(INIT)
        self.assertEqual(self.answer("init", node_id="n1", node_ids=["n1"])["type"], "init_ok")
        self.assertEqual(
            self.ask(message("init", 3, node_id="n2", node_ids=["n2"])),
            b'{"src": "n1", "dest": "c1", "body": {"type": "error", "in_reply_to": 3, "code": 22,'
            b' "text": "node_id: this node is n1", "msg_id": 2}}\n',
        )
        self.assertEqual(self.node.node_ids, ("n1",))

    def test_before(self) -> None:
        """Before init, all else is temporarily unavailable, said in the name that was asked."""
        self.assertEqual(
            self.ask(b'{"src":"c1","dest":"somebody","body":{"type":"tcp_request","msg_id":2}}'),
            b'{"src": "somebody", "dest": "c1", "body": {"type": "error", "in_reply_to": 2, "code": 11,'
            b' "text": "not initialised: send init first", "msg_id": 0}}\n',
        )

    def test_before_init_by_declaration(self) -> None:
        """A handler may serve before init."""
        self.handle({}, before_init=True)
        self.assertEqual(self.answer()["type"], "echo_ok")

    def test_no_name(self) -> None:
        """An init without a node_id is malformed, one with an empty node_id too."""
        self.assertEqual(self.answer("init")["code"], 12)
        self.assertIn("node_id", self.answer("init", node_id="")["text"])
        self.assertIsNone(self.node.node_id)

    def test_while_draining(self) -> None:
        """Init is answered in every phase."""
        self.drain.begin(0)
        self.assertEqual(self.ask(INIT), INIT_OK)

    def test_needs_control(self) -> None:
        """A client without control cannot name the node."""
        self.sink.control = False
        self.assertEqual(self.answer("init", node_id="n1")["code"], 10)
        self.assertIsNone(self.node.node_id)
