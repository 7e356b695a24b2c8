"""Who takes the end of this process for the end of the service: under such a supervisor nobody can take its place."""

from __future__ import annotations

from twisted_node.handover._start import Start
from twisted_node.handover._twistd import own_pidfile

__all__ = ["why_not_replaceable"]

_INSTEAD = "stop this process and start the new one instead"


def why_not_replaceable(start: Start, *, tells_systemd: bool) -> str | None:
    """Say why another process cannot take the place of this one, and what to do; None if it can.

    Args:
        start: how this process was started.
        tells_systemd: whether systemd will be told which process is the main one from then on.
    """
    environment = start.environment
    notifies = b"NOTIFY_SOCKET" in environment
    if start.pid == 1:
        return f"this is process 1, with which all others end; {_INSTEAD}"
    if environment.get(b"SYSTEMD_EXEC_PID") == b"%d" % start.pid and not notifies:
        return (
            "systemd takes the end of this process for the service's; use Type=notify and NotifyAccess=main in its "
            "unit, or systemctl restart"
        )
    if notifies and not tells_systemd:
        return (
            "nobody here tells systemd which process is the main one; start a twisted_node.watch.Notifier, "
            f"or {_INSTEAD}"
        )
    if start.parent == 1 and not notifies:
        return f"process 1 has started this one, and takes its end for the service's; {_INSTEAD}"
    if (pidfile := own_pidfile()) is not None:
        return f"the pidfile {pidfile} would go on naming this process; start twistd with --pidfile= the next time"
    return None
