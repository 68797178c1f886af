"""Checkpoints in the life of a task, with a scripted guest that obeys, and one that does not."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from filelock import FileLock

from bridge.errors import HostError, HypervisorError
from bridge.guest.folders import make_anew
from bridge.hypervisors import MachineSpec, Saves
from bridge.job import MachineTask
from bridge.life import checkpoints, loop, restoring, saving
from bridge.life.accounting import Progress, Spent
from bridge.life.checkpoints import (
    COST_FACTOR,
    MOST_TRIES,
    RECORD,
    RETRY_S,
    SPENT,
    Checkpoints,
    SavedState,
    Schedule,
    any_recorded,
    no_room,
    note_spent,
)
from bridge.life.decide import End, Outcome
from bridge.life.forwarding import Nobody, Project
from bridge.life.loop import Limited, TaskLife
from bridge.life.saving import GoingOn
from bridge.life.tables import State
from protocol.codec import encode
from protocol.layout import Share
from protocol.messages import Command, HostState

from ..fakes import FakeApartMachine, FakeCopyingMachine, FakeMachine, FakeSavingMachine, Recorder, Script
from ..patience import AT_MOST_S

RUNNING = "protocol 1\nstate running\nheartbeat 1\n"
Prepare = Callable[[FakeSavingMachine, TaskLife], None]


@dataclass
class Lived:
    """What is left of a life."""

    outcome: Outcome
    machine: FakeSavingMachine
    audience: Recorder
    life: TaskLife

    @property
    def did(self) -> list[str]:
        """What was asked of the machine, without its removal."""
        return [call for call in self.machine.calls if call not in ("remove", "stop")]


class Slot:
    """A slot in which one life follows another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.share = Share.two_folders(directory / "shared")
        self.machine = directory / "machine"
        self.share.host.mkdir(parents=True)
        self.share.guest.mkdir()
        self.machine.mkdir()
        self.saved: list[str] = []
        self.copies: dict[str, list[str]] = {}
        self.staged: dict[str, str] = {}

    def live(
        self,
        *script: tuple[float, Script],
        prepare: Prepare = lambda machine, life: None,
        period_s: float = 1000.0,
        room: Callable[[int], str | None] = lambda more: None,
        lock: Path | None = None,
        outputs: Iterable[str] = (),
        limited: Limited | None = None,
        project: Project | None = None,
        spent: Spent | None = None,
        files: Iterable[str] = (),
        room_for: Callable[[int], str | None] = lambda need: None,
        kind: type[FakeSavingMachine] = FakeCopyingMachine,
    ) -> Lived:
        async def go() -> Lived:
            spec = MachineSpec("vm", self.machine, self.share, None, 256, 1)
            machine = kind(spec, script)
            assert isinstance(machine, Saves)
            machine.saved, machine.copies = list(self.saved), dict(self.copies)
            audience = Recorder()
            job = MachineTask(self.directory / "job.xml", "vm", Path("image"), "worker", outputs=tuple(outputs))
            job = replace(job, checkpoint_files=tuple(files))
            going_on = GoingOn(period_s, room, lock, room_for)

            def stage(seq: int, saved: Mapping[str, Path]) -> None:
                self.staged = {name: path.read_text() for name, path in saved.items()}
                make_anew(self.share)
                (self.share.host / "command").write_bytes(encode(Command(seq, HostState.RUN)))

            life = TaskLife(
                job,
                self.share,
                self.machine,
                machine,
                stage,
                audience,
                limited or Limited(),
                going_on=going_on,
                project=project,
                spent=spent or Spent(),
            )
            prepare(machine, life)
            outcome = await asyncio.wait_for(life.run(), AT_MOST_S)
            self.saved, self.copies = machine.saved, machine.copies
            return Lived(outcome, machine, audience, life)

        return asyncio.run(go())

    @property
    def record(self) -> Checkpoints:
        return Checkpoints(self.machine, {"memory_mb": "256"})


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slot:
    monkeypatch.setattr(restoring, "AGAIN_S", 0.01)
    return Slot(tmp_path)


def at(seconds: float, act: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, act)


def once(condition: Callable[[], object], act: Callable[[], None]) -> None:
    """Do something as soon as `condition` holds."""
    if condition():
        act()
    else:
        at(0.01, lambda: once(condition, act))


def when_running(act: Callable[[TaskLife], None]) -> Prepare:
    """Do something as soon as the job runs."""

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        class Acting(Recorder):
            def state(self, state: State) -> None:
                super().state(state)
                if state is State.RUNNING:
                    act(life)

        life._told.audience = Acting()

    return prepare


def burn(seconds: float) -> Script:
    return lambda machine: setattr(machine, "cpu_seconds", seconds)


def say(name: str, content: str) -> Script:
    return lambda machine: machine.say(name, content)


def test_a_job_that_is_quit_goes_on_where_it_was(slot: Slot) -> None:
    first = slot.live(
        (0.0, say("fraction_done", "0.5\n")), (0.0, burn(40.0)), prepare=when_running(lambda life: life.quit())
    )
    assert first.outcome.end is End.INTERRUPTED and first.life.kept
    assert first.did == ["start", "pause", "save checkpoint-1", "forget"], "what it did now would be lost"
    assert "remove" not in first.machine.calls, "its disk stays"
    assert first.life.progress.checkpoint_cpu_seconds == 40.0

    second = slot.live((0.0, burn(3.0)), (0.1, say("finished", "code 0\n")))
    assert second.outcome.end is End.SUCCESS and not second.life.kept
    assert second.did[0] == "restore checkpoint-1"
    assert second.audience.figures[0].fraction_done == 0.5, "before the guest has said it again"
    assert second.life.progress.cpu_seconds == 43.0, "what was spent before was spent"
    assert second.machine.calls[-1] == "remove"


def credit(seconds: float) -> Script:
    return say("creditreport", f"cpu_seconds {seconds}\n")


def test_the_guests_cpu_time_goes_back_with_a_restore_and_what_was_spent_does_not(slot: Slot) -> None:
    """The guest counts 10 s, is saved, counts to 25, dies; goes on from 10, counts to 12, where it begins anew."""
    slot.live((0.0, credit(10)), (0.0, burn(20.0)), prepare=when_running(lambda life: life.quit()))
    assert slot.record.states[0].progress.checkpoint_guest_cpu_seconds == 10.0

    def dies(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: life.progress.spent == Spent(50.0, 25.0), lambda: machine.die("killed"))

    second = slot.live((0.0, credit(25)), (0.0, burn(30.0)), prepare=dies)
    assert second.life.kept

    def begins_anew(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: life.progress.guest_cpu_seconds == 27.0, lambda: credit(3)(machine))
        once(lambda: life.progress.guest_cpu_seconds == 30.0, lambda: say("finished", "code 0\n")(machine))

    third = slot.live((0.0, credit(12)), prepare=begins_anew)
    told = [figure.guest_cpu_seconds or 0.0 for figure in third.audience.figures]
    assert told[0] == 25.0 and 27.0 in told and told[-1] == 30.0
    assert told == sorted(told), "it never shrinks"


def test_a_job_that_begins_anew_has_spent_what_it_has_spent(slot: Slot) -> None:
    """With nothing to go on from, at least what the client knows was spent."""

    def ends(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: life.progress.guest_cpu_seconds == 104.0, lambda: say("finished", "code 0\n")(machine))

    lived = slot.live((0.0, credit(4)), prepare=ends, spent=Spent(guest_s=100.0))
    assert lived.life.progress.guest_cpu_seconds == 104.0 and lived.life.progress.cpu_seconds == 0.0


@pytest.mark.behaviour("B15")
def test_a_restored_guest_sends_no_trickle_twice_and_one_that_begins_anew_does(slot: Slot) -> None:
    told: list[str] = []

    def live(*numbers: int, other_memory: bool = False) -> None:
        def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
            machine.made_of = {"memory_mb": "512"} if other_memory else machine.made_of
            taken = slot.share.host / "taken"
            taken.unlink(missing_ok=True)
            wanted = f"trickle_up {max(numbers)}\n"
            once(lambda: taken.exists() and wanted in taken.read_text(), lambda: leave(life))

        def leave(life: TaskLife) -> None:
            once(lambda: life._state is State.RUNNING, life.quit)

        trickles = [(0.0, say(f"trickle_up.{number}", f"variety v\ntext {number}\n")) for number in numbers]
        slot.live((0.0, say("status", RUNNING)), *trickles, prepare=prepare, project=Nobody(told.append))

    live(1)
    live(1, 2)
    live(2, 3)
    assert [line[-1] for line in told] == ["1", "2", "3"]
    told.clear()
    live(1, 2, other_memory=True)
    assert [line[-1] for line in told] == ["1", "2"]


def test_commands_of_a_restored_guest_go_on_counting(slot: Slot) -> None:
    slot.live(prepare=when_running(lambda life: life.quit()))
    before = slot.record.states[0].seq
    second = slot.live(prepare=when_running(lambda life: life.quit()))
    assert second.life.kept
    assert slot.record.states[0].seq > before, "a guest ignores a number that is not higher"
    assert [state.tag for state in slot.record.states] == ["checkpoint-2", "checkpoint-1"]


def test_checkpoints_are_taken_when_they_are_due(slot: Slot) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: machine.calls.count("forget") == 3, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live(period_s=0.5, prepare=prepare)
    assert lived.did[1:5] == ["pause", "save checkpoint-1", "resume", "forget"]
    assert len(lived.machine.saved) <= 2, "an older one goes when a newer one is complete"
    assert lived.outcome.end is End.SUCCESS


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("let_go", "no checkpoint this time: the guest holds the share"),
        ("deaf", "no checkpoint this time: the guest has not answered in"),
        ("comes_back", "no checkpoint this time: the share is mounted"),
        ("fail_at", "no checkpoint this time: save checkpoint-1 failed on purpose"),
    ],
)
def test_a_checkpoint_that_fails_harms_nothing(
    slot: Slot, what: str, message: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "ANSWER_WITHIN_S", 0.5 if what == "deaf" else AT_MOST_S)
    wrong = {"let_go": False, "deaf": True, "comes_back": True, "fail_at": "save checkpoint-1"}[what]

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        setattr(machine, what, wrong)
        once(lambda: "no checkpoint this time" in caplog.text, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live((0.0, say("status", RUNNING)), period_s=0.5, prepare=prepare)
    assert lived.outcome.end is End.SUCCESS, "the machine runs on"
    assert message in caplog.text
    assert "checkpoint-1" not in lived.machine.saved
    held = lived.did.count("pause")
    assert lived.did.count("resume") == held


def test_a_last_checkpoint_is_tried_again_but_not_for_ever(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.comes_back = True
        when_running(lambda life: life.quit())(machine, life)

    lived = slot.live(prepare=prepare)
    assert lived.outcome.end is End.INTERRUPTED and not lived.life.kept
    assert caplog.text.count("no checkpoint this time") == saving.LAST_TRIES
    assert lived.machine.calls[-1] == "remove", "there is nothing to go on from"


def test_a_failed_last_checkpoint_leaves_the_one_before(slot: Slot) -> None:
    slot.live((0.0, say("fraction_done", "0.25\n")), prepare=when_running(lambda life: life.quit()))

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.comes_back = True
        when_running(lambda life: life.quit())(machine, life)

    lived = slot.live(prepare=prepare)
    assert lived.life.kept and slot.record.states[0].tag == "checkpoint-1"
    assert slot.live((0.2, say("finished", "code 0\n"))).did[0] == "restore checkpoint-1"


def test_an_abort_waits_for_no_checkpoint_and_keeps_none(slot: Slot) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.deaf = True
        when_running(both)(machine, life)

    def both(life: TaskLife) -> None:
        life.quit()
        life.abort()

    lived = slot.live((0.0, say("status", RUNNING)), prepare=prepare)
    assert lived.outcome.end is End.ABORTED and not lived.life.kept
    assert lived.machine.calls[-1] == "remove"


def test_a_last_checkpoint_that_cannot_be_recorded_is_taken_once_more(
    slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine must run for that: its guest is to let go of the share again."""
    add = Checkpoints.add

    def full(record: Checkpoints, state: SavedState) -> None:
        monkeypatch.setattr(Checkpoints, "add", add)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Checkpoints, "add", full)
    lived = slot.live(prepare=when_running(lambda life: life.quit()))
    assert lived.did == [
        *("start", "pause", "save checkpoint-1", "resume", "forget"),
        *("pause", "save checkpoint-2", "forget"),
    ]
    assert [state.tag for state in slot.record.states] == ["checkpoint-2"]


def test_a_machine_that_is_held_is_released_for_its_last_checkpoint(slot: Slot) -> None:
    def act(life: TaskLife) -> None:
        life.hold()
        at(0.2, life.quit)

    lived = slot.live(prepare=when_running(act))
    assert lived.did == ["start", "pause", "resume", "pause", "save checkpoint-1", "forget"]
    assert lived.life.kept


def test_a_client_that_falls_silent_finds_a_saved_machine_that_stands_still(slot: Slot) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        when_running(lambda life: life.fear())(machine, life)
        once(lambda: "forget" in machine.calls, lambda: at(0.1, life.hope))
        once(lambda: "resume" in machine.calls, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live(prepare=prepare)
    assert lived.outcome.end is End.SUCCESS
    assert lived.did == ["start", "pause", "save checkpoint-1", "forget", "resume"]


def test_a_silent_client_whose_last_word_was_suspend_finds_a_saved_machine(slot: Slot) -> None:
    """The machine used to stand still, so that its guest could not let go of the share, until the client killed it."""

    def act(life: TaskLife) -> None:
        life.hold()
        at(0.1, life.fear)

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        when_running(act)(machine, life)
        once(lambda: "forget" in machine.calls, lambda: at(0.1, life.hope))
        once(lambda: "forget" in machine.calls, lambda: at(0.2, life.release))
        once(lambda: machine.calls.count("resume") == 2, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live(prepare=prepare)
    assert lived.outcome.end is End.SUCCESS
    saved = ["resume", "pause", "save checkpoint-1", "forget"]
    assert lived.did == ["start", "pause", *saved, "resume"], "and it stands still until the client says resume"


def test_all_machines_of_a_silent_client_are_saved(slot: Slot, tmp_path: Path) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        when_running(lambda life: life.fear())(machine, life)
        once(lambda: "forget" in machine.calls, life.hope)
        once(lambda: "resume" in machine.calls, lambda: machine.say("finished", "code 0\n"))

    with FileLock(tmp_path / "lock"):  # the machine of another job is being saved at this moment
        lived = slot.live(prepare=prepare, lock=tmp_path / "lock")
    assert "save checkpoint-1" in lived.did, "all but one used to stand still unsaved, and were killed so"


def test_a_silent_client_gets_a_machine_that_stands_still_even_if_it_cannot_be_saved(
    slot: Slot, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.fail_at = "save checkpoint-1"
        machine.let_go = False
        when_running(lambda life: life.fear())(machine, life)
        once(lambda: "pause" in machine.calls, life.hope)
        once(lambda: "resume" in machine.calls, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live(prepare=prepare)
    assert lived.outcome.end is End.SUCCESS and lived.did == ["start", "pause", "resume"]
    assert caplog.text.count("no checkpoint this time") == saving.LAST_TRIES


def test_a_client_that_falls_silent_after_its_quit_does_not_hold_the_last_checkpoint_up(slot: Slot) -> None:
    def act(life: TaskLife) -> None:
        life.quit()
        life.fear()

    lived = slot.live(prepare=when_running(act))
    assert lived.life.kept, "the machine used to be held, and its guest could not let go of the share"
    assert lived.did == ["start", "pause", "save checkpoint-1", "forget"]


def test_a_machine_that_dies_leaves_its_last_checkpoint(slot: Slot) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: "forget" in machine.calls, lambda: machine.die("signal 9"))

    lived = slot.live((0.0, say("status", RUNNING)), period_s=0.1, prepare=prepare)
    assert lived.outcome.end is End.MACHINE_FAILED and lived.life.kept
    assert slot.live((0.2, say("finished", "code 0\n"))).did[0].startswith("restore checkpoint-")


def test_a_program_that_fails_leaves_nothing(slot: Slot) -> None:
    slot.live(prepare=when_running(lambda life: life.quit()))
    lived = slot.live((0.2, say("finished", "code 3\n")))
    assert lived.outcome.end is End.PROGRAM_FAILED and not lived.life.kept


def test_results_that_cannot_be_brought_home_keep_the_checkpoint(slot: Slot) -> None:
    slot.live(prepare=when_running(lambda life: life.quit()))

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        def home(finished: object) -> None:
            raise HostError("No space left on device")

        life._home = home

    lived = slot.live((0.2, say("finished", "code 0\n")), prepare=prepare)
    assert lived.outcome.end is End.BRIDGE_FAILED and lived.life.kept


def test_the_older_one_serves_when_the_newest_cannot_be_restored(slot: Slot) -> None:
    for _ in range(2):
        slot.live(prepare=when_running(lambda life: life.quit()))
    slot.saved.remove("checkpoint-2")
    lived = slot.live((0.2, say("finished", "code 0\n")))
    assert lived.did[:3] == ["restore checkpoint-2", "restore checkpoint-2", "restore checkpoint-1"]
    assert lived.outcome.end is End.SUCCESS


def test_a_guest_that_never_speaks_after_a_restore_is_given_up(slot: Slot) -> None:
    for _ in range(2):
        slot.live(prepare=when_running(lambda life: life.quit()))

    def mute(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.speaks = False
        once(lambda: machine.calls, lambda: machine.die("signal 9"))

    for _ in range(MOST_TRIES):
        assert slot.live(prepare=mute).did[0] == "restore checkpoint-2"
    assert slot.live((0.2, say("finished", "code 0\n"))).did[0] == "restore checkpoint-1"


def test_a_machine_that_fails_again_and_again_is_given_an_older_state(slot: Slot) -> None:
    """A guest that spoke and hung soon after used to be restored from the same state for ever."""
    for _ in range(2):
        slot.live(prepare=when_running(lambda life: life.quit()))

    def die(machine: FakeMachine) -> None:
        machine.die("signal 9")

    for failures in range(1, MOST_TRIES + 1):
        lived = slot.live((0.2, die))
        assert lived.outcome.end is End.MACHINE_FAILED and lived.did[0] == "restore checkpoint-2"
        assert slot.record.states[0].tries == failures
    assert slot.live((0.2, say("finished", "code 0\n"))).did[0] == "restore checkpoint-1"


def test_a_machine_that_fails_after_a_newer_checkpoint_says_nothing_against_the_older(slot: Slot) -> None:
    slot.live(prepare=when_running(lambda life: life.quit()))

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: "save checkpoint-2" in machine.calls, lambda: at(0.1, lambda: machine.die("signal 9")))

    lived = slot.live((0.0, say("status", RUNNING)), period_s=0.1, prepare=prepare)
    assert lived.outcome.end is End.MACHINE_FAILED
    assert [state.tries for state in slot.record.states] == [0, 0]


def test_trouble_with_all_restores_passes_or_not(slot: Slot) -> None:
    slot.live(prepare=when_running(lambda life: life.quit()))

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.fail_at = "restore"

    for _ in range(MOST_TRIES):
        lived = slot.live(prepare=prepare)
        assert lived.outcome.end is End.BRIDGE_FAILED and isinstance(lived.outcome.error, HypervisorError)
        assert lived.life.kept, "a host without memory, say: nothing is lost"
        assert lived.did == ["restore checkpoint-1"] * 2
    assert slot.live((0.2, say("finished", "code 0\n")), prepare=prepare).did == ["start"]


@pytest.mark.parametrize("where", ["probe", "description", "stage"])
def test_trouble_before_the_machine_keeps_everything(slot: Slot, where: str) -> None:
    """The machine used to be deleted when the hypervisor could not be asked, and the CPU time noted as none."""
    slot.live((0.0, burn(40.0)), prepare=when_running(lambda life: life.quit()))
    note_spent(slot.machine, Spent(43.0))

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        def broken(*_: object) -> None:
            raise OSError("Input/output error")

        if where == "probe":
            machine.fail_at = where
        elif where == "description":
            machine.description = broken  # type: ignore[assignment, method-assign]
        else:
            life._stage = broken

    lived = slot.live(prepare=prepare)
    assert lived.outcome.end is End.BRIDGE_FAILED and lived.life.kept
    assert "remove" not in lived.machine.calls
    assert slot.record.spent().host_s == 43.0, "the note used to be written over with nothing"
    assert slot.live((0.2, say("finished", "code 0\n"))).did[0] == "restore checkpoint-1"


def test_a_quit_before_the_guest_has_spoken_is_no_try(slot: Slot) -> None:
    """A client that was restarted some times while its jobs came up used to lose their checkpoints."""
    slot.live(prepare=when_running(lambda life: life.quit()))

    def mute(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.speaks = False
        once(lambda: machine.calls, life.quit)

    for _ in range(MOST_TRIES + 1):
        assert slot.live(prepare=mute).life.kept
    assert slot.record.states[0].tries == 0
    assert slot.live((0.2, say("finished", "code 0\n"))).did[0] == "restore checkpoint-1"


def test_trouble_that_passes_at_once_costs_no_checkpoint(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older one used to be restored when a QEMU that was being killed still held the disk."""
    monkeypatch.setattr(restoring, "AGAIN_S", 0.1)
    for _ in range(2):
        slot.live(prepare=when_running(lambda life: life.quit()))

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.fail_at = "restore"
        once(lambda: machine.calls, lambda: setattr(machine, "fail_at", None))

    lived = slot.live((0.2, say("finished", "code 0\n")), prepare=prepare)
    assert lived.did[:2] == ["restore checkpoint-2"] * 2


def test_a_state_that_works_is_not_let_go_for_one_that_does_not(slot: Slot) -> None:
    """After a restore of the older one, the next checkpoint used to push it out and keep the broken one."""
    for _ in range(2):
        slot.live(prepare=when_running(lambda life: life.quit()))
    slot.saved.remove("checkpoint-2")
    slot.live(prepare=when_running(lambda life: life.quit()))
    assert [state.tag for state in slot.record.states] == ["checkpoint-3", "checkpoint-1"]
    assert slot.saved == ["checkpoint-1", "checkpoint-3"]


def test_strays_go_at_a_restore(slot: Slot) -> None:
    slot.live(prepare=when_running(lambda life: life.quit()))
    slot.saved.append("checkpoint-2")  # whole, but the bridge was killed before it was recorded
    lived = slot.live(prepare=when_running(lambda life: life.quit()))
    assert lived.life.kept and slot.record.states[0].tag == "checkpoint-2", "its tag is free again"
    assert lived.did[:2] == ["restore checkpoint-1", "forget"]


def test_a_state_that_cannot_be_recorded_goes_at_once(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    """It used to stay on a disk that was too full for its record."""

    def room(more: int) -> None:
        (slot.machine / f".{RECORD}.tmp").mkdir(exist_ok=True)

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: "no checkpoint this time" in caplog.text, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live((0.0, say("status", RUNNING)), period_s=0.1, room=room, prepare=prepare)
    assert lived.did[:5] == ["start", "pause", "save checkpoint-1", "resume", "forget"]
    assert lived.machine.saved == []


# The copy of the disk


def quit_often(slot: Slot, times: int) -> None:
    """Take so many checkpoints, the last one with a quit."""

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: sum(call.startswith("save") for call in machine.calls) >= times, life.quit)

    slot.live((0.0, say("status", RUNNING)), period_s=0.05, prepare=prepare)


@pytest.fixture
def every_third(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(loop, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(checkpoints, "COPY_EVERY", 3)
    monkeypatch.setattr(checkpoints, "COST_FACTOR", 1.0)


@pytest.mark.usefixtures("every_third")
def test_every_so_many_checkpoints_the_disk_is_copied(slot: Slot) -> None:
    quit_often(slot, 7)
    copy = slot.record.copy
    assert copy is not None and copy.tag == "checkpoint-6" and list(slot.copies) == ["checkpoint-6"]
    assert "checkpoint-6" in slot.copies["checkpoint-6"]
    assert slot.record.states[0].tag != "checkpoint-6"


@pytest.mark.usefixtures("every_third")
def test_the_copy_serves_when_the_disk_is_broken(slot: Slot) -> None:
    """Both states that are kept lie in one file: when that broke, the job used to begin anew."""
    quit_often(slot, 5)
    newer = [state.tag for state in slot.record.states]
    slot.saved = []
    for _ in range(MOST_TRIES):
        lived = slot.live()
        assert lived.outcome.end is End.BRIDGE_FAILED and lived.life.kept, "it may be the host's trouble, which passes"
        assert slot.copies and not any(call.startswith("put back") for call in lived.did)
        assert {call.removeprefix("restore ") for call in lived.did} == set(newer)
    lived = slot.live((0.2, say("finished", "code 0\n")))
    assert lived.did[:2] == ["put back checkpoint-3", "restore checkpoint-3"]
    assert lived.outcome.end is End.SUCCESS


@pytest.mark.usefixtures("every_third")
def test_a_copy_that_was_put_back_before_the_power_went_is_found(slot: Slot) -> None:
    quit_often(slot, 5)
    record = slot.record
    for state in list(record.states):
        record.drop(state)
    slot.saved = slot.copies.pop("checkpoint-3")
    assert slot.live((0.2, say("finished", "code 0\n"))).did[:2] == ["put back checkpoint-3", "restore checkpoint-3"]


@pytest.mark.usefixtures("every_third")
def test_a_broken_copy_is_given_up_like_any_other(slot: Slot) -> None:
    quit_often(slot, 5)
    slot.saved, slot.copies["checkpoint-3"] = [], []
    for _ in range(2 * MOST_TRIES):
        assert slot.live().life.kept
    assert slot.live((0.2, say("finished", "code 0\n"))).did == ["start"]


@pytest.mark.usefixtures("every_third")
@pytest.mark.parametrize("where", ["copy checkpoint-3", "sync checkpoint-3"])
def test_a_copy_that_fails_costs_no_checkpoint(slot: Slot, where: str, caplog: pytest.LogCaptureFixture) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.fail_at = where
        once(lambda: "save checkpoint-4" in machine.calls, life.quit)

    lived = slot.live((0.0, say("status", RUNNING)), period_s=0.05, prepare=prepare)
    assert "the machine's disk is not copied" in caplog.text and "checkpoint checkpoint-3 taken" in caplog.text
    assert "copy checkpoint-4" in lived.did and list(slot.copies) == ["checkpoint-4"], "the next one is copied"


@pytest.mark.usefixtures("every_third")
def test_there_must_be_room_for_a_copy(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: "save checkpoint-4" in machine.calls, life.quit)

    lived = slot.live(
        (0.0, say("status", RUNNING)),
        period_s=0.05,
        prepare=prepare,
        room=lambda more: "the disk is full" if more >= 1000 else None,
    )
    assert "is not copied: the disk is full" in caplog.text
    assert not any(call.startswith("copy") for call in lived.did) and slot.record.states


@pytest.mark.usefixtures("every_third")
def test_states_that_are_apart_are_not_copied(slot: Slot) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: "save checkpoint-4" in machine.calls, life.quit)

    lived = slot.live((0.0, say("status", RUNNING)), period_s=0.05, prepare=prepare, kind=FakeApartMachine)
    assert lived.did.count("pause") == sum(call.startswith("save") for call in lived.did) >= 4
    assert not any(call.startswith(("copy", "sync")) for call in lived.did) and slot.record.copy is None
    assert {command.away for command in lived.machine.obeyed if command.state is HostState.PREPARE} == {2.5}
    states = [state.tag for state in slot.record.states]
    slot.saved = []
    for _ in range(MOST_TRIES):
        assert slot.live(kind=FakeApartMachine).life.kept
    assert slot.live((0.2, say("finished", "code 0\n")), kind=FakeApartMachine).did == ["start"], states


@pytest.mark.usefixtures("every_third")
def test_there_must_be_room_for_the_disk_of_a_state_that_is_apart(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: "no checkpoint this time" in caplog.text, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live(
        (0.0, say("status", RUNNING)),
        period_s=0.05,
        prepare=prepare,
        room=lambda more: "the disk is full" if more >= 5000 else None,
        kind=FakeApartMachine,
    )
    assert "no checkpoint this time: the disk is full" in caplog.text and lived.did == ["start"]


def test_a_lock_that_cannot_be_had_is_no_reason(slot: Slot, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A project's folder that may not be written used to mean that there never was a checkpoint."""
    lived = slot.live(lock=tmp_path, prepare=when_running(lambda life: life.quit()))
    assert lived.life.kept and slot.record.states
    assert "no turns are taken with the other machines" in caplog.text


def test_a_checkpoint_that_fails_unexpectedly_has_failed(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    """A guest's folders, nested deeply, used to leave a checkpoint under way for ever."""

    def room(more: int) -> str | None:
        raise RecursionError("maximum recursion depth exceeded")

    lived = slot.live(room=room, prepare=when_running(lambda life: life.quit()))
    assert lived.outcome.end is End.INTERRUPTED
    assert caplog.text.count("no checkpoint this time: RecursionError") == saving.LAST_TRIES


def test_what_the_guest_says_is_told_once(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    full = f"{RUNNING}message cannot write out/a: No space left on device\n"
    again = full.replace("heartbeat 1", "heartbeat 2")
    script = (0.0, say("status", full)), (0.2, say("status", again)), (0.4, say("finished", "code 0\n"))
    slot.live(*script, prepare=lambda machine, life: setattr(machine, "deaf", True))
    assert caplog.text.count("the guest says: cannot write out/a: No space left on device") == 1


def test_another_kind_of_machine_begins_anew(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    slot.live((0.0, burn(5.0)), prepare=when_running(lambda life: life.quit()))

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.made_of = {"memory_mb": "512"}

    lived = slot.live((0.2, say("finished", "code 0\n")), prepare=prepare)
    assert lived.did[0] == "start"
    assert "memory_mb was 256 and is 512" in caplog.text


def test_a_machine_that_another_one_makes_wait(slot: Slot, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: "no checkpoint this time" in caplog.text, lambda: machine.say("finished", "code 0\n"))

    with FileLock(tmp_path / "lock"):
        lived = slot.live((0.0, say("status", RUNNING)), period_s=0.1, lock=tmp_path / "lock", prepare=prepare)
    assert "another machine of this host is being saved" in caplog.text and lived.machine.saved == []


def test_no_room_is_no_checkpoint(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        once(lambda: "no checkpoint this time" in caplog.text, lambda: machine.say("finished", "code 0\n"))

    lived = slot.live(
        (0.0, say("status", RUNNING)), period_s=0.1, room=lambda more: "the disk is full", prepare=prepare
    )
    assert "no checkpoint this time: the disk is full" in caplog.text
    assert lived.did == ["start"], "the guest is not even asked"


# The record on disk

STATE = SavedState("checkpoint-1", 2, Progress(0.5, 12.0, None, 1e9, None, 3, 12.0))


def test_the_record_comes_back_as_it_was(slot: Slot) -> None:
    record = slot.record
    assert record.next_tag() == "checkpoint-1"
    record.add(STATE)
    record.add(replace(STATE, tag=record.next_tag()))
    record.add(replace(STATE, tag=record.next_tag()))
    again = slot.record
    assert [state.tag for state in again.states] == ["checkpoint-3", "checkpoint-2"]
    assert again.states[0].progress == STATE.progress
    assert again.next_tag() == "checkpoint-4", "a tag is never used twice"
    assert any_recorded(slot.machine)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"format": "vmbridge-checkpoints 1", "number": 1, "description": {"memory_mb": "256"}, "states": [{}], '
        b'"copy": null}',
        b'{"format": "vmbridge-checkpoints 1", "number": 1, "description": {"memory_mb": "256"}, "states": [], '
        b'"copy": {"tag": "checkpoint-../../1", "seq": 1, "tries": 0, "progress": {}}}',
        b'{"format": "vmbridge-checkpoints 1", "number": "x", "description": {}, "states": []}',
        b'{"format": "vmbridge-checkpoints 9", "number": 7, "description": {"memory_mb": "256"}, "states": [1]}',
    ],
)
def test_a_broken_record_is_no_record(slot: Slot, content: bytes) -> None:
    (slot.machine / RECORD).write_bytes(content)
    assert slot.record.known == []


def test_a_record_that_cannot_be_read_is_no_broken_one(slot: Slot) -> None:
    """A disk that could not be read for a moment used to cost all checkpoints."""
    (slot.machine / RECORD).mkdir()
    with pytest.raises(OSError):
        _ = slot.record


def test_a_record_that_cannot_be_written_is_as_it_was(slot: Slot) -> None:
    record = slot.record
    record.add(STATE)
    (slot.machine / f".{RECORD}.tmp").mkdir()
    with pytest.raises(OSError):
        record.add(replace(STATE, tag="checkpoint-2"))
    assert [state.tag for state in record.states] == ["checkpoint-1"]
    assert json.loads((slot.machine / RECORD).read_bytes())["states"][0]["tag"] == "checkpoint-1"


@pytest.mark.parametrize(("noted", "spent"), [(None, 12.0), ("99.5\n", 99.5), ("3\n", 12.0), ("", 12.0), ("x", 12.0)])
def test_what_was_spent_never_shrinks(slot: Slot, noted: str | None, spent: float) -> None:
    slot.record.add(STATE)
    if noted is not None:
        (slot.machine / SPENT).write_text(noted)
    assert slot.record.spent().host_s == spent


def test_when_the_next_one_is_due() -> None:
    schedule = Schedule(60, now=1000)
    assert not schedule.due(1059) and schedule.due(1060)
    schedule.taken(1060, cost_s=0.1)
    assert not schedule.due(1119) and schedule.due(1120)
    schedule.taken(1120, cost_s=10)
    assert not schedule.due(1120 + 10 * COST_FACTOR - 1), "one that costs much comes seldom"
    schedule.failed(2000)
    assert schedule.due(2000 + RETRY_S)
    schedule.failed(2100)
    assert not schedule.due(2100 + RETRY_S) and schedule.due(2100 + 2 * RETRY_S)


def test_what_fits(tmp_path: Path) -> None:
    folder = tmp_path / "slot" / "machine"
    folder.mkdir(parents=True)
    (folder / "disk").write_bytes(b"x" * (3 << 20))
    assert no_room(folder, 1 << 20, 0) is None
    assert no_room(folder, 1 << 20, 5 << 20) is None
    assert no_room(folder, 1 << 20, 4 << 20) is None
    assert no_room(folder, 2 << 20, 4 << 20) == "it may need 2 MiB beside 3 of the 4 of the job"
    assert "are free" in (no_room(folder, 1 << 60, 0) or "")


def test_the_guest_is_told_the_time_when_its_clock_fell_behind(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.life.holding.CLOCK_BEHIND_S", 0.3)

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        def act(life: TaskLife) -> None:
            life.hold()
            at(0.5, life.release)

        when_running(act)(machine, life)
        once(lambda: "resume" in machine.calls, lambda: at(0.1, lambda: machine.say("finished", "code 0\n")))

    begun = time.time()
    slot.live(prepare=prepare)
    command = (slot.share.host / "command").read_text().split("\n")
    assert command[1] == "seq 2" and float(command[3].split()[1]) >= begun
