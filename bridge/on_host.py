"""What is done on this host for a job: the programs that run here, beside its machine or without one, and its archives.

`bridge.host` is imported only where there is a program to be run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import archives
from .errors import HostError
from .job import HostTask, Job
from .life.sequence import Companions, Part
from .settle import settle

if TYPE_CHECKING:
    from .host.life import HostLife
    from .host.program import Program


@dataclass(frozen=True, slots=True)
class OnHost:
    """What the programs of `job` are started with.

    `project_dir` is the project's folder, `nthreads` how many processors they may use, `device` the number of a GPU,
    None without one, `arguments` those of the bridge that are meant for them. With `use_tstp` they are suspended by
    SIGTSTP, which a program can catch. `priority` says what becomes of a task's priority; None leaves a program the
    bridge's own.
    """

    job: Job
    project_dir: str = ""
    nthreads: int = 1
    device: int | None = None
    arguments: tuple[str, ...] = ()
    use_tstp: bool = False
    priority: Callable[[int], int | None] = lambda of_task: of_task

    def life(self, task: HostTask, part: Part) -> HostLife:
        """Return the life of a task.

        :raise JobFileError: a file that it needs is missing.
        """
        from .host.life import HostLife

        return HostLife(self._program(task), part.audience, spent=part.spent, saved=part.saved, use_tstp=self.use_tstp)

    def beside(self, tasks: tuple[HostTask, ...]) -> AbstractAsyncContextManager[Companions]:
        """Return programs that run beside the tasks of the job."""
        from .host.beside import beside

        return beside([self._program(task) for task in tasks])

    def end_leftovers(self) -> None:
        """End what an earlier bridge that was killed has left running; two of a program would spoil each other's files.

        :raise HostError: something cannot be ended.
        """
        if not self.job.host_tasks:
            return
        from .host.leftovers import end_leftovers

        if left := end_leftovers(self.job.directory):
            raise HostError(f"processes that an earlier start of the job has left cannot be ended: {left}")

    def unpack(self, pace: archives.Pace) -> None:
        """Unpack the job's archives."""
        archives.unpack(self.job, pace)

    def pack(self, pace: archives.Pace) -> None:
        """Pack the job's results."""
        archives.pack(self.job, pace)

    def settle(self) -> None:
        """Make durable what the programs have left."""
        settle(self.job)

    def _program(self, task: HostTask) -> Program:
        from .host.program import Surroundings, prepare

        around = Surroundings(
            self.job.directory, self.job.resolve, self.project_dir, self.nthreads, self.device, self.arguments
        )
        return replace(prepare(task, around), priority=self.priority(task.priority))
