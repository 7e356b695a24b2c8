"""Bytes to messages and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import message
from twisted_node.errors import RequestError
from twisted_node.node._plain import PlainBody
from twisted_node.node._registry import Registry
from twisted_node.node._wire import (
    MAX_SOURCE,
    UNDECODABLE,
    Message,
    UnreadableLine,
    body_decoder,
    decode,
    encode,
)


class DecodeTests(SynchronousTestCase):
    """One line in, one message out."""

    def check(self, message: Message, **fields: Any) -> None:
        self.assertEqual({name: getattr(message, name) for name in fields}, fields)

    def unreadable(self, line: bytes) -> str:
        error: UnreadableLine = self.assertRaises(UnreadableLine, decode, line)
        return error.text

    def test_message(self) -> None:
        """What every message has is read; its body stays JSON."""
        message = decode(b'{"src":"c1","dest":"n1","body":{"type":"echo","msg_id":3,"echo":"hi"}}')
        self.check(message, src="c1", dest="n1", type="echo", msg_id=3, in_reply_to=None, fault="")
        self.assertEqual(bytes(message.body), b'{"type":"echo","msg_id":3,"echo":"hi"}')

    def test_any_order_and_unknown_keys(self) -> None:
        """Keys come in any order, and unknown ones are ignored."""
        message = decode(
            b'{"id":7,"body":{"x":[{}],"msg_id":3,"type":"echo"},"extra":{"src":1},"dest":"n1","src":"c1"}'
        )
        self.check(message, src="c1", dest="n1", type="echo", msg_id=3, fault="")

    def test_white_space(self) -> None:
        """White space around and inside is ignored, a carriage return too."""
        self.check(decode(b' \t{ "src" : "c1" , "body" : { "type" : "echo" } } \r'), src="c1", type="echo", fault="")

    def test_utf8(self) -> None:
        """Names are UTF-8, written out or escaped."""
        self.check(decode('{"src":"ü😀","dest":"\\u00fc","body":{"type":"é"}}'.encode()), src="ü😀", dest="ü", type="é")

    def test_no_dest(self) -> None:
        """A message without dest is for whoever reads it."""
        self.check(decode(b'{"src":"c1","body":{"type":"echo"}}'), dest="", type="echo", fault="")

    def test_in_reply_to(self) -> None:
        """What a reply answers is told, whatever it is."""
        self.check(decode(b'{"src":"c1","body":{"type":"echo_ok","in_reply_to":"x"}}'), in_reply_to="x")

    def test_huge_number(self) -> None:
        """A number beyond 64 bits is still that number."""
        line = b'{"src":"c1","body":{"type":"echo","msg_id":1180591620717411303424}}'
        self.check(decode(line), msg_id=2**70)

    def test_unreadable(self) -> None:
        """A line without a readable src names nobody to answer."""
        for line in (
            b"",
            b" ",
            b"\r",
            b"hello",
            b"null",
            b"[]",
            b'"src"',
            b"{}",
            b'{"body":{"type":"echo"}}',
            b'{"src":null,"body":{"type":"echo"}}',
            b'{"src":5,"body":{"type":"echo"}}',
            b'{"src":"c1","body":{"type":"echo"}',
            b'{"src":"c1","body":{"type":"echo"}}}',
            b'{"src":"c1","body":{"type":"echo"}} {"src":"c1"}',
            b'{"src":"c1\xff","body":{"type":"echo"}}',
            b'{"src":"c1","body":{"type":"echo","n":NaN}}',
            b'\xef\xbb\xbf{"src":"c1","body":{"type":"echo"}}',
        ):
            self.assertNotEqual(self.unreadable(line), "", line)

    def test_why_unreadable(self) -> None:
        """The text says what is wrong with the line."""
        self.assertIn("malformed", self.unreadable(b"hello"))
        self.assertEqual(self.unreadable(b'{"src":5,"body":{}}'), "src: expected a string")
        self.assertEqual(self.unreadable(b"{}"), "src: expected a string")

    def test_deep_nesting(self) -> None:
        """However deep a line is nested, it is an error and not a crash."""
        for depth in (500, 5_000, 500_000):
            line = b'{"src":"c1","body":{"type":"echo","x":' + b"[" * depth + b"]" * depth + b"}}"
            try:
                self.check(decode(line), src="c1")
            except UnreadableLine as error:
                self.assertEqual(error.text, "nested too deep")

    def test_long_names(self) -> None:
        """A request in flight keeps src and dest, so neither may be long."""
        longest = "x" * MAX_SOURCE
        self.check(decode(encode(longest, longest, {"type": "echo"})), src=longest, dest=longest, fault="")
        self.assertEqual(
            self.unreadable(encode(longest + "x", "n1", {"type": "echo"})), f"src: longer than {MAX_SOURCE} characters"
        )
        message = decode(encode("c1", longest + "x", {"type": "echo", "msg_id": 1}))
        self.check(message, src="c1", dest="", msg_id=1, fault=f"dest: longer than {MAX_SOURCE} characters")

    def test_faults(self) -> None:
        """If somebody can be answered, the fault names the field."""
        for line, msg_id, fault in (
            (b'{"src":"c1","dest":5,"body":{"type":"echo","msg_id":1}}', 1, "dest: expected a string"),
            (b'{"src":"c1","dest":null,"body":{"type":"echo","msg_id":1}}', 1, "dest: expected a string"),
            (b'{"src":"c1"}', None, "body: Object missing required field `body`"),
            (b'{"src":"c1","body":null}', None, "body: Expected `object`, got `null`"),
            (b'{"src":"c1","body":[1]}', None, "body: Expected `object`, got `array`"),
            (b'{"src":"c1","body":{"msg_id":1}}', 1, "body: Object missing required field `type`"),
            (b'{"src":"c1","body":{"type":5,"msg_id":"x"}}', "x", "body: type: Expected `str`, got `int`"),
        ):
            message = decode(line)
            self.check(message, src="c1", type=None, msg_id=msg_id, fault=fault)

    def test_fault_in_a_reply(self) -> None:
        """A malformed reply is still known as one, so that nobody answers it."""
        self.check(decode(b'{"src":"c1","body":{"in_reply_to":4}}'), type=None, in_reply_to=4)

    @given(st.binary())
    @settings(deadline=None)
    def test_any_bytes(self, line: bytes) -> None:
        """No line does worse than being unreadable."""
        try:
            decode(line)
        except UnreadableLine as error:
            self.assertEqual(error.code, 12)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda children: (
                st.lists(children)
                | st.dictionaries(st.sampled_from(["src", "dest", "body", "type", "msg_id", "in_reply_to"]), children)
            ),
        )
    )
    @settings(deadline=None)
    def test_any_json(self, value: Any) -> None:
        """Any JSON is a message if its src is a string, and unreadable if not."""
        line = json.dumps(value).encode()
        source = value.get("src") if isinstance(value, dict) else None
        if isinstance(source, str):
            message = decode(line)
            self.assertEqual(message.src, source)
            self.assertEqual(message.type is None, bool(message.fault))
        else:
            self.unreadable(line)


class _Timed(msgspec.Struct):
    seconds: Annotated[int, msgspec.Meta(ge=0, le=60)] = 0
    names: list[str] = []


class BodyDecodingTests(SynchronousTestCase):
    """A body becomes what its handler wants."""

    def test_struct(self) -> None:
        """A Struct gets its fields, and its defaults."""
        decode_body = body_decoder(_Timed)
        self.assertEqual(decode_body(msgspec.Raw(b'{"type":"t","seconds":3}')), _Timed(3))
        self.assertEqual(decode_body(msgspec.Raw(b"{}")), _Timed(0))

    def test_dict(self) -> None:
        """A dict is the body as it is."""
        self.assertEqual(body_decoder(dict)(msgspec.Raw(b'{"type":"t","x":[1]}')), {"type": "t", "x": [1]})

    def test_errors_name_the_field(self) -> None:
        """What is wrong is said after the field where it is."""
        for body, text in (
            (b'{"seconds":-1}', "seconds: Expected `int` >= 0"),
            (b'{"seconds":"3"}', "seconds: Expected `int`, got `str`"),
            (b'{"names":["a",5]}', "names[1]: Expected `str`, got `int`"),
        ):
            error = self.assertRaises(RequestError, body_decoder(_Timed), msgspec.Raw(body))
            self.assertEqual((error.code, error.text), (12, text))

    def test_deep_nesting(self) -> None:
        """A body nested too deep is malformed."""
        raw = msgspec.Raw(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
        error = self.assertRaises(RequestError, body_decoder(dict), raw)
        self.assertEqual((error.code, error.text), (12, "nested too deep"))


class EncodeTests(SynchronousTestCase):
    """One message in, one line out."""

    def test_line(self) -> None:
        """A line is spaced as Python's json.dumps does, in the order of the fields."""
        self.assertEqual(
            encode("n1", "c1", {"type": "echo_ok", "in_reply_to": 3, "echo": {"b": [1, 2.5, None, True], "a": {}}}),
            b'{"src": "n1", "dest": "c1", "body": {"type": "echo_ok", "in_reply_to": 3,'
            b' "echo": {"b": [1, 2.5, null, true], "a": {}}}}\n',
        )

    def test_text(self) -> None:
        """UTF-8 stays as it is; what JSON must escape is escaped, newlines above all."""
        self.assertEqual(
            encode("ü", "c1", {"x": 'a\n"\\:, '}),
            '{"src": "ü", "dest": "c1", "body": {"x": "a\\n\\"\\\\:, "}}\n'.encode(),
        )

    def test_cannot_be_said(self) -> None:
        """What JSON has no words for is an error."""
        looped: dict[str, Any] = {}
        looped["x"] = looped
        for body, error in (
            ({"x": object()}, TypeError),
            ({"x": "\ud800"}, ValueError),
            (looped, RecursionError),
        ):
            self.assertRaises(error, encode, "n1", "c1", body)

    _json = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    )

    @given(st.text(), st.text(), st.dictionaries(st.text(), _json))
    @settings(deadline=None)
    def test_as_python_does(self, src: str, dest: str, body: dict[str, Any]) -> None:
        """Every line is what json.dumps would have written, and ends where it ends."""
        expected = json.dumps({"src": src, "dest": dest, "body": body}, ensure_ascii=False)
        line = encode(src, dest, body)
        self.assertEqual(json.loads(line), json.loads(expected))
        self.assertEqual(line.count(b"\n"), 1)
        # Control characters may be escaped in more than one way; all else is the same.
        if all(character.isprintable() for character in expected):
            self.assertEqual(line, expected.encode() + b"\n")


class Sum(PlainBody):
    """A plain body."""

    number: int


class SumStrictly(PlainBody, forbid_unknown_fields=True):
    """A body that leaves no room for what the message has besides."""

    number: int


class SumHandled(PlainBody):
    """A body with a field of the name that the decoder uses."""

    handler_: int


def decoder(body_type: Any) -> Callable[[bytes], Any]:
    """The decoder for one handler, of the type add."""
    registry = Registry()
    registry.handle("add", body_type)(lambda _: None)
    return registry.make_plain_decoder()


class PlainBodyTests(SynchronousTestCase):
    """Reading a plain request in one pass."""

    def setUp(self) -> None:
        """Know one type."""
        self.decode = decoder(Sum)

    def test_plain(self) -> None:
        """Plain requests are read, with their bodies, white space around them or not."""
        first, second = message("add", 1, number=3), message("add", 2, src="c2", number=4, more=[])
        self.assertEqual(
            [
                (m.src, m.dest, m.body.handler_.type, m.body.msg_id, m.body.number)
                for m in map(self.decode, (first, second, first[:-1], b" " + second[:-1] + b"\r"))
            ],
            [("c1", "n1", "add", 1, 3), ("c2", "n1", "add", 2, 4)] * 2,
        )

    def test_not_plain(self) -> None:
        """What is not plain is left to a closer look."""
        good = message("add", 1, number=3)[:-1]
        for line in (
            b"",
            b"\n",
            b"junk",
            good + good,
            good + b" " + good,
            message("add", 1, number="3"),
            message("add", "1", number=3),
            message("add", 1, number=3, in_reply_to=1),
            message("add", 1),
            message("sub", 1, number=3),
            message("add", 1, number=3, src="c" * 1025),
            good.replace(b"c1", b"\xff"),
        ):
            with self.assertRaises(UNDECODABLE, msg=line):
                self.decode(line)

    def test_no_room(self) -> None:
        """Bodies that leave no room for more, or are not known to be plain, are not read so."""
        for body_type in (SumStrictly, SumHandled, dict, dict[str, int]):
            for line in message("add", 1, number=3), message("add", 1, handler_=4):
                with self.assertRaises(UNDECODABLE):
                    decoder(body_type)(line)
