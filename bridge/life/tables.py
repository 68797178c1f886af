"""The life of a job as a table: `(state, event) -> (state, actions)`. Pure; every transition is in this file.

Events that tell *why* something happened carry no reason here: facts are collected beside the table and judged once,
at the end, by `decide`.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a job is in its life."""

    NEW = "new"
    STAGING = "staging"  #: program and inputs go into the share
    BOOTING = "booting"  #: the machine was started, the guest has not spoken yet
    RUNNING = "running"
    COLLECTING = "collecting"  #: the results come out of the share
    REMOVING = "removing"  #: the machine and every trace of it go
    ENDED = "ended"


class Event(enum.Enum):
    """What can happen to a job."""

    BEGIN = "begin"
    STAGED = "staged"
    UP = "up"  #: the guest speaks
    FINISHED = "finished"  #: the guest says that the work is over
    COLLECTED = "collected"
    TROUBLE = "trouble"  #: it cannot go on: an error, a machine that is gone, an interrupt
    REMOVED = "removed"


class Action(enum.Enum):
    """What the loop does; each ends in an event."""

    STAGE = "stage"
    START_MACHINE = "start machine"
    COLLECT = "collect"
    REMOVE_MACHINE = "remove machine"


Step = tuple[State, tuple[Action, ...]]

_GIVE_UP: Step = (State.REMOVING, (Action.REMOVE_MACHINE,))
_COLLECT: Step = (State.COLLECTING, (Action.COLLECT,))


def _stay(state: State) -> Step:
    return state, ()


JOB: dict[State, dict[Event, Step]] = {
    State.NEW: {
        Event.BEGIN: (State.STAGING, (Action.STAGE,)),
    },
    State.STAGING: {
        Event.STAGED: (State.BOOTING, (Action.START_MACHINE,)),
        Event.TROUBLE: _GIVE_UP,
    },
    State.BOOTING: {
        Event.UP: (State.RUNNING, ()),
        Event.FINISHED: _COLLECT,
        Event.TROUBLE: _GIVE_UP,
    },
    State.RUNNING: {
        Event.UP: _stay(State.RUNNING),
        Event.FINISHED: _COLLECT,
        Event.TROUBLE: _GIVE_UP,
    },
    # The guest has said its last word that counts; its machine may end before we end it.
    State.COLLECTING: {
        Event.COLLECTED: _GIVE_UP,
        Event.TROUBLE: _GIVE_UP,
        Event.UP: _stay(State.COLLECTING),
        Event.FINISHED: _stay(State.COLLECTING),
    },
    # What was on its way when the removal began changes nothing any more.
    State.REMOVING: {
        Event.REMOVED: (State.ENDED, ()),
        Event.STAGED: _stay(State.REMOVING),
        Event.COLLECTED: _stay(State.REMOVING),
        Event.TROUBLE: _stay(State.REMOVING),
        Event.UP: _stay(State.REMOVING),
        Event.FINISHED: _stay(State.REMOVING),
    },
    State.ENDED: {},
}


class IllegalEvent(Exception):
    """An event came that the table does not know in this state: a bug of the loop."""

    def __init__(self, state: State, event: Event) -> None:
        legal = ", ".join(known.value for known in JOB[state]) or "nothing"
        super().__init__(f"{event.value!r} cannot happen in state {state.value!r}; legal: {legal}")
        self.state = state
        self.event = event


def step(state: State, event: Event) -> Step:
    """Return the state after `event`, and what is to be done.

    :raise IllegalEvent: the pair is not in the table.
    """
    try:
        return JOB[state][event]
    except KeyError:
        raise IllegalEvent(state, event) from None
