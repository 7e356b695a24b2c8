"""Who may ask the admin endpoint: pages of other sites may not, by whatever name they call it."""

from __future__ import annotations

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred

from tests.support.admin_client import AdminCase, AdminClient
from twisted_node.errors import MisuseError
from twisted_node.watch._admin import Admin
from twisted_node.watch._admin_access import read_host
from twisted_node.watch._metrics import Metrics

_GUARDED = ("/", "/page.js", "/page.css", "/status", "/events", "/drain")
_OPEN = ("/livez", "/readyz", "/metrics")
_REFUSED = "misdirected: Host is no name of this node; --admin-host NAME allows a name\n"


class HostTests(AdminCase):
    """The names that the endpoint may be called by."""

    may_drain = True
    hosts = ("Node.Example.", "other.example:8080")

    def status(self, path: str, host: str | None) -> int:
        return AdminClient(self.admin).get(path, host=host, method="HEAD")[0]

    def test_other_name(self) -> None:
        """By any other name nothing is shown and nothing begins, as another site may have given it to this address."""
        self.start()
        for host in (
            "evil.example:8471",
            "evil.example",
            "node",
            "",
            ":80",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.evil.example",
            "[::1].evil.example",
            "[::1]evil.example:80",
            "[evil.example]",
            "evil.example:80:80",
            "evil.example@127.0.0.1",
            "127.0.0.1/evil.example",
            "127.0.0.1, evil.example",
            "127.1",
            "node.example.evil.example",
            "\xff",
        ):
            for path in _GUARDED:
                for method in ("GET", "POST", "DELETE"):
                    status, headers, body = AdminClient(self.admin).get(path, host=host, method=method)
                    self.assertEqual((status, body), (421, _REFUSED), (host, path))
                    self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertIs(self.drain.refusing, False)

    def test_rebinding(self) -> None:
        """A page whose own name now means this address cannot drain the server, though it is of the same origin."""
        self.start()
        headers = ("Origin: http://evil.example:8471", "Sec-Fetch-Site: same-origin", "Content-Length: 0")
        client = AdminClient(self.admin)
        answer = client.get("/drain?timeout=0", *headers, method="POST", host="evil.example:8471")
        self.assertEqual(answer[::2], (421, _REFUSED))
        self.assertIs(self.drain.refusing, False)

    def test_two_names(self) -> None:
        """One known name among several lets nobody in."""
        self.start()
        for hosts in (("localhost", "evil.example"), ("evil.example", "localhost")):
            self.assertEqual(AdminClient(self.admin).get("/status", f"Host: {hosts[1]}", host=hosts[0])[0], 421)

    def test_known_names(self) -> None:
        """An address, localhost and the given names will do; port, brackets, case and a last dot do not matter."""
        self.start()
        for host in (
            "127.0.0.1:8471",
            "127.0.0.1",
            "127.0.0.1.",
            "192.0.2.7:80",
            "[::1]:8471",
            "[::1]",
            "::1",
            "[2001:DB8::1]:80",
            "[fe80::1%eth0]:80",
            "localhost",
            "LocalHost:8471",
            "localhost.",
            "localhost.:80",
            "node.example",
            "NODE.example.:1",
            "other.example",
        ):
            for path in _GUARDED[:-1]:
                self.assertEqual(self.status(path, host), 200, (host, path))

    def test_no_name(self) -> None:
        """A request without Host comes from no browser."""
        self.start()
        for path in _GUARDED[:-1]:
            self.assertEqual(self.status(path, None), 200, path)

    def test_unix(self) -> None:
        """Nor does one that comes from a unix socket, whatever its Host."""
        self.start()
        client = AdminClient(self.admin, UNIXAddress(b"/run/admin"))
        self.assertEqual(client.get("/status", host="node.internal")[0], 200)

    def test_open(self) -> None:
        """Balancers and Prometheus may ask by any name: what they are told names no requests."""
        self.start()
        for path in _OPEN:
            for host in ("evil.example", "", "\xff", None):
                self.assertEqual(self.status(path, host), 200, path)

    def test_no_path(self) -> None:
        """What does not exist does not exist by any name."""
        self.start()
        self.assertEqual(self.status("/nothing", "evil.example"), 404)

    def test_wrong_names(self) -> None:
        """What is no host name is refused, and so is a text in the place of a list."""
        endpoint = self.admin.listener.endpoint
        for host in (
            "",
            ".",
            "*",
            "*.example",
            "http://node.example",
            "node.example/",
            "a b",
            "b\xfccher.example",
            "-a",
        ):
            self.assertRaises(ValueError, read_host, host)
            error = self.assertRaises(MisuseError, Admin, self.service, endpoint, Metrics(self.service), hosts=[host])
            self.assertEqual(str(error), f"hosts: expected a host name such as node.example, got {host!r}")
        error = self.assertRaises(MisuseError, Admin, self.service, endpoint, Metrics(self.service), hosts="localhost")
        self.assertEqual(str(error), "hosts: expected a list of names, got 'localhost'")


class OriginTests(AdminCase):
    """What browsers say of the page that asks."""

    may_drain = True

    def test_malformed(self) -> None:
        """An origin that is none is that of another site: 403, in one line."""
        self.start()
        for origin in ("http://[", "http://[::1", "http://a]", "://", "\xff", "http://\xff", "192.0.2.2:80", "http://"):
            answer = AdminClient(self.admin).get("/drain", f"Origin: {origin}", "Content-Length: 0", method="POST")
            self.assertEqual(answer[::2], (403, "not allowed: the request comes from a page of another site\n"), origin)
        self.assertIs(self.drain.refusing, False)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_any_bytes(self) -> None:
        """No header makes an answer fail, whatever bytes are in it."""
        self.start()
        self.drain.track("slow one", Deferred())
        for name in ("Accept", "Sec-Fetch-Site", "Origin", "Host", "Content-Type", "Connection", "Expect", "Cookie"):
            for value in ("\xff", "", ";", "*/*;q=x", "application/openmetrics-text; version=x", "multipart/form-data"):
                for method in ("GET", "POST"):
                    for path in ("/metrics", "/status", "/livez", "/drain"):
                        headers = (f"{name}: {value}", "Content-Length: 3")
                        status = AdminClient(self.admin).get(path, *headers, method=method, body=b"a=b")[0]
                        self.assertLess(status, 500, (name, value, path))
        self.assertEqual(self.flushLoggedErrors(), [])
