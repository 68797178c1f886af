"""What the program itself has saved: one whole set on the host or none, and the job that goes on from it."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import GuestError, HostError
from bridge.guest.numbered import Numbered
from bridge.hypervisors import MachineSpec
from bridge.job import MachineTask
from bridge.job.schema import parse_job
from bridge.life import restoring
from bridge.life.accounting import Progress
from bridge.life.decide import End
from bridge.life.forwarding import Forwarding, Keeping, Nobody, Taken, TakenUpload, read_record, write_record
from bridge.life.loop import Limited, TaskLife
from bridge.life.program_state import FOLDER, NEW, RECORD, ProgramState, any_saved, newest_set
from bridge.life.saving import GoingOn
from bridge.life.tables import State
from bridge.slots import look
from protocol.codec import encode
from protocol.files import Door
from protocol.layout import Share
from protocol.messages import Command, HostState

from ..fakes import FakeMachine, FakeObeyingMachine, FakeSavingMachine, Recorder, spec
from ..patience import AT_MOST_S
from .test_saving import RUNNING, Lived, Slot, burn, once, say, when_running

NAMES = ("a.bin", "b.bin")
PROGRESS = Progress(fraction_done=0.5, cpu_seconds=40.0, run_seconds=50.0)


class Rig:
    """A guest's folder and a machine's."""

    def __init__(self, root: Path) -> None:
        self.guest = root / "guest"
        self.machine = root / "machine"
        (self.guest / "saved").mkdir(parents=True)
        self.machine.mkdir()
        self.room: Callable[[int], str | None] = lambda need: None
        self.state = self.anew()

    def anew(self) -> ProgramState:
        """As another process would find it."""
        self.state = ProgramState(self.machine, NAMES, lambda need: self.room(need))
        return self.state

    def write(self, **files: str) -> None:
        for name, content in files.items():
            (self.guest / "saved" / f"{name}.bin").write_text(content)

    def take(self, *names: str, progress: Progress = PROGRESS) -> None:
        with Door(self.guest) as door:
            self.state.take(door, names or NAMES, progress, 12.5)

    def kept(self) -> dict[str, str] | None:
        """What another process finds."""
        state = self.anew()
        state.find()
        return None if state.newest is None else {name: path.read_text() for name, path in state.newest.files.items()}

    def folders(self) -> list[str]:
        return sorted(os.listdir(self.machine / FOLDER))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def plant(guest: Path, make: Callable[[Path], None]) -> None:
    """Put something else in the place of a file."""
    path = guest / "saved/b.bin"
    path.unlink()
    make(path)


def test_the_newest_set_is_kept_whole(rig: Rig) -> None:
    assert rig.kept() is None and not any_saved(rig.machine) and newest_set(rig.machine) is None
    for number in (1, 2):
        rig.write(a=f"a{number}", b=f"b{number}")
        rig.take()
        assert rig.folders() == [str(number)]
    newest = rig.state.newest
    assert rig.kept() == {"a.bin": "a2", "b.bin": "b2"}
    assert newest == rig.state.newest == newest_set(rig.machine)
    assert newest is not None and newest.progress == replace(
        PROGRESS, checkpoint_cpu_seconds=40.0, guest_cpu_seconds=12.5, checkpoint_guest_cpu_seconds=12.5
    )
    assert newest.progress.run_seconds == 50.0


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda guest: (guest / "saved/b.bin").unlink(), "b.bin is missing"),
        (lambda guest: plant(guest, lambda path: path.symlink_to("/etc/passwd")), "no regular file"),
        (lambda guest: plant(guest, lambda path: os.mkfifo(path)), "no regular file"),
        (lambda guest: shutil.rmtree(guest / "saved"), "is missing"),
    ],
)
def test_what_is_no_set_is_refused_and_the_one_before_stays(
    rig: Rig, break_it: Callable[[Path], object], problem: str
) -> None:
    rig.write(a="a1", b="b1")
    rig.take()
    break_it(rig.guest)
    with pytest.raises(GuestError, match=f"^saved/.*{problem}"):
        rig.take()
    assert rig.folders() == ["1"] and rig.kept() == {"a.bin": "a1", "b.bin": "b1"}


@pytest.mark.parametrize("names", [["stranger"], ["a.bin", "../../secret"]])
def test_only_the_tasks_own_files_are_taken(rig: Rig, names: list[str]) -> None:
    rig.write(a="a1", b="b1")
    with pytest.raises(GuestError, match="no set"):
        rig.take(*names)
    with Door(rig.guest) as door, pytest.raises(GuestError, match="no set"):
        rig.state.take(door, (), PROGRESS, None)
    assert not (rig.machine / FOLDER).exists()


def test_no_room_is_asked_for_before_anything_is_copied(rig: Rig) -> None:
    """A guest can make a file of a terabyte that takes no room."""
    asked: list[int] = []
    rig.write(a="a1", b="b1")
    os.truncate(rig.guest / "saved/b.bin", 1 << 40)
    rig.room = lambda need: asked.append(need) or "it is full"  # type: ignore[func-returns-value]
    with pytest.raises(HostError, match="it is full"):
        rig.take()
    assert asked == [(1 << 40) + 2] and rig.folders() == []


def test_a_set_that_a_power_cut_has_broken_is_dropped(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.write(a="a1", b="b1")
    rig.take()
    shutil.copytree(rig.machine / FOLDER / "1", rig.machine / FOLDER / "2")
    (rig.machine / FOLDER / "2" / "b.bin").write_text("\0\0")
    (rig.machine / FOLDER / NEW).mkdir()
    assert rig.kept() == {"a.bin": "a1", "b.bin": "b1"}
    assert "what the program has saved (2) is broken and is not used: b.bin is not what was written" in caplog.text
    assert rig.folders() == ["1"]


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b"\xff", b'{"format": "vmbridge-program-state 9"}'])
def test_a_set_without_a_record_that_makes_sense_is_none(rig: Rig, content: bytes | None) -> None:
    rig.write(a="a1", b="b1")
    rig.take()
    record = rig.machine / FOLDER / "1" / RECORD
    record.unlink() if content is None else record.write_bytes(content)
    with pytest.raises(ValueError, match=r"record|version|missing|JSON|codec|Expecting"):
        newest_set(rig.machine)
    assert rig.kept() is None and rig.folders() == []


CALLS = ("mkdir", "rename", "unlink", "rmdir", "fsync", "open")


@pytest.fixture
def failing() -> Iterator[Callable[[int], None]]:
    """Let the n-th call of the system from now on fail, and all that follow, as on a disk that is gone."""
    real = {name: getattr(os, name) for name in CALLS}
    left = -1

    def wrap(name: str) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal left
            writes = name != "open" or (len(arguments) > 1 and int(str(arguments[1])) & os.O_CREAT)
            if left >= 0 and writes:
                left -= 1
                if left < 0:
                    left = 0
                    raise OSError(errno.ENOSPC, "No space left on device")
            return real[name](*arguments, **options)

        return call

    def begin(count: int) -> None:
        nonlocal left
        left = count
        for name in CALLS:
            setattr(os, name, wrap(name))

    yield begin
    for name, function in real.items():
        setattr(os, name, function)


def test_at_every_instant_there_is_one_whole_set(tmp_path: Path, failing: Callable[[int], None]) -> None:
    """Whatever call is the last one that the system does, another process finds the old set or the new one."""
    found = []
    for at in range(100):
        rig = Rig(tmp_path / str(at))
        rig.write(a="a1", b="b1")
        rig.take()
        rig.write(a="a2", b="b2")
        failing(at)
        try:
            rig.take()
            done = True
        except HostError:
            done = False
        finally:
            failing(-1)
        kept = rig.kept()
        assert kept in ({"a.bin": "a1", "b.bin": "b1"}, {"a.bin": "a2", "b.bin": "b2"})
        assert not done or kept == {"a.bin": "a2", "b.bin": "b2"}
        assert len(rig.folders()) == 1
        found.append((done, (kept or {})["a.bin"]))
        if done and rig.state.newest is not None and rig.state.newest.number == 2 and found[-2:] == [(True, "a2")] * 2:
            break
    assert {("a1"), ("a2")} == {content for _, content in found}
    assert (False, "a1") in found and (True, "a2") in found


# ------------------------------------------------------------------- on its way, and in the life of a job


class Way:
    """A share and what forwards from it."""

    def __init__(self, root: Path) -> None:
        self.share = Share.two_folders(root / "shared")
        self.share.host.mkdir(parents=True)
        (self.share.guest / "saved").mkdir(parents=True)
        self.machine = root / "machine"
        self.machine.mkdir()
        self.room: Callable[[int], str | None] = lambda need: None
        self.now = 0.0
        self.done = 0.1
        self.kept: list[Progress] = []

    def publish(self, number: int, **files: str) -> None:
        for name, content in files.items():
            (self.share.guest / "saved" / name).write_text(content)
        (self.share.guest / f"saved.{number}").write_text("".join(f"file {name}\n" for name in files))

    def told(self) -> str:
        return (self.share.host / "taken").read_text()

    async def go(self, *, anew: bool = False, halfway: bool = False, urgent: bool = False, times: int = 1) -> None:
        state = ProgramState(self.machine, ("a", "b"), lambda need: self.room(need))
        await asyncio.to_thread(state.find)
        keeping = Keeping(state, 10.0, lambda: Progress(fraction_done=self.done), self.kept.append)
        places = {"early.txt": self.machine.parent / "early.txt"}
        forwarding = Forwarding(Numbered(self.share), self.machine, places, Nobody(), lambda: self.now, keeping)
        try:
            await forwarding.begin(anew=anew, halfway=halfway)
            for _ in range(times):
                if urgent:
                    await forwarding.catch_up()
                else:
                    forwarding.look()
                    await forwarding._settled()
                self.done += 0.1
        finally:
            await forwarding.end()

    @property
    def files(self) -> dict[str, str]:
        newest = newest_set(self.machine)
        return {} if newest is None else {name: path.read_text() for name, path in newest.files.items()}


@pytest.fixture
def way(tmp_path: Path) -> Way:
    return Way(tmp_path)


@pytest.mark.behaviour("B15", "B21")
def test_a_set_is_taken_when_it_is_safe_and_only_the_next_one(way: Way) -> None:
    asyncio.run(way.go())
    assert way.told() == "trickle_up 0\nupload 0\nsaved 0\n"
    way.publish(2, a="two")
    asyncio.run(way.go())
    assert way.files == {}
    way.publish(1, a="one", b="one")
    asyncio.run(way.go())
    assert way.files == {"a": "one", "b": "one"}
    assert way.told() == "trickle_up 0\nupload 0\nsaved 1\n"
    assert [round(progress.fraction_done or 0, 1) for progress in way.kept] == [0.3]


@pytest.mark.behaviour("B21")
def test_a_restored_guest_is_not_heard_twice_and_one_that_begins_anew_is(way: Way) -> None:
    way.publish(1, a="one")
    asyncio.run(way.go())
    way.publish(1, a="again")
    asyncio.run(way.go())
    assert way.files == {"a": "one"} and way.told().endswith("saved 1\n")
    asyncio.run(way.go(anew=True, halfway=True))
    assert way.files == {"a": "again"}


def test_a_broken_set_is_passed_over(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    (way.share.guest / "saved.1").write_text("file a\n")
    asyncio.run(way.go())
    assert "what the program has saved is not kept: saved/a is missing" in caplog.text
    assert way.told().endswith("saved 1\n") and way.kept == []


def test_a_full_disk_of_the_host_makes_a_set_wait(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """How far the job was is what it was then, not when there was room at last."""

    def room(need: int) -> str | None:
        return "the disk is full" if way.done < 0.35 else None

    way.room = room
    way.publish(1, a="one")
    asyncio.run(way.go(times=4))
    assert way.files == {"a": "one"} and way.told().endswith("saved 1\n")
    assert [progress.fraction_done for progress in way.kept] == [0.1]
    assert caplog.text.count("the disk is full") == 1


def test_a_program_that_saves_all_the_time_does_not_wear_the_disk_out(way: Way) -> None:
    async def go(urgent: bool) -> None:
        state = ProgramState(way.machine, ("a",), lambda need: None)
        keeping = Keeping(state, 10.0, Progress, way.kept.append)
        forwarding = Forwarding(Numbered(way.share), way.machine, {}, Nobody(), lambda: way.now, keeping)
        await forwarding.begin(anew=True)
        for number in (1, 2):
            way.publish(number, a=str(number))
            forwarding.look()
            await forwarding._settled()
        assert way.files == {"a": "1"}, "too soon"
        if urgent:
            await forwarding.catch_up()
        else:
            way.now += 10.0
            forwarding.look()
        await forwarding.end()
        assert way.files == {"a": "2"}

    asyncio.run(go(False))
    asyncio.run(go(True))


@pytest.mark.behaviour("B21")
def test_an_output_that_was_uploaded_stays_uploaded_for_a_program_that_goes_on(way: Way) -> None:
    """It does not write it again: at the end of such a job it used to be missing."""
    write_record(way.machine, Taken(2, (TakenUpload("early.txt"), TakenUpload("no.txt", -108)), saved=3))
    asyncio.run(way.go(anew=True, halfway=True))
    recorded = read_record(way.machine)
    assert recorded is not None and recorded.brought() == {"early.txt"}
    assert (recorded.trickles, recorded.saved, recorded.staged) == (0, 0, (2, 2))
    asyncio.run(way.go(anew=True))
    recorded = read_record(way.machine)
    assert recorded is not None and recorded.brought() == frozenset()


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slot:
    monkeypatch.setattr(restoring, "AGAIN_S", 0.01)
    return Slot(tmp_path)


def save(**files: str) -> Callable[[FakeMachine], None]:
    """The program saves its state, and the guest publishes it."""

    def act(machine: FakeMachine) -> None:
        assert isinstance(machine, FakeObeyingMachine)
        machine.state = files
        machine.save_state()

    return act


def quit_when_kept(machine: FakeSavingMachine, life: TaskLife) -> None:
    once(lambda: life.progress.checkpoint_cpu_seconds is not None, life.quit)


def live_to_a_set(slot: Slot) -> Lived:
    """A job whose program has saved its state at 40 of 45 seconds of CPU time, and whose machine has been saved."""
    return slot.live(
        (0.0, say("status", RUNNING)),
        (0.0, say("fraction_done", "0.4\n")),
        (0.0, burn(40.0)),
        (0.1, save(state="at 0.4", log="line\n")),
        prepare=quit_when_kept,
        files=("state", "log"),
    )


def test_a_set_counts_as_a_checkpoint_and_the_machine_goes_first(slot: Slot) -> None:
    lived = live_to_a_set(slot)
    assert lived.outcome.end is End.INTERRUPTED and lived.life.kept
    assert 40.0 in [figure.checkpoint_cpu_seconds for figure in lived.audience.figures]
    lived = slot.live((0.0, say("finished", "code 0\n")), files=("state", "log"))
    assert lived.did[0] == "restore checkpoint-1"
    assert lived.outcome.end is End.SUCCESS and not lived.life.kept


@pytest.mark.parametrize("why", ["other machine", "states lost"])
def test_where_no_machine_is_restored_the_program_goes_on_from_its_files(
    slot: Slot, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    live_to_a_set(slot)

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.made_of = {"memory_mb": "512"} if why == "other machine" else machine.made_of

    if why != "other machine":
        slot.saved = []

    def go_on() -> Lived:
        return slot.live((0.3, say("finished", "code 0\n")), prepare=prepare, files=("state", "log"))

    while "start" not in (lived := go_on()).did:
        assert lived.outcome.end is End.BRIDGE_FAILED and lived.life.kept
    assert lived.outcome.end is End.SUCCESS
    assert slot.staged == {"state": "at 0.4", "log": "line\n"}
    assert "the program goes on from what it has saved itself, 40.0% done" in caplog.text
    first = lived.audience.figures[0]
    assert (first.cpu_seconds, first.fraction_done, first.checkpoint_cpu_seconds) == (40.0, 0.4, 40.0)
    assert min(figure.cpu_seconds for figure in lived.audience.figures) == 40.0, "it was spent"


def test_a_broken_set_is_told_and_the_job_begins_anew(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    live_to_a_set(slot)
    (slot.machine / FOLDER / "1" / "state").write_text("")
    slot.live(
        (0.3, say("finished", "code 0\n")),
        prepare=lambda machine, life: setattr(machine, "made_of", {"memory_mb": "512"}),
        files=("state", "log"),
    )
    assert slot.staged == {}
    assert "is broken and is not used: state is not what was written" in caplog.text
    assert "nothing to restore from: the job begins anew" in caplog.text


def test_a_machine_that_cannot_be_saved_has_its_program_asked(slot: Slot) -> None:
    """The last checkpoint fails; it used to be lost what was done since the one before."""

    def prepare(machine: FakeSavingMachine, life: TaskLife) -> None:
        machine.state = {"state": "at the end"}
        machine.let_go = False
        when_running(lambda life: life.quit())(machine, life)

    lived = slot.live(prepare=prepare, files=("state",))
    assert lived.life.kept and slot.saved == []
    newest = newest_set(slot.machine)
    assert newest is not None and newest.files["state"].read_text() == "at the end"
    assert "remove" in lived.machine.calls, "a machine that was not saved is of no use"


def test_a_program_that_fails_leaves_no_set(slot: Slot) -> None:
    lived = slot.live(
        (0.0, say("status", RUNNING)),
        (0.0, save(state="x")),
        prepare=lambda machine, life: once(
            lambda: life.progress.checkpoint_cpu_seconds is not None,
            lambda: machine.say("finished", "code 1\n"),
        ),
        files=("state",),
    )
    assert lived.outcome.end is End.PROGRAM_FAILED and not lived.life.kept


class Unsaved:
    """A slot whose hypervisor saves no machines, as `local`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spec: MachineSpec = spec(directory)
        self.staged: list[str] = []

    def live(self, prepare: Callable[[FakeObeyingMachine, TaskLife], None], files: tuple[str, ...]) -> Lived:
        async def go() -> Lived:
            machine = FakeObeyingMachine(self.spec)
            job = MachineTask(self.directory / "job.xml", "vm", Path("image"), "worker", checkpoint_files=files)

            def stage(seq: int, saved: object) -> None:
                self.staged = sorted(dict(saved))  # type: ignore[call-overload]
                shutil.rmtree(self.spec.share.guest)
                self.spec.share.guest.mkdir()
                (self.spec.share.host / "command").write_bytes(encode(Command(seq, HostState.RUN)))

            share, folder, audience = self.spec.share, self.spec.directory, Recorder()
            going_on = GoingOn(1000.0, lambda more: None)
            life = TaskLife(job, share, folder, machine, stage, audience, Limited(), going_on=going_on)
            prepare(machine, life)
            outcome = await asyncio.wait_for(life.run(), AT_MOST_S)
            return Lived(outcome, machine, audience, life)  # type: ignore[arg-type]

        return asyncio.run(go())


def test_a_quit_without_checkpoints_of_the_machine(tmp_path: Path) -> None:
    unsaved = Unsaved(tmp_path)

    def leave(machine: FakeObeyingMachine, life: TaskLife) -> None:
        machine.state = {"state": "x"}
        machine.cpu_seconds = 7.0
        once(lambda: life._state is State.RUNNING, life.quit)

    lived = unsaved.live(leave, ("state",))
    assert lived.outcome.end is End.INTERRUPTED and lived.life.kept
    assert look(tmp_path).checkpoints == ["what the program has saved"]
    assert not any("no checkpoint" in problem for problem in look(tmp_path).problems)

    def finish(machine: FakeObeyingMachine, life: TaskLife) -> None:
        once(lambda: life._state is State.RUNNING, lambda: machine.say("finished", "code 0\n"))

    lived = unsaved.live(finish, ("state",))
    assert unsaved.staged == ["state"]
    assert lived.outcome.end is End.SUCCESS and lived.life.progress.cpu_seconds == 7.0


def test_a_program_that_saves_nothing_is_not_asked(tmp_path: Path) -> None:
    lived = Unsaved(tmp_path).live(lambda machine, life: once(lambda: life._state is State.RUNNING, life.quit), ())
    assert lived.outcome.end is End.INTERRUPTED and not lived.life.kept


def test_a_guest_that_refuses_is_not_waited_for(tmp_path: Path) -> None:
    lived = Unsaved(tmp_path).live(lambda machine, life: once(lambda: life._state is State.RUNNING, life.quit), ("s",))
    assert lived.outcome.end is End.INTERRUPTED and not lived.life.kept


def test_check_tells_of_a_set_that_is_broken(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.write(a="a1", b="b1")
    rig.take()
    (rig.machine / FOLDER / NEW).mkdir()
    (rig.machine / FOLDER / "1" / "a.bin").write_text("")
    problems = " ".join(look(tmp_path).problems)
    assert "cannot be used: a.bin is not what was written" in problems
    assert "a copy that did not end" in problems


def test_the_job_file_names_the_files(tmp_path: Path) -> None:
    text = (
        "<job_desc><task><virtualmachine>v</virtualmachine><image>i</image><application>p</application>"
        "<copy_file_to_VM>in.txt</copy_file_to_VM>"
        "<checkpoint_filename>state</checkpoint_filename><checkpoint_filename>in.txt</checkpoint_filename>"
        "</task></job_desc>"
    )
    [job] = parse_job(tmp_path / "job.xml", text).machine_tasks
    assert job.task().checkpoint_file == ("state", "in.txt") and job.task().input == ("in.txt",)
    assert job.task(["state", "in.txt"]).input == ("in.txt", "state")
    with pytest.raises(Exception, match="names the program"):
        parse_job(tmp_path / "job.xml", text.replace(">state<", ">p<"))
    with pytest.raises(Exception, match="no plain file name"):
        parse_job(tmp_path / "job.xml", text.replace(">state<", ">a/b<"))
