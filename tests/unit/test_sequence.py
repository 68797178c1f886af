"""A job of several tasks: their order, what is recorded, what they share, and orders between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bridge.done import DONE, Done, Record, Recorded, Unrecorded
from bridge.errors import BridgeError, HostError, JobFileError
from bridge.job import HostTask, Job, MachineTask
from bridge.life.accounting import UNSPENT, Progress, Spent, shares, together
from bridge.life.brake import Brake, GivenUp
from bridge.life.decide import End, Outcome
from bridge.life.sequence import JobLife, Means, Part, is_one_machine
from bridge.life.tables import State
from bridge.workplace import Workplace
from protocol.messages import Finished

FILE = Path("/slot/job.xml")
HOST = HostTask("host program")
MACHINE = MachineTask(FILE, "vm", Path("image"), "machine program")
DONE_WELL = Outcome(End.SUCCESS, "done")


@dataclass
class FakeLife:
    """A life that takes a second of CPU time, is half done, and ends as it is told to."""

    part: Part
    outcome: Outcome
    rig: Rig
    orders: list[object] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)
    kept: bool = False
    progress: Progress = Progress()
    other_pid: int | None = None

    async def run(self) -> Outcome:
        spent = self.part.spent
        for done in (None, 0.5):
            self.progress = Progress(
                fraction_done=done, cpu_seconds=spent.host_s + 1, fpops=10.0, checkpoints=1, run_seconds=2.0
            )
            self.part.audience.progress(self.progress)
        await self.rig.while_it_runs(self)
        return self.outcome

    def quit(self) -> None:
        self.orders.append("quit")
        self.outcome = Outcome(End.INTERRUPTED, "interrupted")

    def abort(self) -> None:
        self.orders.append("abort")
        self.outcome = Outcome(End.ABORTED, "aborted")

    def hold(self) -> None:
        self.orders.append("hold")

    def release(self) -> None:
        self.orders.append("release")

    def fear(self) -> None:
        self.orders.append("fear")

    def hope(self) -> None:
        self.orders.append("hope")

    def fail(self, error: BridgeError) -> None:
        self.orders.append(error)

    def connect(self, connected: bool) -> None:
        self.orders.append(connected)


class FakeBeside:
    """Programs beside the tasks."""

    def __init__(self, rig: Rig, names: list[str]) -> None:
        self._rig = rig
        self._names = names

    async def __aenter__(self) -> FakeBeside:
        self._rig.log += [f"begin {name}" for name in self._names]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._rig.log += [f"end {name}" for name in self._names]

    def cpu_seconds(self) -> float:
        return self._rig.beside_cpu_seconds

    def hold(self) -> None:
        self._rig.log.append("hold those beside")

    def release(self) -> None:
        self._rig.log.append("release those beside")


async def nothing(life: FakeLife) -> None:
    """Nothing happens while it runs."""


class Rig:
    """A job in a folder, whose lives are fakes. `log` is all that was done, in order."""

    def __init__(self, folder: Path, *outcomes: Outcome) -> None:
        self.folder = folder
        self.outcomes = list(outcomes)
        self.lives: list[FakeLife] = []
        self.told: list[Progress] = []
        self.states: list[State] = []
        self.log: list[str] = []
        self.settled: list[Done | None] = []
        self.beside_cpu_seconds = 0.0
        self.while_it_runs: Callable[[FakeLife], Awaitable[None]] = nothing
        self.while_it_is_left: Callable[[], None] = lambda: None
        self.while_it_works: Callable[[str], None] = lambda what: None
        self.place = Workplace(folder / "shared", folder / "machine")
        self.place.machine.mkdir(exist_ok=True)
        self.life: JobLife

    def runs_on(self, what: str) -> None: ...

    def state(self, state: State) -> None:
        self.states.append(state)

    def progress(self, progress: Progress) -> None:
        self.told.append(progress)

    def _begin(self, task: HostTask | MachineTask, part: Part) -> FakeLife:
        self.log.append(task.application)
        outcome = self.outcomes.pop(0) if self.outcomes else DONE_WELL
        life = FakeLife(part, outcome, self)
        self.lives.append(life)
        return life

    def _machine(self, task: MachineTask, part: Part) -> FakeLife:
        life = self._begin(task, part)
        (self.place.machine / "disk").write_text(f"as task {len(self.lives)} left it")
        life.kept = part.leaves_disk
        if life.outcome.end is End.SUCCESS:
            part.home(Finished(0))
        return life

    async def _leave(self, folder: Path) -> None:
        self.log.append(f"leave {folder.name}")
        self.while_it_is_left()

    def _work(self, what: str, brake: Brake) -> None:
        self.log.append(what)
        self.while_it_works(what)
        brake()

    def run(self, job: Job, record: Record | None = None, *, spent: Spent = UNSPENT) -> Outcome:
        means = Means(
            machine_life=self._machine,
            host_life=self._begin,
            beside=lambda tasks: FakeBeside(self, [task.application for task in tasks]),
            unpack=lambda brake: self._work("unpack", brake),
            pack=lambda brake: self._work("pack", brake),
            settle=lambda: self.settled.append(Recorded(self.folder).read()),
            place=self.place,
            leave_disk=self._leave,
        )

        async def go() -> Outcome:
            home: Callable[[Finished], None] = lambda finished: self.log.append("home")  # noqa: E731
            self.life = JobLife(job, self, means, record or Unrecorded(), spent=spent, home=home)
            return await asyncio.wait_for(self.life.run(), 60)

        return asyncio.run(go())


def job(*tasks: HostTask | MachineTask, **more: object) -> Job:
    return replace(Job(FILE, tasks), **more)  # type: ignore[arg-type]


def test_one_after_the_other_and_what_goes_around_them(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    whole = job(
        HOST,
        MACHINE,
        unzip_tasks=(HostTask("unzip"),),
        helpers=(HostTask("helper"),),
        daemons=(HostTask("daemon"),),
    )
    assert rig.run(whole).end is End.SUCCESS
    assert rig.log == [
        "unpack", "unzip", "begin daemon", "begin helper", "host program", "machine program",
        "end helper", "end daemon", "pack", "home",
    ]  # fmt: skip
    assert rig.states == [State.ENDED], "the end of a task is not the job's"


def test_helpers_are_for_machines(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.run(job(HOST, helpers=(HostTask("helper"),)))
    assert rig.log == ["unpack", "host program", "pack", "home"]


def test_a_task_that_fails_is_the_last_and_those_beside_it_end(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Outcome(End.PROGRAM_FAILED, "no", code=195))
    outcome = rig.run(job(HOST, HOST, daemons=(HostTask("daemon"),)))
    assert (outcome.end, outcome.code) == (End.PROGRAM_FAILED, 195)
    assert rig.log == ["unpack", "begin daemon", "host program", "end daemon"]


def test_progress_is_weighed_and_adds_up(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.run(job(replace(HOST, weight=1.0), replace(MACHINE, weight=3.0)), spent=Spent(100.0))
    fractions = [progress.fraction_done for progress in rig.told]
    assert fractions == [None, 0.125, 0.25, 0.25, 0.625, 1.0], "the second begins where the first ends"
    last = rig.told[-1]
    assert (last.cpu_seconds, last.fpops, last.checkpoints, last.run_seconds) == (102.0, 20.0, 2, 4.0)
    assert last.checkpoint_cpu_seconds == 102.0, "the end of a task is a checkpoint"


def test_what_runs_beside_the_tasks_takes_time_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path)

    async def takes(life: FakeLife) -> None:
        rig.beside_cpu_seconds += 10.0
        life.part.audience.progress(life.progress)

    rig.while_it_runs = takes
    rig.run(job(HOST, HOST, daemons=(HostTask("daemon"),)))
    assert [progress.cpu_seconds for progress in rig.told][-1] == 22.0, "each task a second, and ten beside it"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1.0, 3.0], [0.25, 0.75]),
        ([0.0, 2.0], [0.0, 1.0]),
        ([0.0, 0.0], [0.5, 0.5]),
        ([-1.0, 1.0], [0.5, 0.5]),
        ([float("nan"), float("inf")], [0.5, 0.5]),
        ([1e308, 1e308], [0.5, 0.5]),
        ([], []),
    ],
)
def test_weights_that_make_no_sense(weights: list[float], expected: list[float]) -> None:
    assert shares(weights) == expected


def test_a_single_task_says_what_it_says(tmp_path: Path) -> None:
    now = Progress(fraction_done=None, cpu_seconds=3.0)
    assert together(Progress(), now, 0.0, 1.0) == now, "one that has said nothing is not at 0"


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, DONE_WELL, DONE_WELL, Outcome(End.INTERRUPTED, "quit"))
    record = Recorded(tmp_path)
    whole = job(HOST, replace(HOST, application="second"), unzip_tasks=(HostTask("unzip"),))
    assert rig.run(whole, record).end is End.INTERRUPTED
    assert (tmp_path / DONE).read_text().splitlines()[0] == "1 1.000000 2.000000", "what the wrapper writes"
    rig.log.clear()
    assert rig.run(whole, record, spent=Spent(1.5)).end is End.SUCCESS
    assert rig.log == ["second", "pack", "home"]
    assert rig.lives[-1].part.spent == Spent(1.5), "the client may know of more than was recorded"
    assert record.read() == Done(2, rig.told[-1])


def test_what_is_recorded_as_done_is_on_the_disk(tmp_path: Path) -> None:
    """A power cut used to leave the record, and take the archives' files and what the programs had written."""
    rig = Rig(tmp_path)
    rig.run(job(HOST, HOST), Recorded(tmp_path))
    assert [done and done.tasks for done in rig.settled] == [None, 0, 1]


def test_a_checkpoint_of_the_programs_own_is_recorded(tmp_path: Path) -> None:
    record = Recorded(tmp_path)
    rig = Rig(tmp_path, DONE_WELL, Outcome(End.INTERRUPTED, "quit"))

    async def saves(life: FakeLife) -> None:
        if len(rig.lives) == 2:
            life.part.saved(replace(life.progress, checkpoint_cpu_seconds=life.progress.cpu_seconds))

    rig.while_it_runs = saves
    rig.run(job(HOST, HOST), record)
    done = record.read()
    assert done is not None and done.tasks == 1
    assert (done.progress.cpu_seconds, done.progress.checkpoint_cpu_seconds, done.progress.fpops) == (2.0, 2.0, 20.0)


def test_a_job_that_is_one_machine_keeps_no_record_of_tasks(tmp_path: Path) -> None:
    assert is_one_machine(job(MACHINE)) and not is_one_machine(job(HOST)) and not is_one_machine(job(MACHINE, HOST))
    assert not is_one_machine(job(MACHINE, daemons=(HOST,)))


def test_the_next_task_goes_on_with_the_disk_of_the_last(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.run(job(MACHINE, HOST, MACHINE, MACHINE))
    [first, _, second, third] = rig.lives
    assert [life.part.leaves_disk for life in (first, second, third)] == [True, True, False]
    assert first.part.before is None
    assert second.part.before == tmp_path / ".vmbridge.machine.0"
    assert third.part.before == tmp_path / ".vmbridge.machine.2"
    assert (tmp_path / ".vmbridge.machine.0/disk").read_text() == "as task 1 left it"
    assert (tmp_path / ".vmbridge.machine.2/disk").read_text() == "as task 3 left it"
    assert not rig.life.kept, "nobody needs it any more"


def test_a_machine_that_is_still_needed_is_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path, DONE_WELL, Outcome(End.INTERRUPTED, "quit"))
    record = Recorded(tmp_path)
    whole = job(MACHINE, HOST, MACHINE)
    rig.run(whole, record)
    assert rig.life.kept
    assert not rig.place.aside(), "it is set aside when the next one begins"
    rig.run(whole, record)
    assert rig.lives[-1].part.before == tmp_path / ".vmbridge.machine.0"


def test_a_machine_is_set_aside_once(tmp_path: Path) -> None:
    """A power cut may come between that and the first state of the next machine."""
    rig = Rig(tmp_path, DONE_WELL, Outcome(End.MACHINE_FAILED, "gone"))
    record = Recorded(tmp_path)
    whole = job(MACHINE, MACHINE)
    rig.run(whole, record)
    assert rig.life.kept
    rig.run(whole, record)
    assert rig.lives[-1].part.before == tmp_path / ".vmbridge.machine.0"
    assert (tmp_path / ".vmbridge.machine.0/disk").read_text() == "as task 1 left it"


def test_a_program_that_failed_wants_no_machine_any_more(tmp_path: Path) -> None:
    rig = Rig(tmp_path, DONE_WELL, Outcome(End.PROGRAM_FAILED, "no", code=195))
    rig.run(job(MACHINE, HOST, MACHINE), Recorded(tmp_path))
    assert not rig.life.kept


def test_a_machine_that_is_lost_is_made_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    record = Recorded(tmp_path)
    record.write(Done(1, Progress(cpu_seconds=5.0)))
    assert rig.run(job(MACHINE, MACHINE), record).end is End.SUCCESS
    assert rig.log.count("machine program") == 2


def test_orders_reach_whoever_runs_and_whoever_comes(tmp_path: Path) -> None:
    rig = Rig(tmp_path)

    async def orders(life: FakeLife) -> None:
        if len(rig.lives) == 1:
            rig.life.connect(False)
            rig.life.hold()
            rig.life.fear()
        else:
            rig.life.release()  # or the results would not be packed

    rig.while_it_runs = orders
    rig.run(job(HOST, HOST, daemons=(HostTask("daemon"),)))
    assert [life.orders for life in rig.lives] == [[False, "hold", "fear"], [False, "hold", "fear", "release"]]
    assert "hold those beside" in rig.log


def test_the_process_that_runs_it_is_the_present_tasks(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    seen: list[int | None] = []

    async def looks(life: FakeLife) -> None:
        life.other_pid = 4000 + len(rig.lives)
        seen.append(rig.life.other_pid)

    rig.while_it_runs = looks
    rig.run(job(MACHINE, MACHINE))
    assert seen == [4001, 4002] and rig.life.other_pid is None, "one that is gone may be anybody's"


def test_what_runs_beside_stands_still_while_there_is_a_reason(tmp_path: Path) -> None:
    rig = Rig(tmp_path)

    async def orders(life: FakeLife) -> None:
        rig.life.fear()
        rig.life.hold()
        rig.life.hope()
        rig.life.release()
        rig.log.append("the work")

    rig.while_it_runs = orders
    rig.run(job(HOST, daemons=(HostTask("daemon"),)))
    still = [entry for entry in rig.log if "beside" in entry or entry == "the work"]
    assert still == ["hold those beside", "hold those beside", "release those beside", "the work"]


@pytest.mark.parametrize(("order", "end"), [("quit", End.INTERRUPTED), ("abort", End.ABORTED)])
def test_an_order_to_end_is_obeyed_between_tasks(tmp_path: Path, order: str, end: End) -> None:
    """The task under way may just have succeeded: the next one does not begin."""
    rig = Rig(tmp_path)

    async def ends(life: FakeLife) -> None:
        getattr(rig.life, order)()
        life.outcome = DONE_WELL

    rig.while_it_runs = ends
    assert rig.run(job(HOST, HOST), Recorded(tmp_path)).end is end
    assert len(rig.lives) == 1 and rig.life.told_to_end


@pytest.mark.parametrize(("order", "end"), [("quit", End.INTERRUPTED), ("abort", End.ABORTED)])
def test_an_order_to_end_is_obeyed_while_a_disk_is_left(tmp_path: Path, order: str, end: End) -> None:
    """It used to be lost: the next task ran on, until the client killed it."""
    rig = Rig(tmp_path)
    rig.while_it_is_left = lambda: getattr(rig.life, order)()
    assert rig.run(job(MACHINE, MACHINE), Recorded(tmp_path)).end is end
    assert [life.orders for life in rig.lives] == [[], [order]]
    assert rig.life.kept is (order == "quit")


@pytest.mark.parametrize(("order", "end"), [("quit", End.INTERRUPTED), ("abort", End.ABORTED)])
@pytest.mark.parametrize("what", ["unpack", "pack"])
def test_an_order_to_end_is_obeyed_while_archives_are_worked_on(
    tmp_path: Path, what: str, order: str, end: End
) -> None:
    """It used to wait for gigabytes to be unpacked, until the client killed the bridge."""
    rig = Rig(tmp_path)
    record = Recorded(tmp_path)
    rig.while_it_works = lambda now: getattr(rig.life, order)() if now == what else None
    assert rig.run(job(HOST), record).end is end
    assert rig.log[-1] == what and "home" not in rig.log
    assert (record.read() is None) is (what == "unpack")
    rig.while_it_works = lambda now: None
    assert rig.run(job(HOST), record).end is End.SUCCESS
    assert rig.log.count("host program") == 1


@pytest.mark.parametrize("what", ["unpack", "pack"])
def test_work_on_archives_stands_still_while_the_job_is_suspended(tmp_path: Path, what: str) -> None:
    """It used to take a whole processor from somebody who had said that there is none to be had."""
    rig = Rig(tmp_path)

    def release() -> None:
        rig.log.append("release")
        rig.life.release()

    def suspend(now: str) -> None:
        if now == what:
            rig.life.hold()
            threading.Timer(0.2, release).start()

    rig.while_it_works = suspend
    assert rig.run(job(HOST), Recorded(tmp_path)).end is End.SUCCESS
    at = rig.log.index(what)
    assert rig.log[at + 1] == "release", "and nothing has come before it"


def test_work_that_stands_still_can_be_given_up() -> None:
    brake, went = Brake(), threading.Event()
    brake.hold(True)

    def work() -> None:
        brake()
        went.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not went.wait(0.2)
    brake.hold(False)
    thread.join(60)
    assert went.is_set()
    brake.hold(True)
    brake.give_up()
    with pytest.raises(GivenUp):
        brake()


def test_a_job_whose_tasks_are_all_done_is_only_concluded(tmp_path: Path) -> None:
    """The disk was too full for the archive of the results, say."""
    rig = Rig(tmp_path)
    record = Recorded(tmp_path)
    record.write(Done(2, Progress(cpu_seconds=5.0)))
    assert rig.run(job(HOST, HOST, daemons=(HostTask("daemon"),)), record).end is End.SUCCESS
    assert rig.log == ["pack", "home"]


def test_a_record_of_more_tasks_than_there_are(tmp_path: Path) -> None:
    """It used to be a success of which nothing had run; BOINC's wrapper ends the job, too."""
    rig = Rig(tmp_path)
    record = Recorded(tmp_path)
    record.write(Done(3, Progress()))
    with pytest.raises(JobFileError, match=r"it has 2 tasks, but wrapper_checkpoint\.txt says that 3 are done"):
        rig.run(job(HOST, HOST), record)
    assert rig.log == []


@pytest.mark.parametrize(
    "content",
    [
        *("", "1", "x y z", "-1 0 0", "1 2 3 4", "1 nan 0", '1 2 3\n{"a": 1}', "1 2 3\n[", "1\n", "1 2 3\n[1]"),
        *('1 2 3\n{"cpu_seconds": "2"}', '1 2 3\n{"cpu_seconds": null}', '1 2 3\n{"fraction_done": NaN}'),
    ],
)
def test_a_record_that_makes_no_sense_is_none(tmp_path: Path, content: str) -> None:
    """The last ones used to be taken as they stand, and broke the job off with a traceback."""
    (tmp_path / DONE).write_text(content)
    assert Recorded(tmp_path).read() is None


def test_the_record_of_an_older_program_counts(tmp_path: Path) -> None:
    (tmp_path / DONE).write_text("2 12.500000 20.000000\n")
    done = Recorded(tmp_path).read()
    assert done == Done(2, Progress(cpu_seconds=12.5, checkpoint_cpu_seconds=12.5, run_seconds=20.0))


def test_a_record_that_cannot_be_read_is_the_hosts_trouble(tmp_path: Path) -> None:
    with pytest.raises(HostError):
        Recorded(tmp_path / "nowhere").read()
