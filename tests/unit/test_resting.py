"""Programs that have asked to be started again later: when the job leaves for it, and when it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.guest.said import Postponed
from bridge.life.decide import End, Outcome
from bridge.life.loop import Limited, TaskLife
from bridge.life.program_state import newest_set
from bridge.life.resting import SHORT_S, Rest
from bridge.life.tables import State
from bridge.verdict import TemporaryExit as Exit
from bridge.verdict import verdict_of
from protocol.messages import TemporaryExit

from ..fakes import FakeMachine, FakeObeyingMachine, FakeSavingMachine
from .test_life import live
from .test_program_state import Unsaved
from .test_saving import RUNNING, Lived, Slot, at, once, say, slot

__all__ = ["slot"]

FOR_LONG = "delay 1800\nmessage no licence\nnotice 1\n"


@pytest.mark.parametrize(
    ("said", "later_s", "postponed"),
    [
        (TemporaryExit(1800, "no licence"), 0, Postponed(1800, "no licence")),
        (TemporaryExit(1800, "no licence", 1), 300, Postponed(1500, "no licence", True)),
        (TemporaryExit(SHORT_S), 0, Postponed(60, "the program asks to be started again later")),
        (TemporaryExit(SHORT_S), 0.5, None),
        (TemporaryExit(1800), 1741, None),
        (TemporaryExit(5, "plug in the power", 7), 1, Postponed(60, "plug in the power", True)),
        (TemporaryExit(5, "plug in the power", 1), 6, None),
        (TemporaryExit(0, "now", 1), 0, None),
        (TemporaryExit(600, "\t a \t\tb \u202e\x85c", 0), 0, Postponed(600, "a b \ufffd c")),
        (TemporaryExit(600, " \t "), 0, Postponed(600, "the program asks to be started again later")),
    ],
)
def test_which_rest_is_worth_leaving_for(said: TemporaryExit, later_s: float, postponed: Postponed | None) -> None:
    assert Rest(said, 1000.0).postponed(1000.0 + later_s) == postponed


def leave(slot: Slot, content: str = FOR_LONG) -> Lived:
    return slot.live((0.0, say("status", RUNNING)), (0.0, say("temporary_exit", content)))


@pytest.mark.behaviour("B23")
def test_a_job_leaves_with_its_machine_saved_and_comes_back(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first = leave(slot)
    assert first.outcome.end is End.POSTPONED and first.life.kept
    assert "save checkpoint-1" in first.did and "remove" not in first.machine.calls
    assert "the program rests, to start again in 1800 seconds: no licence" in caplog.text
    told = verdict_of(first.outcome)
    assert isinstance(told, Exit) and 1700 < told.delay_s <= 1800
    assert (told.reason, told.notice) == ("no licence", True)
    second = slot.live((0.1, say("finished", "code 0\n")))
    assert second.did[0] == "restore checkpoint-1" and second.outcome.end is End.SUCCESS


def test_who_is_started_too_early_leaves_again_with_what_is_left(slot: Slot) -> None:
    leave(slot)
    second = leave(slot, "delay 1200\nmessage no licence\n")
    assert second.did[0] == "restore checkpoint-1" and second.outcome.end is End.POSTPONED
    assert 1100 < second.outcome.delay_s <= 1200 and not second.outcome.notice


def test_a_short_rest_is_passed_in_the_machine(slot: Slot) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: life._resting.left_s(0.0), lambda: at(2.2, lambda: go_on(machine)))

    def go_on(machine: FakeSavingMachine) -> None:
        (machine.guest / "temporary_exit").unlink()
        machine.say("finished", "code 0\n")

    lived = slot.live((0.0, say("status", RUNNING)), (0.0, say("temporary_exit", "delay 30\n")), prepare=prepare)
    assert lived.outcome.end is End.SUCCESS and lived.machine.saved == []


def test_a_machine_that_cannot_be_saved_is_not_left(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    """All that the program has done would be lost."""
    caplog.set_level("INFO")

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.let_go = False
        once(lambda: "the program rests in it" in caplog.text, lambda: go_on(machine, life))

    def go_on(machine: FakeSavingMachine, life: TaskLife) -> None:
        assert life._facts.postponed is None
        at(2.2, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live((0.0, say("status", RUNNING)), (0.0, say("temporary_exit", FOR_LONG)), prepare=prepare)
    assert lived.outcome.end is End.SUCCESS
    assert caplog.text.count("running -> leaving") == 1, "it is not tried again and again"
    assert "leaving -> running: stays" in caplog.text


def test_a_client_that_says_quit_meanwhile_is_obeyed(slot: Slot) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.let_go = False
        once(lambda: life._state is State.LEAVING, life.quit)

    lived = slot.live((0.0, say("status", RUNNING)), (0.0, say("temporary_exit", FOR_LONG)), prepare=prepare)
    assert lived.outcome == Outcome(End.INTERRUPTED, "interrupted before the results were complete")


@pytest.mark.parametrize(("code", "end"), [(0, End.SUCCESS), (3, End.PROGRAM_FAILED)])
def test_an_end_meanwhile_is_the_end(slot: Slot, code: int, end: End) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.deaf = True
        once(lambda: life._state is State.LEAVING, lambda: machine.say("finished", f"code {code}\n"))

    lived = slot.live((0.0, say("status", RUNNING)), (0.0, say("temporary_exit", FOR_LONG)), prepare=prepare)
    assert lived.outcome.end is end


def test_without_a_client_the_guest_rests_in_its_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And that is no hung program, neither while it lasts nor just after it."""
    caplog.set_level("INFO")

    def prepare(machine: FakeMachine, life: TaskLife) -> None:
        once(lambda: life._resting.left_s(0.0), lambda: at(2.2, lambda: wake(machine, life)))

    def wake(machine: FakeMachine, life: TaskLife) -> None:
        (machine.guest / "temporary_exit").unlink()
        once(lambda: not life._resting.left_s(0.0), lambda: machine.say("finished", "code 0\n"))

    script = (say("creditreport", "cpu_seconds 2\n"), say("temporary_exit", FOR_LONG))
    lived = live(tmp_path, *((0.0, act) for act in script), limited=Limited(hung_s=1.2), prepare=prepare)
    assert lived.outcome.end is End.SUCCESS
    assert caplog.text.count("the program rests, to start again in 1800 seconds: no licence") == 1


def test_a_rest_that_should_be_over_excuses_no_hung_program(tmp_path: Path) -> None:
    script = (say("creditreport", "cpu_seconds 2\n"), say("temporary_exit", "delay 1\n"))
    lived = live(tmp_path, *((0.0, act) for act in script), limited=Limited(hung_s=1.2))
    assert lived.outcome.end is End.MACHINE_FAILED and "the program hangs" in lived.outcome.message


def test_where_no_machine_is_saved_what_the_program_has_saved_must_do(tmp_path: Path) -> None:
    def prepare(machine: FakeObeyingMachine, life: TaskLife) -> None:
        machine.state = {"state": "x"}
        once(lambda: life._state is State.RUNNING, lambda: machine.say("temporary_exit", FOR_LONG))

    lived = Unsaved(tmp_path).live(prepare, ("state",))
    assert lived.outcome.end is End.POSTPONED and lived.life.kept
    newest = newest_set(tmp_path / "machine")
    assert newest is not None and newest.files["state"].read_text() == "x"


def test_where_nothing_was_saved_the_job_stays(tmp_path: Path) -> None:
    def prepare(machine: FakeObeyingMachine, life: TaskLife) -> None:
        once(lambda: life._state is State.RUNNING, lambda: machine.say("temporary_exit", FOR_LONG))
        once(lambda: life._resting._stays_until, lambda: machine.say("finished", "code 0\n"))

    assert Unsaved(tmp_path).live(prepare, ("state",)).outcome.end is End.SUCCESS


def test_what_breaks_a_rule_is_told_and_means_nothing(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: life._complaints, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live((0.0, say("status", RUNNING)), (0.0, say("temporary_exit", "delay 1e10\n")), prepare=prepare)
    assert lived.outcome.end is End.SUCCESS and "temporary_exit is not taken: delay is '1e10'" in caplog.text
