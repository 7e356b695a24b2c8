"""A line with a delay between two network namespaces, for what happens at a distance: measured here, and tested.

Packets are carried from one side to the other by this process, each after so many seconds: not every kernel can delay
them itself. Needs root, ``ip`` and /dev/net/tun.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import select
import shutil
import struct
import subprocess
import threading
import time
from types import TracebackType

__all__ = ["FAR", "FAR6", "DelayLine", "why_not"]

#: The server's addresses, on the far side.
FAR, FAR6 = "10.213.0.2", "fd00:213::2"
_ADDRESSES = {"near": ("10.213.0.1/24", "fd00:213::1/64"), "far": (f"{FAR}/24", f"{FAR6}/64")}

# From linux/sched.h and linux/if_tun.h.
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000

_numbers = itertools.count(1)


def why_not() -> str | None:
    """Say why there can be no line here; None if there can."""
    if os.getuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no ip command"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    return None


class DelayLine:
    """Two namespaces, and a line between them while the ``with`` block runs.

    Args:
        round_trip: seconds from one side to the other and back.
    """

    def __init__(self, round_trip: float) -> None:
        self._seconds = round_trip / 2
        name = f"line-{os.getpid()}-{next(_numbers)}"
        self._namespaces = {side: f"{name}-{side}" for side in _ADDRESSES}
        self._devices: dict[str, int] = {}
        self._stopped, self._stop = os.pipe()
        self._carrier = threading.Thread(target=self._carry, daemon=True)

    def command(self, side: str) -> list[str]:
        """Return what to put before a command to run it on one side, ``near`` or ``far``."""
        return ["ip", "netns", "exec", self._namespaces[side]]

    def __enter__(self) -> DelayLine:
        try:
            for side, namespace in self._namespaces.items():
                subprocess.run(["ip", "netns", "add", namespace], check=True)
                opener = threading.Thread(target=self._open, args=(side, namespace))
                opener.start()
                opener.join()
                if side not in self._devices:
                    raise OSError(f"there is no device in {namespace}")
        except BaseException:
            self._remove()
            raise
        self._carrier.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stop)
        self._carrier.join()
        self._remove()

    def _open(self, side: str, namespace: str) -> None:
        """Open a device inside a namespace; only the calling thread moves there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}", encoding="ascii") as handle:
            if libc.setns(handle.fileno(), _CLONE_NEWNET):
                return
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", b"line", _IFF_TUN | _IFF_NO_PI))
        # Without nodad an IPv6 address is of no use for its first second.
        addresses = [f"addr add {_ADDRESSES[side][0]} dev line", f"addr add {_ADDRESSES[side][1]} dev line nodad"]
        for command in (*addresses, "link set line up txqueuelen 5000", "link set lo up"):
            subprocess.run(["ip", *command.split()], check=True)
        self._devices[side] = device

    def _carry(self) -> None:
        """Carry packets over until the line is taken down."""
        near, far = self._devices["near"], self._devices["far"]
        on_the_way: list[tuple[float, int, int, bytes]] = []
        readable = select.poll()
        for descriptor in (near, far, self._stopped):
            readable.register(descriptor, select.POLLIN)
        while True:
            while on_the_way and on_the_way[0][0] <= time.monotonic():
                *_, device, packet = heapq.heappop(on_the_way)
                with contextlib.suppress(OSError):
                    os.write(device, packet)
            wait = max(0.0, (on_the_way[0][0] - time.monotonic()) * 1000) if on_the_way else None
            for device, _ in readable.poll(wait):
                if device == self._stopped:
                    return
                with contextlib.suppress(BlockingIOError):
                    # Not for ever: what has arrived is due meanwhile.
                    for _ in range(64):
                        packet = os.read(device, 2048)
                        due = time.monotonic() + self._seconds
                        heapq.heappush(on_the_way, (due, next(_numbers), far if device == near else near, packet))

    def _remove(self) -> None:
        os.close(self._stopped)
        for device in self._devices.values():
            os.close(device)
        for namespace in self._namespaces.values():
            subprocess.run(["ip", "netns", "del", namespace], check=False, stderr=subprocess.DEVNULL)
