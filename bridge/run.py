"""Put the pieces together for one job: its directory, a hypervisor, the guest's agent, and the life of the task."""

from __future__ import annotations

import asyncio
import platform
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from guest_side import NotBuilt, read_agent
from protocol.layout import Share
from protocol.messages import Finished, InitData

from .errors import HypervisorError
from .guest.stage import stage_in
from .hypervisors import Hypervisor, MachineSpec, choose
from .image import Image, load_image
from .job import MachineTask
from .life.accounting import Progress
from .life.checkpoints import any_recorded
from .life.decide import Outcome
from .life.forwarding import Project
from .life.loop import Audience, Limited, TaskLife
from .life.patience import Limits
from .life.program_state import any_saved
from .life.saving import GoingOn
from .workplace import Workplace, occupy

Steering = Callable[[TaskLife], AbstractContextManager[None]]
"""Who may hold, release, end and abort a life, for the time of the block."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended, its last figures, and where its results lie."""

    outcome: Outcome
    progress: Progress
    results: list[Path]


@contextmanager
def by_signals(life: TaskLife) -> Iterator[None]:
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
    job: MachineTask,
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
) -> Ended:
    """Run `job` to its end, by `hypervisor` if it is named.

    `boot_s` is how long the guest may take to come up, in seconds; None is `patience.BOOT`. `home` is called in a
    thread when the results are at their places for good. With `going_on`, a job that could not end is kept where that
    can be, and goes on the next time. Trickles and uploads go to `project`; without one they are told in the log.
    `init_data` is what the program may know of what a client says about the job. No file of the machine may have more
    than `largest_file` bytes.

    :raise BridgeError: it could not begin, or could not be cleaned up.
    """
    backend = choose(hypervisor, job.hypervisor)
    with occupy(job.directory, _can_go_on if going_on else lambda machine: False) as place:
        image = load_image(job.image, job.resolve) if backend.needs_image else None
        agent = None if backend.one_folder else _agent(image.arch if image else platform.machine())
        spec = _machine_spec(job, place, backend, image, largest_file)
        machine = backend(spec)

        def stage(seq: int, saved: Mapping[str, Path]) -> None:
            static_only = image is not None and image.static_programs_only
            stage_in(
                job,
                spec.share,
                agent=agent,
                static_only=static_only,
                seq=seq,
                init_data=init_data,
                saved=saved,
            )

        limited = _limits_of(backend, boot_s)
        life = TaskLife(job, spec.share, place.machine, machine, stage, audience, limited, home, going_on, project)
        with steering(life):
            try:
                outcome = await life.run()
            finally:
                place.keep_machine = life.kept
    return Ended(outcome, life.progress, life.results)


def _can_go_on(machine: Path) -> bool:
    """Say whether the last owner has left something in the machine's folder from which a job can go on."""
    return any_recorded(machine) or any_saved(machine)


def _machine_spec(
    job: MachineTask, place: Workplace, backend: type[Hypervisor], image: Image | None, largest_file: int | None
) -> MachineSpec:
    share = Share.one_folder(place.shared) if backend.one_folder else Share.two_folders(place.shared)
    return MachineSpec(
        name=job.machine,
        directory=place.machine,
        share=share,
        image=image,
        memory_mb=job.memory_mb,
        cpus=job.cpus or 1,
        network=job.network,
        largest_file=largest_file,
    )


def _agent(arch: str) -> bytes:
    try:
        return read_agent(arch)
    except NotBuilt as error:
        raise HypervisorError(str(error)) from error


def _limits_of(backend: type[Hypervisor], boot_s: float | None) -> Limited:
    """A person who plays the guest may take their time."""
    if backend.one_folder:
        return Limited(boot=None, silence=None, hung_s=None)
    return Limited() if boot_s is None else Limited(boot=Limits(cpu_s=boot_s, clock_s=boot_s))
