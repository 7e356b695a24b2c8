"""The page, in a real browser."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from typing import Any
from unittest import SkipTest

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait
from twisted.trial.unittest import SynchronousTestCase

from tests.support.admin import LOCAL
from tests.support.lines import message
from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process
from tests.support.sockets import connect, read_to_end
from tests.support.systemd import ACTIVATE
from twisted_node._version import VERSION

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: Where screenshots are kept for people to look at; without it they are looked at by the tests alone.
SCREENSHOTS = os.environ.get("TWISTED_NODE_SCREENSHOTS")

#: Whether an element is less readable than WCAG 2 asks of normal text (4.5 to 1), or wider than the window.
FAULTS = """
const luminance = (color) => {
  const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (; element; element = element.parentElement) {
    const color = getComputedStyle(element).backgroundColor;
    if (!/, 0\\)$/.test(color)) return color;
  }
};
const faults = [];
for (const element of document.querySelectorAll("h1, h2, p, dt, dd, th, td, span, strong")) {
  const box = element.getBoundingClientRect();
  if (!element.textContent.trim() || box.width <= 1) continue;
  const [one, other] = [luminance(getComputedStyle(element).color), luminance(ground(element))].sort((a, b) => b - a);
  if ((one + 0.05) / (other + 0.05) < 4.5) faults.push(`faint: ${element.textContent}`);
  if (box.right > innerWidth + 1) faults.push(`too wide: ${element.textContent}`);
}
return faults;
"""

#: Keeps each phase that the page shows from now on, however briefly.
REMEMBER_PHASES = """
window.phases = [];
const phase = document.getElementById("phase");
new MutationObserver(() => phases.push(phase.textContent)).observe(phase, {childList: true, subtree: true});
"""


@cache
def the_browser() -> webdriver.Chrome:
    """Start the browser, once for all tests; it ends with the process."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        if os.environ.get("CI") == "true":
            raise AssertionError("not installed: apt-get install chromium chromium-driver")
        raise SkipTest("needs chromium and chromedriver")
    profile = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, profile, ignore_errors=True)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, Service(driver))
    atexit.register(started.quit)
    return started


class BrowserTests(SynchronousTestCase):
    """A drain, watched."""

    def setUp(self) -> None:
        self.browser = the_browser()
        # What another test's page has complained of.
        self.browser.get("about:blank")
        self.browser.get_log("browser")

    def start(self, *options: str) -> tuple[Process, int, int]:
        process = Process(*RUNNERS["python"], "--admin", LOCAL, "--listen", LOCAL, *options)
        self.addCleanup(process.end)
        admin, port = process.ports(2)
        return process, admin, port

    def wait(self, condition: Any) -> None:
        WebDriverWait(self.browser, PATIENCE, 0.05).until(condition)

    def wait_for_phase(self, phase: str) -> None:
        self.wait(lambda _: self.text("phase") == phase)

    def text(self, id_: str) -> str:
        return self.browser.find_element("id", id_).text

    def read(self, id_: str) -> str:
        """What a screen reader gets, seen or not."""
        return str(self.browser.find_element("id", id_).get_property("textContent"))

    def look(self, name: str, *, dark: bool, width: int, height: int) -> None:
        """Look at the page in one of the ways that people do; keep a picture."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.assertEqual(self.browser.execute_script(FAULTS), [], name)
        self.assertLessEqual(self.browser.execute_script("return document.documentElement.scrollWidth"), width, name)
        picture = self.browser.get_screenshot_as_png()
        self.assertGreater(len(picture), 10_000)
        if SCREENSHOTS:
            with open(os.path.join(SCREENSHOTS, f"{name}.png"), "wb") as file:
                file.write(picture)

    def test_from_serving_to_gone(self) -> None:
        """The page shows each turn by itself, tells a screen reader, and says when the process has gone."""
        process, admin, port = self.start("--drain-timeout=30", "--linger=10")
        self.browser.get(f"http://127.0.0.1:{admin}/")
        self.wait_for_phase("serving")
        self.assertEqual(self.read("spoken"), "Serving.")
        with connect(port) as client:
            for number in range(30):
                src = "<b>shop</b>" if number % 3 else "checkout"
                client.sendall(message("tcp_request", number, src, latency_ms=3500 + 50 * number))
            self.wait(lambda _: self.text("in-flight") == "30")
            self.assertEqual(self.text("connections"), "1")
            about = [self.text(name) for name in ("where", "node-id", "pid", "version")]
            expected = [f"127.0.0.1:{admin}", "node n1", f"pid {process.popen.pid}", f"twisted_node {VERSION}"]
            self.assertEqual(about, expected)
            self.assertRegex(self.text("uptime"), r"^up (\d+ min )?\d+ s$")
            self.assertIn("tcp_request 1 from <b>shop</b>", self.text("oldest"))
            self.look("serving", dark=False, width=1000, height=1100)
            process.signal()
            self.wait_for_phase("draining")
            self.assertEqual(
                self.read("spoken"),
                "draining: Taking no new requests; waiting for what is in flight. Asked for by: SIGTERM.",
            )
            self.assertRegex(self.text("countdown"), r"^(30|2\d) s\s+until the deadline\nThen: what is still in flight")
            self.look("draining", dark=False, width=1000, height=1100)
            self.look("draining-dark", dark=True, width=1000, height=1100)
            self.look("draining-phone", dark=False, width=360, height=740)
            self.look("draining-phone-dark", dark=True, width=360, height=740)
            line = self.browser.find_element("id", "line").get_attribute("points") or ""
            heights = {float(point.split(",")[1]) for point in line.split()}
            self.assertIn(4.0, heights, "the line has its top where all 30 were in flight")
            self.assertEqual(self.browser.get_log("browser"), [], "no complaint of the browser")
            # The answers are left unread: the server lingers, drained.
            self.wait_for_phase("drained")
            self.assertEqual(self.text("finished"), "30")
            # They are out of the process a moment later.
            self.wait(lambda _: not self.browser.find_element("id", "countdown").is_displayed())
            self.assertEqual(len(read_to_end(client).splitlines()), 30)
        self.assertEqual(process.wait(), 0)
        self.wait_for_phase("gone")
        self.assertEqual(self.text("sentence"), "The process has ended, nothing cut. Waiting for the next one.")
        self.assertEqual(self.read("spoken"), self.text("sentence"))
        self.look("gone", dark=False, width=1000, height=1100)
        others = [entry for entry in self.browser.get_log("browser") if entry["source"] != "network"]
        self.assertEqual(others, [], "the browser complains of nothing but the server's absence")

    def test_long_name(self) -> None:
        """A node's name is shown as it is, and as long as it is, also on a phone."""
        name = "<b>n1</b>" + "x" * 100
        _, admin, _ = self.start(f"--node-id={name}")
        self.browser.get(f"http://127.0.0.1:{admin}/")
        self.wait_for_phase("serving")
        self.assertEqual(self.text("node-id"), f"node {name}")
        self.look("long-name-phone", dark=False, width=360, height=740)

    def test_killed_and_back(self) -> None:
        """A process that goes without a word is missed, and the next one at the same address is shown."""
        process, admin, _ = self.start()
        self.browser.get(f"http://127.0.0.1:{admin}/")
        self.wait_for_phase("serving")
        process.popen.kill()
        self.wait_for_phase("gone")
        self.assertEqual(self.text("sentence"), "The process does not answer any more. Trying again.")
        successor = Process(*RUNNERS["python"], f"--admin=tcp:{admin}:interface=127.0.0.1")
        self.addCleanup(successor.end)
        self.wait_for_phase("serving")

    def activate(self, listener: socket.socket) -> Process:
        """Start a node whose admin endpoint is a socket that we hold."""
        number, admin = str(listener.fileno()), "--admin=systemd:domain=INET:index=0"
        process = Process(
            *(sys.executable, "-c", ACTIVATE, number, *RUNNERS["python"], admin, "--listen", LOCAL),
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(process.end)
        process.ports(2)
        return process

    def test_successor(self) -> None:
        """If another process answers at the address already when one ends, the page goes over to that, never gone."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            first = self.activate(listener)
            self.browser.get(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            self.wait(lambda _: self.text("pid") == f"pid {first.popen.pid}")
            self.browser.execute_script(REMEMBER_PHASES)
            second = self.activate(listener)
            first.signal()
            self.wait(lambda _: self.text("pid") == f"pid {second.popen.pid}")
            self.assertEqual(first.wait(), 0, first.log)
            self.assertEqual(self.text("sentence"), "Taking requests.")
            phases = self.browser.execute_script("return phases")
            self.assertIn("drained", phases)
            self.assertNotIn("gone", phases)
            second.signal()
            self.wait_for_phase("gone")
            self.assertEqual(second.wait(), 0, second.log)

    def test_stuck(self) -> None:
        """A process that is there and does not stir is told from one that has gone."""
        process, admin, _ = self.start()
        self.browser.get(f"http://127.0.0.1:{admin}/")
        self.wait_for_phase("serving")
        process.signal(signal.SIGSTOP)
        self.wait(lambda _: self.text("sentence").startswith("Nothing heard for "))
        process.signal(signal.SIGCONT)
        self.wait(lambda _: self.text("sentence") == "Taking requests.")

    def test_cut(self) -> None:
        """What the deadline cut is named, and stands out."""
        process, admin, port = self.start("--drain-timeout=0.2", "--linger=5")
        self.browser.get(f"http://127.0.0.1:{admin}/")
        self.wait_for_phase("serving")
        with connect(port) as client:
            client.sendall(message("tcp_request", 1, latency_ms=60_000))
            self.wait(lambda _: self.text("in-flight") == "1")
            process.signal()
            self.wait(lambda _: self.text("cut") == "1")
            self.assertEqual(self.text("oldest-title"), "Oldest requests cut")
            self.assertIn("tcp_request 1 from c1", self.text("oldest"))
            self.assertEqual(process.wait(), 1)
        self.wait_for_phase("gone")
        self.assertEqual(self.text("sentence"), "The process has ended, 1 cut. Waiting for the next one.")
