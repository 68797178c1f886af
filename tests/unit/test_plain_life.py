"""The life of a task whose guest writes plain files: the real loop, watch and share, a scripted guest, no machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bridge.guest import plain, steady, triggers
from bridge.guest.plain import PlainWay, output_links, stage_plain
from bridge.hypervisors import SWITCHED_OFF, MachineSpec
from bridge.job import MachineTask, PlainGuest
from bridge.life import loop
from bridge.life.checkpoints import read_spent
from bridge.life.decide import End, Outcome
from bridge.life.forwarding import Nobody
from bridge.life.loop import Limited, TaskLife
from bridge.life.patience import Limits
from bridge.life.saving import GoingOn
from bridge.verdict import Finish, TemporaryExit, verdict_of
from protocol.layout import Share

from ..fakes import FakeMachine, FakeSavingMachine, Recorder, Script
from ..patience import AT_MOST_S

GUEST = PlainGuest(
    fraction_done_filename="progress",
    heartbeat_filename="beat",
    completion_trigger_file="shutdown",
    temporary_exit_trigger_file="later",
    trickle_trigger_files=("news",),
    intermediate_upload_files=("early.dat",),
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOOK_EVERY_S", 0.02)
    for module in (plain, steady, triggers):
        monkeypatch.setattr(module, "STEADY_S", 0.05)
    monkeypatch.setattr(triggers, "UPLOAD_STEADY_S", 0.05)


@dataclass
class Slot:
    """A slot whose job has a plain guest, and what came of its last life."""

    root: Path
    guest: PlainGuest = GUEST

    def __post_init__(self) -> None:
        self.directory = self.root / "slot"
        self.share = Share.one_folder(self.directory / "shared")
        self.machine = self.directory / "machine"
        self.machine.mkdir(parents=True)
        (self.root / "project").mkdir()
        for name in ("early.dat", "out.dat"):
            (self.directory / name).symlink_to(f"../project/{name}")
        self.told: list[str] = []

    def live(
        self,
        *script: tuple[float, Script],
        prepare: Callable[[FakeMachine, TaskLife], None] = lambda machine, life: None,
        limited: Limited | None = None,
        kind: type[FakeMachine] = FakeSavingMachine,
    ) -> Outcome:
        async def go() -> Outcome:
            task = MachineTask(
                self.directory / "vbox_job.xml", "vm", Path("image"), "", plain=self.guest, resolve=Path.resolve
            )
            task = replace(task, outputs=output_links(task, self.guest))
            machine = kind(MachineSpec("vm", self.machine, self.share, None, 256, 1), script)

            def stage(seq: int, saved: Mapping[str, Path]) -> None:
                stage_plain(task, self.guest, self.share, self.machine, None)

            self.audience = Recorder()
            self.life = TaskLife(
                *(task, self.share, self.machine, machine, stage, self.audience),
                limited or Limited(boot=None, silence=None, hung_s=None),
                going_on=GoingOn(0.05, lambda more: None),
                project=Nobody(self.told.append),
                way=PlainWay(self.guest),
            )
            prepare(machine, self.life)
            outcome = await asyncio.wait_for(self.life.run(), AT_MOST_S)
            self.calls = machine.calls
            return outcome

        return asyncio.run(go())


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path)


def echo(name: str, content: str) -> Script:
    """Write a file as such a guest does, in place."""

    def act(machine: FakeMachine) -> None:
        (machine.guest / name).write_text(content)

    return act


def after(condition: Callable[[], bool], act: Callable[[], object]) -> None:
    """Do `act` as soon as `condition` holds."""

    def look() -> None:
        if condition():
            act()
        else:
            asyncio.get_running_loop().call_later(0.01, look)

    look()


def test_a_job_from_beginning_to_end(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    def end(machine: FakeMachine, life: TaskLife) -> None:
        after(lambda: len(slot.told) == 2, lambda: echo("shutdown", "0\n1\nwell done\n")(machine))

    outcome = slot.live(
        (0.01, echo("progress", "0.5\n")),
        (0.02, echo("news", "<energy>-4.25</energy>\n")),
        (0.03, echo("early.dat", "half of the result\n")),
        (0.04, echo("out.dat", "all of it\n")),
        (0.05, echo("mine", "state\n")),
        prepare=end,
    )
    assert (outcome.end, outcome.message, outcome.notice) == (End.SUCCESS, "well done", True)
    assert slot.audience.figures[-1].fraction_done == 0.5
    assert slot.told == ["trickle 1 to the project, news: <energy>-4.25</energy>", "upload 1: early.dat"]
    assert (slot.root / "project" / "early.dat").read_text() == "half of the result\n"
    assert (slot.root / "project" / "out.dat").read_text() == "all of it\n"
    assert sorted(path.name for path in slot.share.guest.iterdir()) == [
        *("early.dat", "mine", "out.dat", "progress", "shutdown")
    ], "nothing of ours lies there, least of all a command, and what belongs to the guest stays"
    assert caplog.text.count("cannot be saved while it runs") == 1
    assert not any(call.startswith("save") for call in slot.calls), "its share is mounted"
    assert slot.audience.figures[-1].checkpoint_cpu_seconds is None, "and none is told"


def test_the_exit_code_is_the_guests(slot: Slot) -> None:
    outcome = slot.live((0.01, echo("shutdown", "7\n1\nno input\n")))
    assert (outcome.end, outcome.code, outcome.notice) == (End.PROGRAM_FAILED, 7, True)
    assert verdict_of(outcome) == Finish(7, "the program ended with code 7: no input", notice=True)


def test_a_temporary_exit_goes_on_another_time(slot: Slot) -> None:
    outcome = slot.live((0.01, echo("later", "600\n0\nno network\n")), (0.02, echo("mine", "state\n")))
    assert verdict_of(outcome) == TemporaryExit(600, "no network")
    assert slot.life.kept and slot.calls[-1] == "stop", "its disk stays"
    assert slot.live((0.01, echo("shutdown", "0\n"))).end is End.SUCCESS, "the file is gone at the next start"
    assert (slot.share.guest / "mine").read_text() == "state\n"


def test_a_quit_keeps_the_disk_the_share_and_the_time(slot: Slot) -> None:
    slot.guest = replace(GUEST, job_duration=3600.0, fraction_done_filename=None)

    ran_s = 0.0

    def quits(machine: FakeMachine, life: TaskLife) -> None:
        machine.cpu_seconds = 5.0
        after(lambda: life.progress.run_seconds > ran_s + 0.1, life.quit)

    assert slot.live((0.01, echo("mine", "state\n")), prepare=quits).end is End.INTERRUPTED
    assert slot.life.kept and slot.calls[-1] == "stop" and "remove" not in slot.calls
    ran_s = read_spent(slot.machine).run_s  # the clock goes on for a moment
    assert slot.live(prepare=quits).end is End.INTERRUPTED
    first = next(told.fraction_done for told in slot.audience.figures if told.fraction_done)
    assert first >= ran_s / 3600 > 0, "how long it has run counts over all starts"
    assert slot.life.progress.cpu_seconds == 10.0
    assert (slot.share.guest / "mine").exists()


def test_a_job_ends_when_its_time_is_over(slot: Slot) -> None:
    slot.guest = PlainGuest(job_duration=0.1)
    outcome = slot.live()
    assert outcome.end is End.SUCCESS and "as long as it was to" in outcome.message
    assert slot.audience.figures[-1].fraction_done == 1.0


def test_a_machine_that_ends_before_has_failed_and_begins_with_a_new_disk(slot: Slot) -> None:
    outcome = slot.live((0.05, lambda machine: machine.die(SWITCHED_OFF)))
    assert outcome.end is End.MACHINE_FAILED
    assert slot.life.kept and slot.calls[-1] == "remove"


def test_results_that_could_not_be_brought_home_are_at_the_next_start(slot: Slot) -> None:
    place = slot.root / "project" / "out.dat"
    slot.guest = replace(GUEST, intermediate_upload_files=("out.dat",))
    place.mkdir()  # whatever the trouble, it passes
    script = ((0.01, echo("out.dat", "hours of work\n")), (0.02, echo("shutdown", "0\n")))
    assert slot.live(*script).end is End.BRIDGE_FAILED and slot.life.kept
    place.rmdir()
    assert slot.live().end is End.SUCCESS, "the guest is not asked to do it again"
    assert place.read_text() == "hours of work\n"


def test_a_guest_that_switches_itself_off_with_its_last_word_has_finished(slot: Slot) -> None:
    def last_word(machine: FakeMachine) -> None:
        (machine.guest / "shutdown").touch()
        machine.die(SWITCHED_OFF)

    assert slot.live((0.05, last_word)).end is End.SUCCESS


def test_a_guest_that_switches_itself_off_to_be_started_again_later_keeps_its_disk(slot: Slot) -> None:
    def later(machine: FakeMachine) -> None:
        (machine.guest / "later").write_text("5")
        machine.die(SWITCHED_OFF)

    outcome = slot.live((0.05, later))
    assert (outcome.end, outcome.delay_s) == (End.POSTPONED, 5) and slot.calls[-1] == "stop"


def test_a_machine_that_is_killed_while_the_guest_writes_its_last_word_has_failed(slot: Slot) -> None:
    """An empty completion file used to be a success."""

    def cut_off(machine: FakeMachine) -> None:
        (machine.guest / "shutdown").touch()
        machine.die("QEMU was ended by signal 9")

    assert slot.live((0.05, cut_off)).end is End.MACHINE_FAILED


def test_a_guest_without_its_heartbeat_is_lost(slot: Slot) -> None:
    def burn(machine: FakeMachine) -> None:
        machine.cpu_seconds += 60

    beat = Limits(cpu_s=50.0, clock_s=1e6)
    script = [(0.05, echo("beat", "1")), (0.06, burn), *((0.1 * n, burn) for n in range(2, 5))]
    outcome = slot.live(*script, limited=Limited(boot=beat, silence=beat, hung_s=None))
    assert outcome.end is End.MACHINE_FAILED and "silent" in outcome.message


def test_a_machine_that_stands_still_is_not_told_the_time(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a guest reads no command, and has a file of its own of that name, perhaps."""
    monkeypatch.setattr("bridge.life.holding.CLOCK_BEHIND_S", 0.0)

    def hold(machine: FakeMachine, life: TaskLife) -> None:
        after(lambda: "start" in machine.calls, life.hold)
        after(lambda: "pause" in machine.calls, life.release)
        after(lambda: "resume" in machine.calls, lambda: echo("shutdown", "0\n")(machine))

    assert slot.live(prepare=hold).end is End.SUCCESS
    assert not (slot.share.guest / "command").exists()
