"""Requests that ask their exchange, whatever has made them."""

from __future__ import annotations

from typing import Any

from twisted.web.server import Request

from tests.support.web import WebTests, get, statuses


class RequestTests(WebTests):
    """A request of a site."""

    def test_request_factory(self) -> None:
        """A request may be made by any callable; it keeps its class, and is followed all the same."""

        class Mine(Request):
            pass

        def make(*args: Any, **options: Any) -> Mine:
            return Mine(*args, **options)

        site = self.make_site(self.resource, requestFactory=make)
        transport = self.connect(site)
        transport.receive(get())
        (request,) = self.resource.requests
        self.assertIsInstance(request, Mine)
        self.assertIn("<Mine at ", repr(request))
        self.assertEqual(self.drain.in_flight, 1)
        self.stop()
        self.clock.advance(10)
        self.assertEqual(statuses(transport.take()), [503])
        request.write(b"too late")
        request.finish()
        self.assertEqual(transport.take(), b"")
