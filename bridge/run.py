"""Put the pieces together for one job: its directory, what its tasks are run with, and its life."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.messages import Finished, InitData

from .done import Record, Recorded, Unrecorded
from .hypervisors import choose
from .job import Job
from .life.accounting import UNSPENT, Progress, Spent
from .life.audience import Audience
from .life.checkpoints import any_recorded
from .life.decide import Outcome
from .life.forwarding import Project
from .life.loop import TaskLife
from .life.program_state import any_saved
from .life.saving import GoingOn
from .life.sequence import JobLife, Means, in_machine, is_one_machine
from .machines import Machines
from .on_host import OnHost
from .workplace import occupy, own

Steering = Callable[[JobLife], AbstractContextManager[None]]
"""Who may hold, release, end and abort a life, for the time of the block."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended, its last figures, and where its results lie."""

    outcome: Outcome
    progress: Progress
    results: list[Path]


@contextmanager
def by_signals(life: JobLife) -> Iterator[None]:
    """SIGHUP, SIGINT and SIGTERM end the life cleanly."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, life.quit)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def run_job(
    job: Job,
    audience: Audience,
    steering: Steering = by_signals,
    *,
    hypervisor: str | None = None,
    boot_s: float | None = None,
    home: Callable[[Finished], None] = lambda finished: None,
    going_on: GoingOn | None = None,
    project: Project | None = None,
    init_data: InitData | None = None,
    largest_file: int | None = None,
    spent: Spent = UNSPENT,
    on_host: OnHost | None = None,
    project_dir: Path | None = None,
) -> Ended:
    """Run `job` to its end, its machine by `hypervisor` if it is named.

    `boot_s` is how long the guest may take to come up, in seconds; None is `patience.BOOT`. `home` is called in a
    thread when the results are at their places for good. With `going_on`, a job that could not end is kept where that
    can be, and goes on the next time. Trickles and uploads go to `project`; without one they are told in the log.
    `init_data` is what the program may know of what a client says about the job. No file of the machine may have more
    than `largest_file` bytes. `spent` is the CPU time before, where nothing better is known. `on_host` is what runs
    the programs of this host. `project_dir` is where the project keeps its files; None is the job directory.

    :raise BridgeError: it could not begin, or could not be cleaned up.
    """
    record = Unrecorded() if going_on is None or is_one_machine(job) else Recorded(job.directory)
    host = on_host or OnHost(job)
    with ExitStack() as stack:
        machines = None
        if job.machine_tasks:
            backend = choose(hypervisor, job.machine_tasks[0].hypervisor)
            wanted = _wanted(job, record) if going_on else lambda machine: False
            plain = job.machine_tasks[0].plain is not None
            place = stack.enter_context(occupy(job.directory, wanted, shared_stays=plain))
            machines = Machines(
                *(backend, place, boot_s, going_on, project, init_data, largest_file),
                project_dir=project_dir or job.directory,
            )
            for task in job.machine_tasks:  # what cannot be run is told before anything is
                machines.check(task)
            place.keep_machine = going_on is not None  # whatever fails now: the next start knows better
        else:
            stack.enter_context(own(job.directory))
        await asyncio.to_thread(host.end_leftovers)
        life = JobLife(job, audience, _means(host, machines), record, spent=spent, home=home)
        with steering(life):
            outcome = await life.run()
        if machines is not None:
            machines.place.keep_machine = going_on is not None and life.kept
            machines.tidy(job.machine_tasks, outcome)
    return Ended(outcome, life.progress, life.results)


def _means(host: OnHost, machines: Machines | None) -> Means:
    def no_machine(*_: object) -> TaskLife:
        raise AssertionError("a job without a machine has no task in one")

    return Means(
        machine_life=no_machine if machines is None else machines.life,
        host_life=host.life,
        beside=host.beside,
        unpack=host.unpack,
        pack=host.pack,
        settle=host.settle,
        place=None if machines is None else machines.place,
        leave_disk=None if machines is None else machines.leave_disk,
    )


def _wanted(job: Job, record: Record) -> Callable[[Path], bool]:
    """Return what says whether a job goes on with what its last owner has left in the machine's folder."""

    def wanted(machine: Path) -> bool:
        done = record.read()
        tasks = 0 if done is None else done.tasks
        to_come = any(map(in_machine, job.tasks[tasks:]))
        plain = any(task.plain for task in job.machine_tasks)  # whatever is there is the guest's, and wanted
        before = any(map(in_machine, job.tasks[:tasks]))
        return to_come and (plain or before or any_recorded(machine) or any_saved(machine))

    return wanted
