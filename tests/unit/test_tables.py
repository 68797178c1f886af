"""The tables and judgements of the middle."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from bridge.cli.terminal import STEPS
from bridge.errors import HostError
from bridge.life.accounting import Progress, account
from bridge.life.decide import DETAIL_LINES, End, Facts, decide, last_lines
from bridge.life.patience import Idleness, Limits, Patience
from bridge.life.tables import (
    CHECKPOINT,
    JOB,
    MACHINE,
    Action,
    Event,
    IllegalEvent,
    Power,
    PowerEvent,
    Saving,
    SavingEvent,
    State,
    step,
)
from protocol.messages import Checkpoint, CreditReport, Finished, FractionDone, GuestState, Status

from .. import lifecycle

IMPOSSIBLE = {
    State.NEW: set(Event) - {Event.BEGIN},
    State.STAGING: {Event.BEGIN, Event.UP, Event.FINISHED, Event.COLLECTED, Event.REMOVED, Event.LEFT, Event.STAYS},
    State.BOOTING: {Event.BEGIN, Event.STAGED, Event.COLLECTED, Event.REMOVED, Event.LEFT, Event.STAYS},
    State.RUNNING: {Event.BEGIN, Event.STAGED, Event.COLLECTED, Event.REMOVED},
    State.LEAVING: {Event.BEGIN, Event.STAGED, Event.COLLECTED, Event.REMOVED},
    State.COLLECTING: {Event.BEGIN, Event.STAGED, Event.REMOVED},
    State.REMOVING: {Event.BEGIN},
    State.ENDED: set(Event),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_is_decided_on_purpose(state: State, event: Event) -> None:
    if event in IMPOSSIBLE[state]:
        with pytest.raises(IllegalEvent, match=f"'{event.value}' cannot happen in state '{state.value}'"):
            step(JOB, state, event)
    else:
        assert step(JOB, state, event) == JOB[state][event]


@pytest.mark.parametrize(("power", "event"), list(itertools.product(Power, PowerEvent)))
def test_every_pair_of_the_machine_is_decided_on_purpose(power: Power, event: PowerEvent) -> None:
    if event is PowerEvent.STARTED and power in (Power.RUNNING, Power.PAUSED):
        with pytest.raises(IllegalEvent, match="'started' cannot happen"):
            step(MACHINE, power, event)
    else:
        after, actions = step(MACHINE, power, event)
        held = event is PowerEvent.HOLD or (event is not PowerEvent.RELEASE and power in (Power.OFF_HELD, Power.PAUSED))
        assert (after in (Power.OFF_HELD, Power.PAUSED)) == held, "what the client said last counts"
        assert (Action.PAUSE_MACHINE in actions) == (after is Power.PAUSED and power is not Power.PAUSED)
        assert (Action.RESUME_MACHINE in actions) == (power is Power.PAUSED and after is Power.RUNNING)


def test_every_state_has_a_word_for_people() -> None:
    assert set(STEPS) == set(State) - {State.NEW}, "a job begins in that one, and is never told to be there"


def test_the_drawings_in_the_documents_are_those_of_the_tables() -> None:
    assert lifecycle.PAGE.read_text(encoding="utf-8") == lifecycle.page(), "run: make lifecycle"


@pytest.mark.parametrize(("saving", "event"), list(itertools.product(Saving, SavingEvent)))
def test_every_pair_of_a_checkpoint_is_decided_on_purpose(saving: Saving, event: SavingEvent) -> None:
    if (saving, event) in ((Saving.PREPARING, SavingEvent.SAVED), (Saving.SAVING, SavingEvent.READY)):
        with pytest.raises(IllegalEvent):
            step(CHECKPOINT, saving, event)
        return
    after, actions = step(CHECKPOINT, saving, event)
    if event is SavingEvent.STOPPED:
        assert (after, actions) == (Saving.IDLE, ()), "nobody is there to be told"
    elif after is Saving.IDLE and saving is not Saving.IDLE:
        assert actions == (Action.GO_ON,), "however it ended, the guest is told to go on"
    assert (Action.SAVE in actions) == (saving is Saving.PREPARING and event is SavingEvent.READY)
    assert (Action.PREPARE in actions) == (saving is Saving.IDLE and event is SavingEvent.DUE)


def test_every_way_through_the_table_removes_the_machine_before_the_end() -> None:
    ends = [(state, event) for state in State for event, (after, _) in JOB[state].items() if after is State.ENDED]
    assert ends == [(State.REMOVING, Event.REMOVED)]
    for state in State:
        for after, actions in JOB[state].values():
            if after is State.REMOVING and state is not State.REMOVING:
                assert actions == (Action.REMOVE_MACHINE,)


ERROR = HostError("disk full")


@pytest.mark.parametrize(
    ("facts", "end", "message"),
    [
        (Facts(finished=Finished(0), collected=True), End.SUCCESS, "finished"),
        (Facts(finished=Finished(0, "all done"), collected=True), End.SUCCESS, "all done"),
        (Facts(finished=Finished(0), collected=True, machine_gone="off"), End.SUCCESS, "finished"),
        (Facts(finished=Finished(0), collected=True, interrupted=True), End.SUCCESS, "finished"),
        (Facts(finished=Finished(0), guest_error="no"), End.GUEST_FAILED, "the guest cannot run the task: no"),
        (Facts(finished=Finished(0), errors=[ERROR]), End.BRIDGE_FAILED, "disk full"),
        (Facts(finished=Finished(3), errors=[ERROR]), End.PROGRAM_FAILED, "the program ended with code 3"),
        (Facts(finished=Finished(3, "no input")), End.PROGRAM_FAILED, "the program ended with code 3: no input"),
        (Facts(finished=Finished(0), interrupted=True), End.INTERRUPTED, "interrupted"),
        (Facts(aborted=True, interrupted=True, machine_gone="off"), End.ABORTED, "aborted"),
        (Facts(finished=Finished(0), collected=True, aborted=True), End.SUCCESS, "finished"),
        (Facts(guest_error="no task", machine_gone="off"), End.GUEST_FAILED, "the guest cannot run the task: no task"),
        (
            Facts(machine_gone="signal 9", lost="silent"),
            End.MACHINE_FAILED,
            "ended before the program had finished: signal 9",
        ),
        (Facts(lost="the guest never came up"), End.MACHINE_FAILED, "the guest never came up"),
    ],
)
def test_the_fact_that_explains_the_others_is_told(facts: Facts, end: End, message: str) -> None:
    outcome = decide(facts)
    assert outcome.end is end and message in outcome.message


def test_details_are_the_last_lines_and_harmless() -> None:
    text = "\n".join(f"line {n}" for n in range(100)) + "\r\n\x1b[2Jcleared\n\n"
    lines = last_lines(text).split("\n")
    assert len(lines) == DETAIL_LINES
    assert lines[-1] == "\N{REPLACEMENT CHARACTER}[2Jcleared" and lines[-2] == "line 99"


def test_a_guest_is_lost_by_its_own_cpu_time_first() -> None:
    patience = Patience(Limits(cpu_s=10, clock_s=100), cpu_s=5, now=1000)
    assert patience.lost(cpu_s=15, now=1050) is None, "its machine may have got no processor for long"
    assert patience.lost(cpu_s=15.5, now=1051) == "silent for 10 seconds of its machine's CPU time"
    idle = patience.lost(cpu_s=5, now=1101)
    assert idle == "silent for 101 seconds, in which its machine used 0 seconds of CPU time"


def test_progress_is_what_was_said_last() -> None:
    progress = Progress(cpu_seconds=7)
    for message in (
        FractionDone(0.5),
        CreditReport(fpops=10, cpu_seconds=2),
        CreditReport(intops=3),
        Checkpoint(2),
        Status(GuestState.RUNNING, 1),
        FractionDone(0.4),
    ):
        progress = account(progress, message)
    assert progress == Progress(0.4, 7, 2, 10, 3, 2)


def test_a_program_that_does_nothing_hangs_whatever_its_agent_says() -> None:
    """A program that waited for ever used to keep its machine for ever: the agent went on telling that it lives."""
    idleness = Idleness(100)
    told = Progress(fraction_done=0.5, guest_cpu_seconds=7.0)
    assert idleness.hung(told, now=1000) is None
    assert idleness.hung(replace(told, cpu_seconds=90.0, guest_cpu_seconds=7.9), now=1100) is None
    hung = idleness.hung(replace(told, cpu_seconds=99.0, guest_cpu_seconds=7.9), now=1101)
    assert hung == "it has reported nothing for 101 seconds and used no processor"


@pytest.mark.parametrize(
    "work",
    [
        Progress(fraction_done=0.6, guest_cpu_seconds=7.0),
        Progress(fraction_done=0.5, guest_cpu_seconds=8.0),
        Progress(fraction_done=0.5, guest_cpu_seconds=7.0, fpops=1.0),
        Progress(fraction_done=0.5, guest_cpu_seconds=7.0, intops=1.0),
        Progress(fraction_done=0.5, guest_cpu_seconds=7.0, checkpoints=1),
        Progress(fraction_done=0.5),
    ],
)
def test_a_sign_of_work_is_enough(work: Progress) -> None:
    idleness = Idleness(100)
    assert idleness.hung(Progress(fraction_done=0.5, guest_cpu_seconds=7.0), now=1000) is None
    assert idleness.hung(work, now=1101) is None


def test_who_plays_the_guest_may_take_their_time() -> None:
    idleness = Idleness(None)
    told = Progress(guest_cpu_seconds=7.0)
    assert idleness.hung(told, now=0) is None and idleness.hung(told, now=1e9) is None
