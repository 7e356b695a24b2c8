"""The states of one connection, of all connections together, and of the service.

Each is an Enum of states, an Enum of events, and a literal table: from each state, where each event leads. An event
that a state's row lacks cannot happen in that state. ``drain`` declares its phases in the same way.
"""

from __future__ import annotations

from enum import Enum

__all__ = [
    "CONNECTION",
    "CONNECTIONS",
    "SERVICE",
    "ConnectionEvent",
    "ConnectionState",
    "ConnectionsEvent",
    "ConnectionsState",
    "ServiceEvent",
    "ServiceState",
]


class ConnectionState(Enum):
    """Where one connection is in its life."""

    #: Opened; its client has sent nothing yet.
    NEW = "new"
    #: Its client has sent something.
    TALKING = "talking"
    #: We have begun to close it: nothing that comes in is served any more.
    FINISHING = "finishing"
    #: Closed on both sides, or lost.
    GONE = "gone"


class ConnectionEvent(Enum):
    """What moves a connection on."""

    HEARD = "bytes came in"
    FINISH = "we begin to close it"
    LOST = "its transport says that it is lost"


#: The end of a client's input, and a pause in reading, can come in any state: they are no states.
CONNECTION = {
    ConnectionState.NEW: {
        ConnectionEvent.HEARD: ConnectionState.TALKING,
        ConnectionEvent.FINISH: ConnectionState.FINISHING,
        ConnectionEvent.LOST: ConnectionState.GONE,
    },
    ConnectionState.TALKING: {
        ConnectionEvent.HEARD: ConnectionState.TALKING,
        ConnectionEvent.FINISH: ConnectionState.FINISHING,
        ConnectionEvent.LOST: ConnectionState.GONE,
    },
    ConnectionState.FINISHING: {
        ConnectionEvent.HEARD: ConnectionState.FINISHING,
        ConnectionEvent.FINISH: ConnectionState.FINISHING,
        ConnectionEvent.LOST: ConnectionState.GONE,
    },
    # A protocol may learn of the loss before its transport has stopped to read or to call.
    ConnectionState.GONE: {
        ConnectionEvent.HEARD: ConnectionState.GONE,
        ConnectionEvent.FINISH: ConnectionState.GONE,
        ConnectionEvent.LOST: ConnectionState.GONE,
    },
}


class ConnectionsState(Enum):
    """What a server wants of all its connections."""

    #: They stay as long as their clients like.
    OPEN = "open"
    #: A lame duck: more and more of them are finished, each right behind an answer.
    SHEDDING = "shedding"
    #: The drain has begun: they stay, and new requests on them are refused.
    DRAINING = "draining"
    #: Each is finished as soon as its client waits for no answer and is not asking: the drain has ended, or it has
    #: begun after a lame duck.
    FINISHING = "finishing"
    #: The same, but clients that are asking are not waited for any more.
    IMPATIENT = "impatient"
    #: The deadline has passed: nothing is waited for but answers, not even a busy client's next request.
    GRACE = "grace"


class ConnectionsEvent(Enum):
    """What moves all connections on."""

    LAME_DUCK = "a lame duck begins"
    DRAIN = "the drain begins"
    FINISH = "the drain has ended"
    LOSE_PATIENCE = "clients have had their time to ask"
    END_IS_DUE = "the deadline passes"


CONNECTIONS = {
    ConnectionsState.OPEN: {
        ConnectionsEvent.LAME_DUCK: ConnectionsState.SHEDDING,
        ConnectionsEvent.DRAIN: ConnectionsState.DRAINING,
    },
    ConnectionsState.SHEDDING: {
        ConnectionsEvent.LAME_DUCK: ConnectionsState.SHEDDING,
        ConnectionsEvent.DRAIN: ConnectionsState.FINISHING,
    },
    ConnectionsState.DRAINING: {ConnectionsEvent.FINISH: ConnectionsState.FINISHING},
    ConnectionsState.FINISHING: {
        ConnectionsEvent.FINISH: ConnectionsState.FINISHING,
        ConnectionsEvent.LOSE_PATIENCE: ConnectionsState.IMPATIENT,
        ConnectionsEvent.END_IS_DUE: ConnectionsState.GRACE,
    },
    ConnectionsState.IMPATIENT: {
        ConnectionsEvent.FINISH: ConnectionsState.IMPATIENT,
        ConnectionsEvent.LOSE_PATIENCE: ConnectionsState.IMPATIENT,
        ConnectionsEvent.END_IS_DUE: ConnectionsState.GRACE,
    },
    ConnectionsState.GRACE: {
        ConnectionsEvent.LOSE_PATIENCE: ConnectionsState.GRACE,
        ConnectionsEvent.END_IS_DUE: ConnectionsState.GRACE,
    },
}


class ServiceState(Enum):
    """Where a draining service is."""

    #: Listening, or not started yet.
    SERVING = "serving"
    #: Serving, while readiness fails.
    LAME_DUCK = "lame_duck"
    #: Not listening any more; waiting for the work in flight.
    DRAINING = "draining"
    #: Drained, and not told to end: open connections are refused new work.
    GOING_ON = "going_on"
    #: Closing the connections.
    CLOSING = "closing"
    #: The deadline has passed; the connections that are left have a moment to get their answers out.
    GRACE = "grace"
    #: No connection is left; stopping what the requests needed.
    STOPPING_THE_REST = "stopping_the_rest"
    #: All is over.
    ENDED = "ended"


class ServiceEvent(Enum):
    """What moves a service on."""

    LAME_DUCK = "a lame duck begins"
    DRAIN = "the drain begins"
    GO_ON = "the drain has ended, and nobody wants the service to end"
    CLOSE = "the drain has ended, and so does the service"
    END_IS_DUE = "the deadline passes"
    EMPTY = "the last connection is gone"
    STOPPED = "what the requests needed has stopped"


SERVICE = {
    ServiceState.SERVING: {
        ServiceEvent.LAME_DUCK: ServiceState.LAME_DUCK,
        ServiceEvent.DRAIN: ServiceState.DRAINING,
    },
    ServiceState.LAME_DUCK: {
        ServiceEvent.LAME_DUCK: ServiceState.LAME_DUCK,
        ServiceEvent.DRAIN: ServiceState.DRAINING,
    },
    ServiceState.DRAINING: {
        ServiceEvent.GO_ON: ServiceState.GOING_ON,
        ServiceEvent.CLOSE: ServiceState.CLOSING,
    },
    ServiceState.GOING_ON: {ServiceEvent.CLOSE: ServiceState.CLOSING},
    ServiceState.CLOSING: {
        ServiceEvent.END_IS_DUE: ServiceState.GRACE,
        ServiceEvent.EMPTY: ServiceState.STOPPING_THE_REST,
    },
    ServiceState.GRACE: {ServiceEvent.EMPTY: ServiceState.STOPPING_THE_REST},
    ServiceState.STOPPING_THE_REST: {ServiceEvent.STOPPED: ServiceState.ENDED},
    ServiceState.ENDED: {},
}
