"""The life of a job, of its machine and of a checkpoint as three tables: `(state, event) -> (state, actions)`. Pure.

Every transition is in this file. The tables are apart because each goes its own way: a job may be told to stand still
in any state, its machine may not be there yet, and a checkpoint can fail while both go on. Events that tell *why*
something happened carry no reason here: facts are collected beside the tables and judged once, at the end, by `decide`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TypeVar


class State(enum.Enum):
    """Where a job is in its life."""

    NEW = "new"
    STAGING = "staging"  #: program and inputs go into the share
    BOOTING = "booting"  #: the machine was started, the guest has not spoken yet
    RUNNING = "running"
    LEAVING = "leaving"  #: it goes on another time; a last checkpoint is tried
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
    TROUBLE = "trouble"  #: it cannot go on: an error, a machine that is gone, an abort
    QUIT = "quit"  #: it should end soon and go on another time
    LEFT = "left"  #: the last checkpoint was taken, or will not be
    STAYS = "stays"  #: it will not be, and nobody has said that the job must end now
    REMOVED = "removed"


class Power(enum.Enum):
    """Whether the machine runs, and whether it may."""

    OFF = "off"  #: there is none; one that starts may run
    OFF_HELD = "off, held"  #: there is none; one that starts must stand still
    RUNNING = "running"
    PAUSED = "paused"


class PowerEvent(enum.Enum):
    """What can happen to the machine."""

    HOLD = "hold"  #: it must use no processor, says the client
    RELEASE = "release"
    STARTED = "started"
    STOPPED = "stopped"


class Saving(enum.Enum):
    """Where a checkpoint of the machine is."""

    IDLE = "idle"  #: there is none under way
    PREPARING = "preparing"  #: the guest was told to let go of the share
    SAVING = "saving"  #: the machine stands still and is being saved


class SavingEvent(enum.Enum):
    """What can happen to a checkpoint."""

    DUE = "due"
    READY = "ready"  #: nothing holds the machine back from being saved
    SAVED = "saved"  #: the state is whole and recorded
    FAILED = "failed"  #: not this time; the machine runs on, and what was saved before is as it was
    STOPPED = "stopped"  #: there is no machine any more


class Action(enum.Enum):
    """What the loop does; the job's each end in an event."""

    STAGE = "stage"
    START_MACHINE = "start machine"
    LEAVE = "leave"
    COLLECT = "collect"
    REMOVE_MACHINE = "remove machine"
    PAUSE_MACHINE = "pause machine"
    RESUME_MACHINE = "resume machine"
    PREPARE = "prepare a checkpoint"
    SAVE = "save the machine"
    GO_ON = "let the guest go on"


Actions = tuple[Action, ...]
AnyState = TypeVar("AnyState", State, Power, Saving)
AnyEvent = TypeVar("AnyEvent", Event, PowerEvent, SavingEvent)
Table = dict[AnyState, dict[AnyEvent, tuple[AnyState, Actions]]]

_GIVE_UP = (State.REMOVING, (Action.REMOVE_MACHINE,))
_COLLECT = (State.COLLECTING, (Action.COLLECT,))


def _stay(state: AnyState) -> tuple[AnyState, Actions]:
    return state, ()


JOB: Table[State, Event] = {
    State.NEW: {
        Event.BEGIN: (State.STAGING, (Action.STAGE,)),
    },
    State.STAGING: {
        Event.STAGED: (State.BOOTING, (Action.START_MACHINE,)),
        Event.TROUBLE: _GIVE_UP,
        Event.QUIT: _GIVE_UP,
    },
    State.BOOTING: {
        Event.UP: (State.RUNNING, ()),
        Event.FINISHED: _COLLECT,
        Event.TROUBLE: _GIVE_UP,
        Event.QUIT: _GIVE_UP,
    },
    State.RUNNING: {
        Event.UP: _stay(State.RUNNING),
        Event.FINISHED: _COLLECT,
        Event.TROUBLE: _GIVE_UP,
        Event.QUIT: (State.LEAVING, (Action.LEAVE,)),
        Event.LEFT: _stay(State.RUNNING),
        Event.STAYS: _stay(State.RUNNING),
    },
    State.LEAVING: {
        Event.LEFT: _GIVE_UP,
        Event.STAYS: (State.RUNNING, ()),
        Event.TROUBLE: _GIVE_UP,
        Event.FINISHED: _COLLECT,
        Event.UP: _stay(State.LEAVING),
        Event.QUIT: _stay(State.LEAVING),
    },
    # The guest has said its last word that counts; its machine may end before we end it.
    State.COLLECTING: {
        Event.COLLECTED: _GIVE_UP,
        Event.TROUBLE: _GIVE_UP,
        Event.UP: _stay(State.COLLECTING),
        Event.FINISHED: _stay(State.COLLECTING),
        Event.QUIT: _stay(State.COLLECTING),
        Event.LEFT: _stay(State.COLLECTING),
        Event.STAYS: _stay(State.COLLECTING),
    },
    # What was on its way when the removal began changes nothing any more.
    State.REMOVING: {
        Event.REMOVED: (State.ENDED, ()),
        Event.STAGED: _stay(State.REMOVING),
        Event.COLLECTED: _stay(State.REMOVING),
        Event.TROUBLE: _stay(State.REMOVING),
        Event.UP: _stay(State.REMOVING),
        Event.FINISHED: _stay(State.REMOVING),
        Event.QUIT: _stay(State.REMOVING),
        Event.LEFT: _stay(State.REMOVING),
        Event.STAYS: _stay(State.REMOVING),
    },
    State.ENDED: {},
}

MACHINE: Table[Power, PowerEvent] = {
    Power.OFF: {
        PowerEvent.STARTED: (Power.RUNNING, ()),
        PowerEvent.HOLD: (Power.OFF_HELD, ()),
        PowerEvent.RELEASE: _stay(Power.OFF),
        PowerEvent.STOPPED: _stay(Power.OFF),
    },
    Power.OFF_HELD: {
        PowerEvent.STARTED: (Power.PAUSED, (Action.PAUSE_MACHINE,)),
        PowerEvent.RELEASE: (Power.OFF, ()),
        PowerEvent.HOLD: _stay(Power.OFF_HELD),
        PowerEvent.STOPPED: _stay(Power.OFF_HELD),
    },
    Power.RUNNING: {
        PowerEvent.HOLD: (Power.PAUSED, (Action.PAUSE_MACHINE,)),
        PowerEvent.STOPPED: (Power.OFF, ()),
        PowerEvent.RELEASE: _stay(Power.RUNNING),
    },
    Power.PAUSED: {
        PowerEvent.RELEASE: (Power.RUNNING, (Action.RESUME_MACHINE,)),
        PowerEvent.STOPPED: (Power.OFF_HELD, ()),
        PowerEvent.HOLD: _stay(Power.PAUSED),
    },
}

CHECKPOINT: Table[Saving, SavingEvent] = {
    # What was on its way when a checkpoint ended changes nothing any more.
    Saving.IDLE: {
        SavingEvent.DUE: (Saving.PREPARING, (Action.PREPARE,)),
        SavingEvent.READY: _stay(Saving.IDLE),
        SavingEvent.SAVED: _stay(Saving.IDLE),
        SavingEvent.FAILED: _stay(Saving.IDLE),
        SavingEvent.STOPPED: _stay(Saving.IDLE),
    },
    Saving.PREPARING: {
        SavingEvent.READY: (Saving.SAVING, (Action.SAVE,)),
        SavingEvent.FAILED: (Saving.IDLE, (Action.GO_ON,)),
        SavingEvent.STOPPED: _stay(Saving.IDLE),
        SavingEvent.DUE: _stay(Saving.PREPARING),
    },
    Saving.SAVING: {
        SavingEvent.SAVED: (Saving.IDLE, (Action.GO_ON,)),
        SavingEvent.FAILED: (Saving.IDLE, (Action.GO_ON,)),
        SavingEvent.STOPPED: _stay(Saving.IDLE),
        SavingEvent.DUE: _stay(Saving.SAVING),
    },
}


class IllegalEvent(Exception):
    """An event came that the table does not know in this state: a bug of the loop."""

    def __init__(self, state: AnyState, event: AnyEvent, known: Iterable[AnyEvent]) -> None:
        legal = ", ".join(event.value for event in known) or "nothing"
        super().__init__(f"{event.value!r} cannot happen in state {state.value!r}; legal: {legal}")
        self.state: State | Power | Saving = state
        self.event: Event | PowerEvent | SavingEvent = event


def step(table: Table[AnyState, AnyEvent], state: AnyState, event: AnyEvent) -> tuple[AnyState, Actions]:
    """Return the state after `event` in `table`, and what is to be done.

    :raise IllegalEvent: the pair is not in the table.
    """
    try:
        return table[state][event]
    except KeyError:
        raise IllegalEvent(state, event, table[state]) from None
